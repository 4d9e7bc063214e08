"""Batches of trials that train side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from research.data.feed import Batches

Fed = Mapping[str, np.ndarray]


class SideBySide:
    """Stacks the batches of several trials, so that each array has a leading trial axis.

    Args:
      batches: the batches of each trial.
      stacked: adds the trial axis; False expects a single trial.
    """

    def __init__(self, batches: Sequence[Batches], *, stacked: bool):
        self._batches = batches
        self._stacked = stacked
        self._latest: tuple[int, Fed] = (-1, {})

    def largest(self) -> Fed:
        """A step's arrays in the largest shapes of any step."""
        return self._joined(lambda batches: batches.largest())

    def average(self) -> Fed:
        """A step's arrays in the shapes nearest to the mean over all steps."""
        return self._joined(lambda batches: batches.average())

    def take(self, step: int, most: int) -> list[Fed]:
        """The arrays of up to `most` steps, starting at `step`; ends early before a step with other shapes."""
        taken = [self._at(step)]
        while len(taken) < most:
            following = self._at(step + len(taken))
            if any(following[name].shape != x.shape for name, x in taken[0].items()):
                break
            taken.append(following)
        return taken

    def close(self) -> None:
        """Stops the workers that read ahead."""
        for batches in self._batches:
            batches.close()

    def _at(self, step: int) -> Fed:
        if self._latest[0] != step:  # `take` may have read this step already, and workers give each step only once
            self._latest = step, self._joined(lambda batches: batches.sent(step))
        return self._latest[1]

    def _joined(self, of: Callable[[Batches], Fed]) -> Fed:
        if not self._stacked:
            return of(self._batches[0])
        parts = [of(batches) for batches in self._batches]
        return {name: np.stack([part[name] for part in parts]) for name in parts[0]}
