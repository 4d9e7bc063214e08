"""Computes something for many examples, a batch at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np


def in_batches(compute: Callable[[np.ndarray], Any], count: int, size: int) -> Any:
    """Joins the results of `compute(rows)` for the rows 0 ... `count` - 1, in NumPy.

    Every batch has as many rows, so that one compiled program serves all: the last batch repeats the last row, and
    those results are dropped.

    Args:
      compute: from int64 [batch] to a tree of arrays [batch, ...].
      count: the number of rows, at least 1.
      size: rows in a batch; fewer if there are not as many.

    >>> in_batches(lambda rows: {"square": rows**2}, count=5, size=2)["square"].tolist()
    [0, 1, 4, 9, 16]
    """
    size = min(size, count)
    parts = []
    for start in range(0, count, size):
        rows = np.minimum(np.arange(start, start + size), count - 1)
        parts.append(jax.device_get(compute(rows)))
    return jax.tree.map(lambda *x: np.concatenate(x)[:count], *parts)
