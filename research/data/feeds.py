"""The splits of a data set, where they are to live: on the device, in memory, or behind workers."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from research.data.feed import Feed, make_feed
from research.data.source import Source
from research.data.spec import Data, Splits


@dataclasses.dataclass(frozen=True)
class Feeds:
    """The splits of a data set, ready to be fed to programs."""

    train: Feed
    evaluation: dict[str, Feed]

    @property
    def decoded(self) -> Splits:
        """The same examples, in memory where the feeds keep them there."""
        return Splits(self.train.source, **{name: feed.source for name, feed in self.evaluation.items()})


KnownFeeds = dict[tuple, tuple[Source, Feed]]
"""Feeds by their source's identity and how it is stored; the source beside them, so that it stays what it is."""


def make_feeds(splits: Splits, data: Data, known: KnownFeeds | None = None) -> Feeds:
    """Decides where the examples live: on the device, in memory, or behind workers; decodes what is kept.

    Splits that are given the same `known` decode and keep a source that they have in common once.  Shared columns that
    are equal in several splits become one object.
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
    """The arrays, with those of `known` in place of their equals, for programs put an object on the device once."""

    def equal(x: np.ndarray, other: np.ndarray) -> bool:
        return x is other or (x.dtype == other.dtype and np.array_equal(x, other))

    return {name: known[name] if name in known and equal(x, known[name]) else x for name, x in arrays.items()}
