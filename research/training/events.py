"""Events between training steps, such as logging and saving, and the steps at which they are due."""

from __future__ import annotations

import math
import time

from research.training.checkpoints import Checkpoints


class Every:
    """An event that is due at multiples of `steps`; never if `steps` is None.

    >>> every = Every(10)
    >>> [every.due(step) for step in (0, 7, 20)], every.next_due(20)
    ([True, False, True], 30)
    """

    def __init__(self, steps: int | None):
        self.steps = steps

    def due(self, step: int) -> bool:
        """True if the event is due after `step` steps."""
        return self.steps is not None and step % self.steps == 0

    def next_due(self, step: int) -> float:
        """The first multiple of `steps` after `step`; infinity if `steps` is None."""
        return math.inf if self.steps is None else (step // self.steps + 1) * self.steps


class Save(Every):
    """Saving by the steps and the seconds of a policy; seconds count from the last call of `done`."""

    def __init__(self, policy: Checkpoints):
        super().__init__(policy.every_steps)
        self._seconds = policy.every_seconds
        self.done()

    @property
    def late(self) -> bool:
        """True if the policy's seconds have passed; processes that share the state must agree about it."""
        return self._seconds is not None and time.monotonic() - self._saved >= self._seconds

    def done(self) -> None:
        """Notes that everything has just been saved."""
        self._saved = time.monotonic()
