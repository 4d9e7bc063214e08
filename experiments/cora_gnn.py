"""Cora: the topic of a paper from its words and citations, with 140 labels (Yang et al., 2016, the public split).

2,708 papers of 7 topics, 5,278 citations, 1,433 words; 500 papers are the validation split and 1,000 the test split.
The graph is on the device once, and all seeds train in one program.  Settings are those of the papers on GCN (Kipf &
Welling, 2017) and GAT (Veličković et al., 2018), without early stopping: the last state is scored.

    ESPALIER_DATA=... python -m launch run experiments.cora_gnn --seeds 20                   GCN
    ESPALIER_DATA=... python -m launch run experiments.cora_gnn --sweep models --seeds 20    GCN, GAT, GATv2, GraphSAGE
    ESPALIER_DATA=... python -m launch run experiments.cora_gnn --sweep depth --seeds 5      2 to 16 layers, with and
                                                                                             without skips
    ESPALIER_DATA=... python -m launch run experiments.cora_gnn --sweep dropout --seeds 20

Expect a test accuracy of 0.815 ± 0.009 of GCN and of 0.823 ± 0.008 of GAT (n = 20 seeds; experiments/RESULTS.md).  The
papers have 0.815 and 0.830 ± 0.007.
"""

import os

from research import Experiment, data, models, optimizers, tasks
from research.sweep import Sweep, ablation


def experiment() -> Experiment:
    return citations("cora", features=1433, classes=7, labels=140)


def citations(name: str, *, features: int, classes: int, labels: int) -> Experiment:
    """GCN on a citation network whose file is in $ESPALIER_DATA/planetoid."""
    folder = os.path.join(os.environ.get("ESPALIER_DATA", "data"), "planetoid")
    return Experiment(
        model=models.GCN(widths=(16,), classes=classes, dropout=0.5, input_width=features),
        task=tasks.NodeClassification(classes=classes),
        data=data.Planetoid(path=f"{folder}/{name}.npz"),
        # The paper decays the first layer alone.
        optimizer=optimizers.Adam(learning_rate=1e-2, weight_decay=5e-4, no_decay=("*/bias", "layer1/*")),
        steps=200,
        eval_every=20,
        batch_size=labels,
        eval_batch_size=1000,
    )


def sweeps() -> dict[str, Sweep]:
    return {"models": architectures(experiment()), "depth": depths(), "dropout": dropouts()}


EVERYWHERE = {"optimizer.no_decay": ("*/bias",)}


def architectures(base: Experiment) -> Sweep:
    shape = {"classes": base.model.classes, "input_width": base.model.input_width}
    attention = {**EVERYWHERE, "optimizer.learning_rate": 5e-3, "steps": 300}
    gat = models.GAT(widths=(8,), heads=8, activation="elu", dropout=0.6, attention_dropout=0.6, **shape)
    return ablation(
        baseline={},
        variants={
            "GAT": {"model": gat, **attention},
            "GATv2": {"model": gat.clone(version=2), **attention},
            "GraphSAGE": {"model": models.GraphSAGE(widths=(16,), dropout=0.5, **shape), **EVERYWHERE},
        },
        name="GCN",
    )


def depths() -> Sweep:
    deeper = {}
    for depth in (4, 8, 16):
        for skips in (False, True):
            changes = {"model.widths": (64,) * (depth - 1), "model.residual": skips}
            deeper[f"{depth} layers{', skips' if skips else ''}"] = changes
    return ablation(baseline={**EVERYWHERE, "model.widths": (64,)}, variants=deeper, name="2 layers")


def dropouts() -> Sweep:
    rates = {f"dropout {rate}": {"model.dropout": rate} for rate in (0.0, 0.25, 0.75)}
    return ablation(baseline={}, variants=rates, name="dropout 0.5")
