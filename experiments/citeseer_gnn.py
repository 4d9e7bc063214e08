"""Citeseer: the topic of a paper from its words and citations, with 120 labels (the public split).

3,327 papers of 6 topics, 4,552 citations, 3,703 words; the rest is as in experiments/cora_gnn.py.

    ESPALIER_DATA=... python -m launch run experiments.citeseer_gnn --seeds 20                   GCN
    ESPALIER_DATA=... python -m launch run experiments.citeseer_gnn --sweep models --seeds 20    GCN, GAT, GraphSAGE
    ESPALIER_DATA=... python -m launch run experiments.citeseer_gnn --sweep depth --seeds 5
    ESPALIER_DATA=... python -m launch run experiments.citeseer_gnn --sweep dropout --seeds 20

Expect a test accuracy of 0.711 ± 0.007 of GCN (n = 20 seeds).  The papers have 0.703 for GCN and 0.725 ± 0.007 for GAT.
"""

from experiments.cora_gnn import architectures, citations, depths, dropouts
from research import Experiment
from research.sweep import Sweep


def experiment() -> Experiment:
    return citations("citeseer", features=3703, classes=6, labels=120)


def sweeps() -> dict[str, Sweep]:
    return {"models": architectures(experiment()), "depth": depths(), "dropout": dropouts()}
