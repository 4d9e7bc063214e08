"""Metrics of training that are still on the device."""

from __future__ import annotations

import collections
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

MAX_IN_FLIGHT = 16
"""Calls whose metrics have not been read yet; they are read together, and never that of the latest call."""


class Call(NamedTuple):
    """A call of the training program: `steps` steps after the first `start`, and the metrics it will have."""

    start: int
    steps: int
    metrics: dict[str, jax.Array]


class StepMetrics(NamedTuple):
    """Metrics of consecutive steps, each [steps, trials]; the first of them is step `start` + 1."""

    start: int
    values: dict[str, np.ndarray]

    @property
    def steps(self) -> int:
        return len(self.values["loss"])


class PendingMetrics:
    """Calls whose metrics have not been read yet.  Reading waits for the device, so many are read at once.

    Args:
      fetch: brings arrays of the device to the host (`Placement.fetch`).
    """

    def __init__(self, fetch: Callable[[Any], Any]):
        self._fetch = fetch
        self._calls: collections.deque[Call] = collections.deque()

    def add(self, start: int, steps: int, metrics: dict[str, jax.Array]) -> None:
        """Adds a call of `steps` steps after the first `start`; its metrics are [at least steps, (trials)]."""
        self._calls.append(Call(start, steps, metrics))

    @property
    def full(self) -> bool:
        return len(self._calls) > MAX_IN_FLIGHT

    @property
    def device_idle(self) -> bool:
        """Whether the device has finished every call."""
        return bool(self._calls) and self._calls[-1].metrics["loss"].is_ready()

    def read(self, *, leave: int = 0) -> StepMetrics | None:
        """The metrics of all calls but the `leave` latest, which the device may be busy with; None if there are none.

        Waits until the device has finished them.
        """
        calls = [self._calls.popleft() for _ in range(len(self._calls) - leave)]
        if not calls:
            return None
        read = self._fetch([call.metrics for call in calls])
        values = {
            name: np.concatenate([m[name][: c.steps].reshape(c.steps, -1) for m, c in zip(read, calls, strict=True)])
            for name in read[0]
        }
        return StepMetrics(calls[0].start, values)
