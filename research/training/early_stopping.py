"""Early stopping: ends training when a validation metric no longer improves (Prechelt, 1998)."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from research.errors import require
from research.metrics.directions import Direction, is_better


@dataclasses.dataclass(frozen=True)
class EarlyStopping:
    """Ends training after `patience` evaluations in a row without an improvement.

    The task declares which direction is better.  `checkpoints.best` with the same metric also scores the best state
    instead of the last.

    Attributes:
      metric: a metric of an evaluation that runs during training, such as "validation/loss".
      patience: evaluations without an improvement after which training ends.
      min_delta: the smallest change that counts as an improvement, exclusive, in the units of the metric.
    """

    metric: str
    patience: int = 5
    min_delta: float = 0.0

    def check(self) -> None:
        """Raises RequestError for values out of range."""
        require(self.patience >= 1, f"patience={self.patience}: expected at least 1")
        require(0 <= self.min_delta < math.inf, f"min_delta={self.min_delta}: expected a finite number of at least 0")


def exhausted(scores: Sequence[float | None], policy: EarlyStopping, direction: Direction) -> bool:
    """True if the latest `patience` scores are no improvement; a score that is None or not finite never is one.

    >>> losses = [3.0, 2.0, 2.1, None, 2.05]
    >>> exhausted(losses, EarlyStopping("validation/loss", patience=3), "min")
    True
    >>> exhausted(losses, EarlyStopping("validation/loss", patience=4), "min")
    False
    """
    margin = -policy.min_delta if direction == "min" else policy.min_delta
    best, without = None, 0
    for score in scores:
        usable = score is not None and math.isfinite(score)
        if usable and (best is None or is_better(score, best + margin, direction)):
            best, without = score, 0
        else:
            without += 1
    return without >= policy.patience
