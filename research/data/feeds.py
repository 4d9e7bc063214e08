"""Prepares the splits of a data set for programs: on the device, in memory, or read by workers."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from research.data.feed import Feed, make_feed
from research.data.source import Source
from research.data.spec import Data, Splits


@dataclasses.dataclass(frozen=True)
class Feeds:
    """The splits of a data set, ready for programs."""

    train: Feed
    evaluation: dict[str, Feed]

    @property
    def decoded(self) -> Splits:
        """The splits, with the examples decoded that the feeds keep in memory."""
        return Splits(self.train.source, **{name: feed.source for name, feed in self.evaluation.items()})


KnownFeeds = dict[tuple, tuple[Source, Feed]]
"""Feeds by the identity of their source and by storage, together with the source, to keep it alive."""


def make_feeds(splits: Splits, data: Data, known: KnownFeeds | None = None) -> Feeds:
    """Chooses where examples are stored (on the device, in memory, or read by workers), and decodes those in memory.

    Calls with the same `known` decode and store a common source only once.  Shared columns that are equal in several
    splits become one object.
    """
    known = {} if known is None else known
    shared: dict[str, np.ndarray] = {}

    def feed(source: Source) -> Feed:
        key = (id(source), data.storage, data.workers)
        if key not in known:
            made = make_feed(source, data.storage, data.workers)
            known[key] = source, dataclasses.replace(made, shared=_known(made.shared, shared))
        shared.update(known[key][1].shared)
        return known[key][1]

    train, *others = (None if source is None else feed(source) for source in splits)
    return Feeds(train, {name: feed for name, feed in zip(Splits._fields[1:], others, strict=True) if feed})


def _known(arrays: Mapping[str, np.ndarray], known: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Replaces arrays by equal ones in `known`, since programs put each object on the device once."""

    def equal(x: np.ndarray, other: np.ndarray) -> bool:
        return x is other or (x.dtype == other.dtype and np.array_equal(x, other))

    return {name: known[name] if name in known and equal(x, known[name]) else x for name, x in arrays.items()}
