"""Which way a metric is better, as tasks declare it: {name or pattern: "min" or "max"}.

>>> better = {"loss": "min", "top_*_accuracy": "max", "samples/loss": "max"}
>>> [direction(better, metric) for metric in ("test/loss", "top_5_accuracy", "samples/loss", "test/tokens")]
['min', 'max', 'max', None]
"""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from typing import Literal

Direction = Literal["min", "max"]


def direction(better: Mapping[str, Direction], metric: str) -> Direction | None:
    """The declared direction of `metric` ("loss" or "validation/loss"); None where nothing is declared.

    A key with an evaluation's name ("samples/loss") goes before one without; a name before a pattern.  Patterns are
    those of `fnmatch`, case-sensitive; the first that matches holds.
    """
    for name in dict.fromkeys((metric, metric.rpartition("/")[2])):
        if name in better:
            return better[name]
        for pattern, way in better.items():
            if pattern.count("/") == name.count("/") and fnmatch.fnmatchcase(name, pattern):
                return way
    return None


def is_better(a: float, b: float, way: Direction) -> bool:
    """Whether the score `a` is better than `b`."""
    return a < b if way == "min" else a > b
