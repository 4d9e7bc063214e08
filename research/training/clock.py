"""Counts the seconds of training, without the time for compiling, evaluating and saving."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator


class Clock:
    """Counts steps and seconds of training; does not count while paused.

        clock = Clock()
        clock.start()
        with clock.paused():
            evaluate()
        clock.lap(steps=64)                 # the device has finished 64 more steps
        clock.seconds, clock.rate

    Args:
      seconds, starved_seconds, steps: counts to start from when training is resumed; `record()` returns them.

    Attributes:
      steps: steps counted by `lap`.
      starved_seconds: part of `seconds` in which the device waited for a batch.
      rate: recent steps per second; None before the first lap.
    """

    def __init__(self, seconds: float = 0.0, starved_seconds: float = 0.0, steps: int = 0):
        self.starved_seconds = starved_seconds
        self.steps = steps
        self.rate: float | None = None
        self._running_since: float | None = None
        self._counted = self._last_lap = seconds

    def start(self) -> None:
        """Starts to count; does nothing if the clock is running."""
        if self._running_since is None:
            self._running_since = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Seconds of training so far."""
        running = 0.0 if self._running_since is None else time.perf_counter() - self._running_since
        return self._counted + running

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Pauses the clock inside the `with` block."""
        running, self._counted, self._running_since = self._running_since is not None, self.seconds, None
        try:
            yield
        finally:
            if running:
                self.start()

    def leave_out(self, seconds: float) -> None:
        """Subtracts seconds that were counted but were not training; does nothing if the clock is not running."""
        if self._running_since is not None:
            self._counted -= seconds

    @contextlib.contextmanager
    def waiting(self, starved: Callable[[], bool]) -> Iterator[None]:
        """Also counts the time of the `with` block as starved seconds if `starved()` returns True at its end."""
        started = self.seconds
        yield
        if starved():
            self.starved_seconds += self.seconds - started

    def lap(self, steps: int) -> None:
        """Adds `steps`, the steps finished since the last lap, and updates `rate`."""
        now = self.seconds
        latest = steps / max(now - self._last_lap, 1e-9)
        self._last_lap = now
        self.rate = latest if self.rate is None else 0.7 * self.rate + 0.3 * latest
        self.steps += steps

    @property
    def since_lap(self) -> float:
        """Seconds of training since the last lap."""
        return self.seconds - self._last_lap

    def record(self) -> dict[str, float]:
        """The arguments for a `Clock` that continues from the current counts."""
        return {"seconds": self.seconds, "starved_seconds": self.starved_seconds, "steps": self.steps}
