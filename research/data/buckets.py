"""Examples of many lengths in batches of a few shapes, so that little of a batch is padding and little is compiled.

A bucket is a shape: a length for every padded column.  The buckets of a data set form a chain, each at least as long as
the one before in every column; an example belongs to the first that takes it, and so a batch of any examples fits the
bucket of the last.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from research.data.source import Columns
from research.errors import require

Shapes = dict[str, np.ndarray]
"""{padded column: its length in every bucket, int32 [bucket]}, not decreasing."""


class Padded(Columns):
    """Columns in memory, of which some are padded at the end of an example's first axis.

    Attributes:
      lengths: {padded column: how much of an example is none, int32 [example]}.
      shapes: the buckets; one that takes every example is the last.
      first: bool [example], the examples that an evaluation reads before the others; None is all alike.
      note: what happened to the examples on the way here, for the record.
      longest: {padded column: where the longest of all splits is from}, for who cannot take it.
    """

    def __init__(
        self,
        columns: Mapping[str, np.ndarray],
        lengths: Mapping[str, np.ndarray],
        shapes: Shapes,
        *,
        first: np.ndarray | None = None,
        note: str = "",
        longest: Mapping[str, str] | None = None,
    ):
        super().__init__(columns)
        self.lengths = {name: np.asarray(x, np.int32) for name, x in lengths.items()}
        self.shapes, self.first, self.note, self.longest = shapes, first, note, longest or {}

    def take(self, indices: np.ndarray) -> Padded:
        return type(self)(
            super().take(indices).arrays(),
            {name: x[indices] for name, x in self.lengths.items()},
            self.shapes,
            first=None if self.first is None else self.first[indices],
            note=self.note,
            longest=self.longest,
        )


def longest_of(
    lengths: Mapping[str, Mapping[str, np.ndarray]], examples: Mapping[str, Any]
) -> tuple[dict[str, int], dict[str, str]]:
    """The longest of all splits, and where it is from: ({padded column: length}, {padded column: place}).

    Args:
      lengths: {split: {padded column: int [example]}}.
      examples: {split: examples that say by `where(i)` where one is from}.
    """
    longest, places = {}, {}
    for name in next(iter(lengths.values())):
        longest[name], split = max((int(own[name].max()), split) for split, own in lengths.items())
        places[name] = examples[split].where(int(lengths[split][name].argmax()))
    return longest, places


def assign(lengths: Mapping[str, np.ndarray], shapes: Shapes) -> np.ndarray:
    """The bucket of every example, int32 [example].

    Raises:
      RequestError: an example that no bucket takes.
    """
    bucket = np.max([np.searchsorted(shapes[name], x) for name, x in lengths.items()], axis=0)
    count = len(next(iter(shapes.values())))
    require(bucket.size == 0 or bucket.max() < count, "buckets: an example is longer than the last of them")
    return bucket.astype(np.int32)


def padding(lengths: Mapping[str, np.ndarray], shapes: Shapes) -> float:
    """The share of all places, over the padded columns, that hold padding when every example is once in its bucket."""
    bucket = assign(lengths, shapes)
    places = sum(int(shapes[name][bucket].sum()) for name in lengths)
    return 1 - sum(int(x.sum()) for x in lengths.values()) / places


def fit_shapes(
    lengths: Mapping[str, np.ndarray], buckets: int, longest: Mapping[str, int], granularity: int = 1024
) -> Shapes:
    """A chain of at most `buckets` shapes with little padding for examples of these lengths.

    From the quantiles of the lengths on, one length of one bucket at a time is moved as long as that saves padding.

    Args:
      lengths: {padded column: int [example]}, of the training split.
      buckets: how many there may be.
      longest: the last bucket, {padded column: length}; at least the longest example.
      granularity: a length is one of so many equally spaced ones, or any where a column is shorter.
    """
    names = list(lengths)
    top = np.array([longest[name] for name in names])
    unit = -(-top // granularity)
    units = np.stack([-(-np.asarray(lengths[name]) // u) for name, u in zip(names, unit, strict=True)], 1)
    most = -(-top // unit)
    distinct, counts = np.unique(units, axis=0, return_counts=True)

    def places(chain: np.ndarray) -> int:
        bucket = np.max([np.searchsorted(chain[:, c], distinct[:, c]) for c in range(len(names))], axis=0)
        return int((chain[bucket] @ unit * counts).sum())

    # Between the middle of the quantiles and equal steps: short examples are many, long ones need much.
    quantiles = np.quantile(units, np.linspace(0, 1, buckets + 1)[1:], axis=0)
    chain = np.maximum(1, (0.5 * quantiles + 0.5 * np.linspace(0, most, buckets + 1)[1:]).astype(int))
    chain[-1] = most
    fewest, moved = places(chain), True
    while moved:
        moved = False
        for bucket in range(buckets - 1):
            for change in _CHANGES:
                for columns in (*np.eye(len(names), dtype=int), np.ones(len(names), int)):
                    other = chain.copy()
                    other[bucket] += change * columns
                    below = chain[bucket - 1] if bucket else 1
                    if (other[bucket] < below).any() or (other[bucket] > chain[bucket + 1]).any():
                        continue
                    if (needed := places(other)) < fewest:
                        chain, fewest, moved = other, needed, True
    chain = np.unique(np.minimum(chain * unit, top), axis=0)
    return {name: chain[:, c].astype(np.int32) for c, name in enumerate(names)}


_CHANGES = tuple(sign * 2**i for sign in (-1, 1) for i in range(7))
