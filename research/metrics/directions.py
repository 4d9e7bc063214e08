"""The better direction of a metric, lower or higher, as declared by tasks: {name or pattern: "min" or "max"}.

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
    """The declared direction of `metric` ("loss" or "validation/loss"), or None if there is none.

    A key with an evaluation's name ("samples/loss") takes precedence over one without, and an exact name over a
    pattern.  Patterns are those of `fnmatch`, case-sensitive; the first match counts.
    """
    for name in dict.fromkeys((metric, metric.rpartition("/")[2])):
        if name in better:
            return better[name]
        for pattern, way in better.items():
            if pattern.count("/") == name.count("/") and fnmatch.fnmatchcase(name, pattern):
                return way
    return None


def is_better(a: float, b: float, way: Direction) -> bool:
    """True if score `a` is better than `b`."""
    return a < b if way == "min" else a > b
