"""ESOL: the solubility of 1,128 molecules in water, log10 of mol per litre (Delaney, 2004), split by scaffold.

The split, the metric and the published figures are MoleculeNet's (Wu et al., 2018): a scaffold is in one split only,
and the test split has the rarest.  The state with the best validation score is tested.

    ESPALIER_DATA=... python -m launch run experiments.esol_gnn --seeds 5                    GIN with bonds
    ESPALIER_DATA=... python -m launch run experiments.esol_gnn --sweep models --seeds 5     GCN, GAT, GIN, MPNN
    ESPALIER_DATA=... python -m launch run experiments.esol_gnn --sweep readout --seeds 5
    ESPALIER_DATA=... python -m launch run experiments.esol_gnn --sweep bonds --seeds 5      without features of bonds
    ESPALIER_DATA=... python -m launch run experiments.esol_gnn --sweep split --seeds 5      a random split
    python -m experiments.analysis.molecule_baselines esol_gnn --seeds 5                     random forest, boosting

MoleculeNet has RMSE 0.885 for GCN.
"""

import os

from research import Checkpoints, EarlyStopping, Experiment, data, models, optimizers, schedules, tasks
from research.sweep import Sweep, ablation


def experiment() -> Experiment:
    solubility = "measured log solubility in mols per litre"
    return regression("delaney-processed.csv", solubility, steps=3000)


def sweeps() -> dict[str, Sweep]:
    return {"models": architectures(1), "readout": readouts(), "bonds": bonds(), "split": splits()}


def regression(file: str, target: str, *, steps: int) -> Experiment:
    """GIN on a number of each molecule."""
    return molecules(
        model=network(1),
        task=tasks.GraphRegression(),
        data=table(file, target=target),
        steps=steps,
        metric="rmse",
    )


def labels(file: str, names: tuple[str, ...], *, steps: int, smiles: str = "smiles", **changes) -> Experiment:
    """GIN on labels, 0 or 1, of each molecule."""
    return molecules(
        model=network(len(names)),
        task=tasks.GraphLabels(labels=len(names), names=names),
        data=table(file, target=names, target_type="class", smiles=smiles, **changes),
        steps=steps,
        metric="roc_auc",
    )


def table(file: str, **fields) -> data.Molecules:
    folder = os.path.join(os.environ.get("ESPALIER_DATA", "data"), "molecules")
    return data.Molecules(path=f"{folder}/{file}", **fields)


def network(outputs: int) -> models.GIN:
    return models.GIN(
        widths=(64,) * 4,
        classes=outputs,
        output="graphs",
        readout="mean",
        norm="batch",
        residual=True,
        jumping="concat",
        dropout=0.2,
        input_dropout=0.0,
        edge_features=True,
    )


def molecules(*, metric: str, **fields) -> Experiment:
    return Experiment(
        optimizer=optimizers.AdamW(learning_rate=1e-3, schedule=schedules.Cosine(warmup_steps=100), weight_decay=0.05),
        batch_size=8,  # rows of 128 atoms
        clip_norm=1.0,
        ema_decay=0.99,
        eval_every=100,
        checkpoints=Checkpoints(best=f"validation/{metric}"),
        early_stopping=EarlyStopping(f"validation/{metric}", patience=10),
        **fields,
    )


def architectures(outputs: int) -> Sweep:
    shared = {"widths": (64,) * 4, "classes": outputs, "output": "graphs", "norm": "batch", "residual": True}
    shared |= {"jumping": "concat", "dropout": 0.2, "input_dropout": 0.0}
    gat = models.GAT(**{**shared, "widths": (16,) * 4}, heads=4, version=2, edge_features=True)
    return ablation(
        baseline={},
        variants={
            "GCN": {"model": models.GCN(**shared)},
            "GraphSAGE": {"model": models.GraphSAGE(**shared)},
            "GATv2": {"model": gat},
            "MPNN": {"model": models.MPNN(width=32, classes=outputs, edge_width=32, dropout=0.2)},
        },
        name="GIN",
    )


def readouts() -> Sweep:
    others = {kind: {"model.readout": kind} for kind in ("sum", "max", "attention", "set2set")}
    return ablation(baseline={}, variants=others, name="mean")


def bonds() -> Sweep:
    return ablation(baseline={}, variants={"no bonds": {"model.edge_features": False}}, name="bonds")


def splits() -> Sweep:
    return ablation(baseline={"data.split": "scaffold"}, variants={"random": {"data.split": "random"}}, name="scaffold")
