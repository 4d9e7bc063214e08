"""Tox21: twelve kinds of toxicity of 8,006 molecules, of which many labels are missing; a random split.

RDKit cannot read 8 of the 8,014 rows of the table, which are left out.

As in experiments/esol_gnn.py, with the same sweeps; `--sweep split` compares with a split by scaffold:

    ESPALIER_DATA=... python -m launch run experiments.tox21_gnn --seeds 5                    GIN with bonds
    ESPALIER_DATA=... python -m launch run experiments.tox21_gnn --sweep models --seeds 5     and readout, bonds, split
    python -m experiments.analysis.molecule_baselines tox21_gnn --seeds 5                     random forest, boosting

MoleculeNet has a mean ROC-AUC of 0.829 for GCN.
"""

from experiments.esol_gnn import architectures, bonds, labels, readouts, splits
from research import Experiment
from research.sweep import Sweep

RECEPTORS = ("NR-AR", "NR-AR-LBD", "NR-AhR", "NR-Aromatase", "NR-ER", "NR-ER-LBD", "NR-PPAR-gamma")
STRESS = ("SR-ARE", "SR-ATAD5", "SR-HSE", "SR-MMP", "SR-p53")


def experiment() -> Experiment:
    return labels("tox21.csv.gz", RECEPTORS + STRESS, steps=6000, split="random", skip_invalid=True)


def sweeps() -> dict[str, Sweep]:
    outputs = len(RECEPTORS + STRESS)
    return {"models": architectures(outputs), "readout": readouts(), "bonds": bonds(), "split": splits()}
