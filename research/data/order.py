"""The order of examples: one function of (seed, epoch), and what each step takes from it.

The stream of indices is the concatenation of the epochs' permutations, and batch k takes its positions [k·B, (k+1)·B).
So a batch may span two epochs (more, where B > n), each epoch shows every example exactly once, and nothing is dropped
at an epoch's end.  A step's indices need nothing but the step: resuming is asking for the next one.
"""

from __future__ import annotations

import dataclasses
from typing import Protocol

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
class InOrder:
    """The plan of an evaluation: every example once, in order; the last batch filled up with example 0, at weight 0."""

    n: int
    batch_size: int

    def __len__(self) -> int:
        return -(-self.n // self.batch_size)

    def __getitem__(self, step: int) -> dict[str, np.ndarray]:
        if not 0 <= step < len(self):
            raise IndexError(step)
        index = np.arange(step * self.batch_size, (step + 1) * self.batch_size)
        real = index < self.n
        return {"index": np.where(real, index, 0).astype(np.int32), "weight": real.astype(np.float32)}
