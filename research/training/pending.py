"""Metrics of training that are still on the device."""

from __future__ import annotations

import collections
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

MAX_IN_FLIGHT = 16
"""Number of unread calls above which their metrics are read together, except those of the latest call."""


class Call(NamedTuple):
    """A call of the training program: it runs `steps` steps after step `start`; its metrics may still be pending."""

    start: int
    steps: int
    metrics: dict[str, jax.Array]


class StepMetrics(NamedTuple):
    """Metrics of consecutive steps, each [steps, trials]; the first row belongs to step `start` + 1."""

    start: int
    values: dict[str, np.ndarray]

    @property
    def steps(self) -> int:
        return len(self.values["loss"])


class PendingMetrics:
    """Collects calls and reads their metrics together, because each read waits for the device.

    Args:
      fetch: copies arrays from the device to the host (`Placement.fetch`).
    """

    def __init__(self, fetch: Callable[[Any], Any]):
        self._fetch = fetch
        self._calls: collections.deque[Call] = collections.deque()

    def add(self, start: int, steps: int, metrics: dict[str, jax.Array]) -> None:
        """Adds a call that runs `steps` steps after step `start`; its metrics are [at least steps, (trials)]."""
        self._calls.append(Call(start, steps, metrics))

    @property
    def full(self) -> bool:
        return len(self._calls) > MAX_IN_FLIGHT

    @property
    def device_idle(self) -> bool:
        """True if the device has finished every call; False if there are no calls."""
        return bool(self._calls) and self._calls[-1].metrics["loss"].is_ready()

    def read(self, *, leave: int = 0) -> StepMetrics | None:
        """Reads the metrics of all calls except the latest `leave`; None if there are no such calls.

        Waits until the device has finished the calls that are read; it may still run the others.
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
