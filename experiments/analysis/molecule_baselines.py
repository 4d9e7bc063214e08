"""A random forest and gradient boosting on the splits of an experiment on molecules, by its metric.

    ESPALIER_DATA=... python -m experiments.analysis.molecule_baselines esol_gnn --seeds 5

The features are Morgan fingerprints (radius 2, 2,048 bits; Rogers & Hahn, 2010) and RDKit's descriptors.  Each is
scored on the validation and on the test split, with scikit-learn's usual settings and 300 trees; nothing is tuned.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable
from typing import Any

import numpy as np

from research.config.extras import from_extra
from research.data.molecule_features import parse
from research.data.sources.molecules import Molecules
from research.data.sources.table_files import read_table
from research.errors import command, require
from research.metrics.labels import mean_over_labels

TREES = 300


def features(molecules: list[Any]) -> dict[str, np.ndarray]:
    """{kind: float32 [molecule, features]}."""
    generator = from_extra("rdkit.Chem.rdFingerprintGenerator", "molecules", "a fingerprint").GetMorganGenerator(
        radius=2, fpSize=2048
    )
    describe = from_extra("rdkit.Chem.Descriptors", "molecules", "a descriptor").CalcMolDescriptors
    table = np.array([list(describe(molecule).values()) for molecule in molecules], np.float64)
    return {
        "fingerprints": np.array([generator.GetFingerprintAsNumPy(m) for m in molecules], np.float32),
        "descriptors": np.clip(np.nan_to_num(table), -1e6, 1e6).astype(np.float32),
    }


def learners(numbers: bool) -> dict[str, Callable[[int], Any]]:
    """{name: a function from a seed to a learner}."""
    from sklearn import ensemble

    forest = ensemble.RandomForestRegressor if numbers else ensemble.RandomForestClassifier
    boosting = ensemble.HistGradientBoostingRegressor if numbers else ensemble.HistGradientBoostingClassifier
    return {
        "random forest": lambda seed: forest(TREES, random_state=seed, n_jobs=1),
        "gradient boosting": lambda seed: boosting(random_state=seed),
    }


def score(make: Callable[[], Any], x: list[np.ndarray], y: list[np.ndarray], numbers: bool) -> list[float]:
    """The RMSE, or the mean ROC-AUC, of a learner on the splits after the first, on which it is fitted."""
    predicted = [np.zeros(part.shape) for part in y[1:]]
    for column in range(y[0].shape[1]):
        own = y[0][:, column]
        there = np.ones(len(own), bool) if numbers else own >= 0
        learner = make().fit(x[0][there], own[there])
        for part, out in zip(x[1:], predicted, strict=True):
            out[:, column] = learner.predict(part) if numbers else learner.predict_proba(part)[:, 1] - 0.5
    if numbers:
        return [float(np.sqrt(np.mean((p - t) ** 2))) for p, t in zip(predicted, y[1:], strict=True)]
    return [mean_over_labels(p, t.astype(int))["roc_auc"] for p, t in zip(predicted, y[1:], strict=True)]


@command
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("experiment", help="its last word: esol_gnn")
    parser.add_argument("--seeds", type=int, default=5)
    args = parser.parse_args()
    data = importlib.import_module(f"experiments.{args.experiment}").experiment().data
    require(isinstance(data, Molecules), f"{args.experiment}: expected an experiment on molecules")
    numbers = data.target_type == "number"
    splits = data.lists()
    texts = read_table(data.path, delimiter=data.delimiter)[data.smiles].to_pylist()
    x = [features([parse(texts[i]) for i in split.values["row"]]) for split in splits]
    y = [split.values["target" if numbers else "label"] for split in splits]
    print(
        f"{args.experiment}: {'RMSE' if numbers else 'ROC-AUC'} of {len(y[1])} validation, {len(y[2])} test molecules"
    )
    for kind in x[0]:
        for name, make in learners(numbers).items():
            parts = [part[kind] for part in x]
            scores = np.array([score(lambda s=seed, m=make: m(s), parts, y, numbers) for seed in range(args.seeds)])
            mean, spread = scores.mean(0), scores.std(0, ddof=1) if args.seeds > 1 else np.zeros(2)
            found = " | ".join(f"{m:.3f} ± {s:.3f} ({args.seeds})" for m, s in zip(mean, spread, strict=True))
            print(f"| {name}, {kind} | {found} |", flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
