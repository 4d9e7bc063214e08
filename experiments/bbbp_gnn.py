"""BBBP: which of 2,039 molecules pass the blood-brain barrier (Martins et al., 2012), split by scaffold.

As in experiments/esol_gnn.py, with the same sweeps:

    ESPALIER_DATA=... python -m launch run experiments.bbbp_gnn --seeds 5                    GIN with bonds
    ESPALIER_DATA=... python -m launch run experiments.bbbp_gnn --sweep models --seeds 5     and readout, bonds, split
    python -m experiments.analysis.molecule_baselines bbbp_gnn --seeds 5                     random forest, boosting

MoleculeNet has ROC-AUC 0.676 for GCN.
"""

from experiments.esol_gnn import architectures, bonds, labels, readouts, splits
from research import Experiment
from research.sweep import Sweep


def experiment() -> Experiment:
    return labels("bbbp.csv", ("p_np",), steps=3000, skip_invalid=True)


def sweeps() -> dict[str, Sweep]:
    return {"models": architectures(1), "readout": readouts(), "bonds": bonds(), "split": splits()}
