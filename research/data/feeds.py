"""The splits of a data set, where they are to live: on the device, in memory, or behind workers."""

from __future__ import annotations

import dataclasses

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

    Splits that are given the same `known` decode and keep a source that they have in common once.
    """
    known = {} if known is None else known

    def feed(source: Source) -> Feed:
        key = (id(source), data.storage, data.workers)
        if key not in known:
            known[key] = source, make_feed(source, data.storage, data.workers)
        return known[key][1]

    train, *others = (None if source is None else feed(source) for source in splits)
    return Feeds(train, {name: feed for name, feed in zip(Splits._fields[1:], others, strict=True) if feed})
