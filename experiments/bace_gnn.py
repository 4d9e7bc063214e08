"""BACE: which of 1,513 molecules inhibit β-secretase 1 (Subramanian et al., 2016), split by scaffold.

As in experiments/esol_gnn.py, with the same sweeps:

    ESPALIER_DATA=... python -m launch run experiments.bace_gnn --seeds 5                    GIN with bonds
    ESPALIER_DATA=... python -m launch run experiments.bace_gnn --sweep models --seeds 5     and readout, bonds, split
    python -m experiments.analysis.molecule_baselines bace_gnn --seeds 5                     random forest, boosting

MoleculeNet has ROC-AUC 0.818 for GCN.
"""

from experiments.esol_gnn import architectures, bonds, labels, readouts, splits
from research import Experiment
from research.sweep import Sweep


def experiment() -> Experiment:
    return labels("bace.csv", ("Class",), steps=3000)


def sweeps() -> dict[str, Sweep]:
    return {"models": architectures(1), "readout": readouts(), "bonds": bonds(), "split": splits()}
