"""Batches of trials that train side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from research.data.feed import Batches

Fed = Mapping[str, np.ndarray]


class SideBySide:
    """The batches of several trials stacked, each array with a leading axis of trials; or those of one, without.

    Args:
      batches: of each trial.
      stacked: whether the arrays have the axis of trials.
    """

    def __init__(self, batches: Sequence[Batches], *, stacked: bool):
        self._batches = batches
        self._stacked = stacked
        self._latest: tuple[int, Fed] = (-1, {})

    def largest(self) -> Fed:
        """A step's arrays in the largest shapes there are."""
        return self._joined(lambda batches: batches.largest())

    def take(self, step: int, most: int) -> list[Fed]:
        """The arrays of at most `most` steps from `step` on, up to the first step whose batch has other shapes."""
        taken = [self._at(step)]
        while len(taken) < most:
            following = self._at(step + len(taken))
            if any(following[name].shape != x.shape for name, x in taken[0].items()):
                break
            taken.append(following)
        return taken

    def close(self) -> None:
        """Ends the workers that read ahead."""
        for batches in self._batches:
            batches.close()

    def _at(self, step: int) -> Fed:
        if self._latest[0] != step:  # it may have been looked at already, and workers give each once
            self._latest = step, self._joined(lambda batches: batches.sent(step))
        return self._latest[1]

    def _joined(self, of: Callable[[Batches], Fed]) -> Fed:
        if not self._stacked:
            return of(self._batches[0])
        parts = [of(batches) for batches in self._batches]
        return {name: np.stack([part[name] for part in parts]) for name in parts[0]}
