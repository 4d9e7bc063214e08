"""Calibration: the agreement of confidence and accuracy (Guo et al., 2017)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Bins(NamedTuple):
    """Examples by confidence, in bins of equal width.

    Attributes:
      confidence, accuracy: [bin], the means over the examples of each bin; NaN in an empty one.
      count: int [bin].
    """

    confidence: np.ndarray
    accuracy: np.ndarray
    count: np.ndarray


def reliability(confidence: np.ndarray, correct: np.ndarray, bins: int) -> Bins:
    """Confidence and accuracy over `bins` equal bins of confidence, from those of each example, [example].

    >>> reliability(np.array([0.2, 0.9, 0.7]), np.array([False, True, True]), bins=2).accuracy.tolist()
    [0.0, 1.0]
    """
    which = np.minimum((confidence * bins).astype(int), bins - 1)
    means, count = np.full((2, bins), np.nan), np.zeros(bins, int)
    for b in range(bins):
        inside = which == b
        count[b] = inside.sum()
        if count[b]:
            means[:, b] = confidence[inside].mean(dtype=np.float64), correct[inside].mean()
    return Bins(*means, count)


def expected_calibration_error(confidence: np.ndarray, correct: np.ndarray, bins: int) -> float:
    """Mean distance between confidence and accuracy over equal-width bins of confidence (Guo et al., 2017, eq. 3)."""
    found = reliability(confidence, correct, bins)
    filled = np.flatnonzero(found.count)
    return float(sum(found.count[b] / len(correct) * abs(found.confidence[b] - found.accuracy[b]) for b in filled))
