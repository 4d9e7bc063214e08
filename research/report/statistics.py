"""The numbers of the table: mean and spread over seeds, paired differences."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Hashable, Iterable, Mapping, Sequence

import numpy as np

from research.report.runs import Trial

CONFIDENCE = 0.95
RESOLUTION = 1e-7  # of a float32, relative: two scores nearer than that are the same


@dataclasses.dataclass(frozen=True)
class Summary:
    """Values of one metric over the trials of one variant.

    Attributes:
      mean: None if there is no value.
      std: sample standard deviation (n − 1 in the denominator); None below two values: one seed says nothing of spread.
      n: how many values.
    """

    mean: float | None
    std: float | None
    n: int


@dataclasses.dataclass(frozen=True)
class Difference:
    """Mean of paired differences (variant − baseline) and its t interval.

    Attributes:
      low, high: None where there is no interval: below two pairs, or if all pairs differ by the same, as happens with
        few pairs and a score of few levels (accuracy on 100 examples); no spread is not certainty.
      n: how many pairs.
    """

    mean: float | None
    low: float | None
    high: float | None
    n: int

    @property
    def excludes_zero(self) -> bool:
        return self.low is not None and (self.low > 0 or self.high < 0)


def summarize(values: Iterable[float]) -> Summary:
    """Mean, sample standard deviation and n of finite `values`."""
    x = np.asarray(list(values), np.float64)
    if x.size == 0:
        return Summary(None, None, 0)
    return Summary(float(x.mean()), float(x.std(ddof=1)) if x.size > 1 else None, int(x.size))


def paired_difference(
    variant: Mapping[Hashable, float], baseline: Mapping[Hashable, float], confidence: float = CONFIDENCE
) -> Difference:
    """The difference over the keys (seed, and split if there are several) that both have.

    The interval is Student's for the mean of the differences d: mean(d) ± t(n − 1) · std(d) / √n.  It answers for one
    comparison; it is not corrected for looking at many.
    """
    from scipy.special import stdtrit

    d = np.asarray([variant[key] - baseline[key] for key in variant if key in baseline], np.float64)
    if d.size == 0:
        return Difference(None, None, None, 0)
    mean = float(d.mean())
    if d.size == 1:
        return Difference(mean, None, None, 1)
    size = max(max(abs(variant[key]), abs(baseline[key])) for key in variant if key in baseline)
    if np.ptp(d) <= RESOLUTION * size:
        return Difference(mean, None, None, int(d.size))
    half = float(stdtrit(d.size - 1, (1 + confidence) / 2) * d.std(ddof=1) / math.sqrt(d.size))
    return Difference(mean, mean - half, mean + half, int(d.size))


def pairing_key(trial: Trial, crossed: Sequence[str]) -> Hashable:
    """The key that a trial shares with its counterpart in another variant.

    >>> pairing_key(Trial("a-s1", "a", 1, {"seed": 1, "model.depth": 3}), ("seed",))
    ('1',)
    """
    return tuple(repr(trial.seed if path == "seed" else trial.overrides.get(path)) for path in crossed)


def by_pair(trials: Iterable[Trial], metric: str, crossed: Sequence[str]) -> dict[Hashable, float]:
    """The metric of the trials that count, by pairing key."""
    return {pairing_key(trial, crossed): trial.metrics[metric] for trial in counted(trials) if metric in trial.metrics}


def counted(trials: Iterable[Trial]) -> tuple[Trial, ...]:
    """The trials that a mean is over: those that finished.

    A diverged, failed, pruned, missing or unreadable one has no final score to average; the table counts it beside.
    """
    return tuple(trial for trial in trials if trial.status == "finished")
