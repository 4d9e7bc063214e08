"""The order of examples: one function of (seed, epoch), and what each step takes from it.

The stream of indices is the concatenation of the epochs' permutations, and batch k takes its positions [k·B, (k+1)·B).
So a batch may span two epochs (more, where B > n), each epoch shows every example exactly once, and nothing is dropped
at an epoch's end.  A step's indices need nothing but the step: resuming is asking for the next one.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Protocol

import numpy as np


def order(seed: int, epoch: int, n: int) -> np.ndarray:
    """The permutation of n examples in an epoch, int32 [n]."""
    return np.random.default_rng((seed, epoch)).permutation(np.arange(n, dtype=np.int32))


class Plan(Protocol):
    """Which examples a step takes: {"index": int32 [batch]}, and {"weight": float32 [batch]} where rows are padding."""

    def __getitem__(self, step: int) -> dict[str, np.ndarray]: ...


@dataclasses.dataclass(frozen=True)
class Shuffled:
    """The plan of training: step k's indices out of `order`, the permutations of the epochs around k kept at hand."""

    seed: int
    n: int
    batch_size: int
    _orders: dict[int, np.ndarray] = dataclasses.field(default_factory=dict, init=False, repr=False, compare=False)

    def __getitem__(self, step: int) -> dict[str, np.ndarray]:
        start = step * self.batch_size
        epochs = range(start // self.n, (start + self.batch_size - 1) // self.n + 1)
        stream = np.concatenate([self._order(epoch) for epoch in epochs]) if len(epochs) > 1 else self._order(epochs[0])
        for epoch in [e for e in list(self._orders) if not epochs[0] - 1 <= e <= epochs[-1]]:
            self._orders.pop(epoch, None)
        offset = start - epochs[0] * self.n
        return {"index": stream[offset : offset + self.batch_size]}

    def _order(self, epoch: int) -> np.ndarray:
        if (kept := self._orders.get(epoch)) is None:
            kept = self._orders[epoch] = order(self.seed, epoch, self.n)
        return kept


@dataclasses.dataclass(frozen=True)
class Bucketed:
    """The plan of training where only examples of one bucket share a batch (`research/data/buckets.py`).

    Every bucket has a stream of batches of its own, as `Shuffled` says.  After e epochs bucket b has given
    ⌊e · its examples / batch_size⌋ batches: each epoch shows every example once, give or take a batch of each bucket.
    Which bucket is next within an epoch is drawn by the epoch's number alone, so it is the same for all seeds: trials
    that train side by side have batches of one shape.

    Attributes:
      members: the examples of each bucket, int32 [examples of it]; none is empty.
    """

    seed: int
    members: tuple[np.ndarray, ...]
    batch_size: int
    _kept: dict[str, Any] = dataclasses.field(default_factory=dict, init=False, repr=False, compare=False)

    def __getitem__(self, step: int) -> dict[str, np.ndarray]:
        bucket, turn = self._turn(step)
        streams = self._kept.setdefault("streams", {})
        if bucket not in streams:
            streams[bucket] = Shuffled(self.seed, len(self.members[bucket]), self.batch_size)
        return {"index": self.members[bucket][streams[bucket][turn]["index"]]}

    def of(self, bucket: int) -> dict[str, np.ndarray]:
        """A batch of one bucket; the last is the largest shape."""
        return {"index": np.resize(self.members[bucket], self.batch_size)}

    def _before(self, epoch: int) -> np.ndarray:
        """How many batches each bucket has given before an epoch, int [bucket]."""
        return np.array([epoch * len(own) // self.batch_size for own in self.members])

    def _turn(self, step: int) -> tuple[int, int]:
        """The bucket of a step, and how many batches it has given before."""
        start, sequence = self._kept.get("epoch", (0, ()))
        if not start <= step < start + len(sequence):
            epoch = step * self.batch_size // sum(len(own) for own in self.members)  # or one of the next few
            while self._before(epoch + 1).sum() <= step:
                epoch += 1
            before = self._before(epoch)
            turns = np.repeat(np.arange(len(before)), self._before(epoch + 1) - before)
            buckets = turns[order(0, epoch, len(turns))]
            sequence = [(int(b), int(before[b] + (buckets[:i] == b).sum())) for i, b in enumerate(buckets)]
            start = int(before.sum())
            self._kept["epoch"] = start, sequence
        return sequence[step - start]


@dataclasses.dataclass(frozen=True)
class InOrder:
    """The plan of an evaluation: every example once, in order; the last batch filled up with example 0, at weight 0.

    `order` are the numbers of all examples in the order to take them in; None is as they come.
    """

    n: int
    batch_size: int
    order: np.ndarray | None = None

    def __len__(self) -> int:
        return -(-self.n // self.batch_size)

    def __getitem__(self, step: int) -> dict[str, np.ndarray]:
        if not 0 <= step < len(self):
            raise IndexError(step)
        index = np.arange(step * self.batch_size, (step + 1) * self.batch_size)
        real = index < self.n
        index = np.where(real, index, 0)
        index = index if self.order is None else self.order[index]
        return {"index": index.astype(np.int32), "weight": real.astype(np.float32)}
