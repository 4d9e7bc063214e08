"""How much each hyperparameter of a search matters to its score."""

from __future__ import annotations

from typing import Any

import numpy as np

from research.report.runs import RunResult
from research.report.statistics import that_count

LEAST = 8
"""The minimum number of scored trials."""


def importance(run: RunResult, metric: str) -> dict[str, float]:
    """The share of each hyperparameter in how well the score is predicted, largest first; {} with few trials.

    A random forest learns the score from the hyperparameters of the trials.  A hyperparameter's importance is the loss
    of R² when its values are permuted between trials (Breiman, 2001), here on the trials that the forest has seen, as a
    share of the sum.  It says nothing about values that were not tried.

    Args:
      run: a run without a baseline.
      metric: the score, such as the validation metric that chooses.
    """
    trials = [trial for trial in that_count(run.trials) if metric in trial.metrics]
    paths = [path for path in run.varied if path != "seed"]
    scores = np.array([trial.metrics[metric] for trial in trials])
    if len(trials) < LEAST or len(paths) < 2 or np.ptp(scores) == 0:
        return {}
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.inspection import permutation_importance

    columns = [
        _numbers([trial.overrides.get(path, run.value(trial.variant, path)) for trial in trials]) for path in paths
    ]
    features = np.stack(columns, 1)
    forest = RandomForestRegressor(200, random_state=0).fit(features, scores)
    lost = permutation_importance(forest, features, scores, n_repeats=20, random_state=0).importances_mean.clip(0)
    if lost.sum() <= 0:
        return {}
    shares = zip(paths, (lost / lost.sum()).tolist(), strict=True)
    return dict(sorted(shares, key=lambda share: -share[1]))


def _numbers(values: list[Any]) -> np.ndarray:
    """Values as numbers: logarithms if they span more than a decade, and places in order of appearance for words."""
    if all(isinstance(x, int | float) and not isinstance(x, bool) for x in values):
        x = np.array(values, np.float64)
        return np.log(x) if x.min() > 0 and x.max() > 10 * x.min() else x
    places = {text: i for i, text in enumerate(dict.fromkeys(map(repr, values)))}
    return np.array([places[repr(x)] for x in values], np.float64)
