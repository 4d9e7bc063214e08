"""Statistics of the table: mean and spread over seeds, and paired differences."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Hashable, Iterable, Mapping, Sequence

import numpy as np

from research.report.runs import TrialResult

CONFIDENCE = 0.95
RESOLUTION = 1e-7  # relative, of a float32; closer scores count as equal


@dataclasses.dataclass(frozen=True)
class Summary:
    """Summary of a metric over the trials of a variant.

    Attributes:
      mean: None without values.
      std: the sample standard deviation (n − 1 in the denominator); None with fewer than two values.
      n: the number of values.
    """

    mean: float | None
    std: float | None
    n: int


@dataclasses.dataclass(frozen=True)
class Difference:
    """Mean of paired differences (variant − baseline) with its t interval.

    Attributes:
      low, high: the ends of the interval.  None with fewer than two pairs, or if all differences are equal, as happens
        with few pairs and coarse scores (accuracy on 100 examples); zero spread is not certainty.
      n: the number of pairs.
      p: of the two-sided t-test that goes with the interval; None without one.
      corrected: `p` after a correction for the number of comparisons; None if nothing was corrected.
    """

    mean: float | None
    low: float | None
    high: float | None
    n: int
    p: float | None = None
    corrected: float | None = None

    @property
    def excludes_zero(self) -> bool:
        return self.low is not None and (self.low > 0 or self.high < 0)

    @property
    def clear(self) -> bool:
        """True if the difference is significant: after the correction if there was one, else by the interval."""
        return self.excludes_zero if self.corrected is None else self.corrected < 1 - CONFIDENCE


def summarize(values: Iterable[float]) -> Summary:
    """Computes mean, sample standard deviation and n of finite `values`.

    >>> summarize([1.0, 2.0, 3.0])
    Summary(mean=2.0, std=1.0, n=3)
    """
    x = np.asarray(list(values), np.float64)
    if x.size == 0:
        return Summary(None, None, 0)
    return Summary(float(x.mean()), float(x.std(ddof=1)) if x.size > 1 else None, int(x.size))


def paired_difference(
    variant: Mapping[Hashable, float], baseline: Mapping[Hashable, float], confidence: float = CONFIDENCE
) -> Difference:
    """Computes the difference over the shared keys (seed, and split if there are several).

    The interval is Student's for the mean of the differences d: mean(d) ± t(n − 1) · std(d) / √n.  It is never
    corrected for multiple comparisons.
    """
    from scipy.special import stdtr, stdtrit

    d = np.asarray([variant[key] - baseline[key] for key in variant if key in baseline], np.float64)
    if d.size == 0:
        return Difference(None, None, None, 0)
    mean = float(d.mean())
    if d.size == 1:
        return Difference(mean, None, None, 1)
    size = max(max(abs(variant[key]), abs(baseline[key])) for key in variant if key in baseline)
    if np.ptp(d) <= RESOLUTION * size:
        return Difference(mean, None, None, int(d.size))
    error = float(d.std(ddof=1) / math.sqrt(d.size))
    half = float(stdtrit(d.size - 1, (1 + confidence) / 2)) * error
    p = 2 * float(stdtr(d.size - 1, -abs(mean) / error))
    return Difference(mean, mean - half, mean + half, int(d.size), p)


def holm(p: Sequence[float]) -> list[float]:
    """Corrects the p values of a family of tests so that any false claim has at most their level (Holm, 1979).

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    corrected, least = [1.0] * len(p), 0.0
    for place, i in enumerate(sorted(range(len(p)), key=p.__getitem__)):
        least = max(least, min(1.0, (len(p) - place) * p[i]))
        corrected[i] = least
    return corrected


def pairing_key(trial: TrialResult, crossed: Sequence[str]) -> Hashable:
    """The key that a trial shares with its counterpart in another variant.

    >>> pairing_key(TrialResult("a-s1", "a", 1, {"seed": 1, "model.depth": 3}), ("seed",))
    ('1',)
    """
    return tuple(repr(trial.seed if path == "seed" else trial.overrides.get(path)) for path in crossed)


def by_pair(trials: Iterable[TrialResult], metric: str, crossed: Sequence[str]) -> dict[Hashable, float]:
    """The metric of the counted trials, by pairing key."""
    return {
        pairing_key(trial, crossed): trial.metrics[metric] for trial in that_count(trials) if metric in trial.metrics
    }


def that_count(trials: Iterable[TrialResult]) -> tuple[TrialResult, ...]:
    """The trials to average, which are the finished ones.

    A diverged, failed, pruned, missing or unreadable trial has no final score; the table counts it separately.
    """
    return tuple(trial for trial in trials if trial.status == "finished")
