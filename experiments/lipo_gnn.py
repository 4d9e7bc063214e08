"""Lipophilicity: the distribution coefficient of 4,200 molecules between octanol and water at pH 7.4, log10.

As in experiments/esol_gnn.py, with the same sweeps:

    ESPALIER_DATA=... python -m launch run experiments.lipo_gnn --seeds 5                    GIN with bonds
    ESPALIER_DATA=... python -m launch run experiments.lipo_gnn --sweep models --seeds 5     and readout, bonds, split
    python -m experiments.analysis.molecule_baselines lipo_gnn --seeds 5                     random forest, boosting

MoleculeNet has RMSE 0.781 for GCN (ChEMBL, by AstraZeneca).
"""

from experiments.esol_gnn import architectures, bonds, readouts, regression, splits
from research import Experiment
from research.sweep import Sweep


def experiment() -> Experiment:
    return regression("Lipophilicity.csv", "exp", steps=6000)


def sweeps() -> dict[str, Sweep]:
    return {"models": architectures(1), "readout": readouts(), "bonds": bonds(), "split": splits()}
