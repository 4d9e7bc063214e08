"""Groups examples of similar length into batches of a few shapes, to limit both padding and compilation.

A bucket is a shape: one length for every padded column.  The buckets of a data set form a chain in which each is at
least as long as the previous one in every column.  An example belongs to the first bucket that fits it, so the last
bucket fits any batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from research.data.source import Columns
from research.errors import require

Shapes = dict[str, np.ndarray]
"""{padded column: its length in each bucket, int32 [bucket]}, non-decreasing."""


class Padded(Columns):
    """In-memory columns, some of which are padded at the end of each example's first axis.

    Attributes:
      lengths: {padded column: the unpadded length of each example, int32 [example]}.
      shapes: the buckets; the last one fits every example.
      first: bool [example], the examples that evaluation reads before the others; None for no preference.
      note: how the examples were selected or cut, for the run's record.
      longest: {padded column: where the longest example of all splits comes from}, for error messages.
      shared: as for `Columns`.
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
        shared: Mapping[str, np.ndarray] | None = None,
    ):
        super().__init__(columns, shared)
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
            shared=self.shared(),
        )


def longest_of(
    lengths: Mapping[str, Mapping[str, np.ndarray]], examples: Mapping[str, Any]
) -> tuple[dict[str, int], dict[str, str]]:
    """Returns the longest lengths over all splits, and their origins: ({padded column: length}, {padded column:
    place}).

    Args:
      lengths: {split: {padded column: int [example]}}.
      examples: {split: examples whose `where(i)` says where example i comes from}.
    """
    longest, places = {}, {}
    for name in next(iter(lengths.values())):
        longest[name], split = max((int(own[name].max()), split) for split, own in lengths.items())
        places[name] = examples[split].where(int(lengths[split][name].argmax()))
    return longest, places


def assign(lengths: Mapping[str, np.ndarray], shapes: Shapes) -> np.ndarray:
    """The bucket of each example, int32 [example].

    Raises:
      RequestError: an example is longer than every bucket.
    """
    bucket = np.max([np.searchsorted(shapes[name], x) for name, x in lengths.items()], axis=0)
    count = len(next(iter(shapes.values())))
    require(bucket.size == 0 or bucket.max() < count, "buckets: an example is longer than the last of them")
    return bucket.astype(np.int32)


def padding(lengths: Mapping[str, np.ndarray], shapes: Shapes) -> float:
    """The fraction of padding over all padded columns when every example appears once, in its own bucket."""
    bucket = assign(lengths, shapes)
    places = sum(int(shapes[name][bucket].sum()) for name in lengths)
    return 1 - sum(int(x.sum()) for x in lengths.values()) / places


def fit_shapes(
    lengths: Mapping[str, np.ndarray], buckets: int, longest: Mapping[str, int], granularity: int = 1024
) -> Shapes:
    """Chooses at most `buckets` shapes that need little padding for examples of these lengths.

    Starts from the quantiles of the lengths, then moves one length of one bucket at a time while that reduces padding.

    Args:
      lengths: {padded column: int [example]}, of the training split.
      buckets: the maximum number of buckets.
      longest: {padded column: length} of the last bucket; at least as long as the longest example.
      granularity: bucket lengths are multiples of 1/granularity of the longest; columns shorter than this use any
        length.
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

    # Start halfway between quantiles and equal steps: short examples are frequent, long ones cost the most padding.
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
