"""The order of training examples, computed from (seed, epoch), and the examples of each step.

The permutations of all epochs form one stream of indices, and batch k takes its positions [k·B, (k+1)·B).  A batch may
therefore span two epochs (or more, if B > n), each epoch shows every example exactly once, and no example is dropped at
the end of an epoch.  The indices of a step depend only on the step number, so a run resumes by asking for its next
step.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Protocol

import numpy as np


def order(seed: int, epoch: int, n: int) -> np.ndarray:
    """The permutation of n examples in an epoch, int32 [n]."""
    return np.random.default_rng((seed, epoch)).permutation(np.arange(n, dtype=np.int32))


class Plan(Protocol):
    """The examples of each step: {"index": int32 [batch]}, and {"weight": float32 [batch]} if some rows are padding."""

    def __getitem__(self, step: int) -> dict[str, np.ndarray]: ...


@dataclasses.dataclass(frozen=True)
class Shuffled:
    """The training plan: the indices of step k out of `order`.  Caches the permutations of the epochs around k.

    >>> plan = Shuffled(seed=0, n=6, batch_size=4)
    >>> sorted(np.concatenate([plan[0]["index"], plan[1]["index"][:2]]).tolist())  # the first epoch
    [0, 1, 2, 3, 4, 5]
    """

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
    """The training plan for bucketed data, in which each batch holds examples of one bucket
    (`research/data/buckets.py`).

    Each bucket has its own stream of batches, ordered by `Shuffled`.  After e epochs, bucket b has produced ⌊e · its
    examples / batch_size⌋ batches, so each epoch shows every example once, give or take one batch per bucket.  The
    order of buckets within an epoch depends only on the epoch number.  It is the same for all seeds, so trials that
    train side by side have batches of the same shape.

    Attributes:
      members: the examples of each bucket, int32 [examples in it]; no bucket is empty.
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
        """A batch from one bucket; the last bucket has the largest shape."""
        return {"index": np.resize(self.members[bucket], self.batch_size)}

    def _before(self, epoch: int) -> np.ndarray:
        """The number of batches that each bucket has produced before an epoch, int [bucket]."""
        return np.array([epoch * len(own) // self.batch_size for own in self.members])

    def _turn(self, step: int) -> tuple[int, int]:
        """The bucket of a step, and the number of batches that bucket has produced before it."""
        start, sequence = self._kept.get("epoch", (0, ()))
        if not start <= step < start + len(sequence):
            epoch = step * self.batch_size // sum(len(own) for own in self.members)  # possibly a few epochs too early
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
    """The evaluation plan: every example once, in order.  The last batch is filled up with example 0 at weight 0.

    `order` lists all examples in the order to visit them; None keeps the order of the data set.
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
