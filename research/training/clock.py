"""Counts the seconds of training, without those of compiling, evaluating and saving."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator


class Clock:
    """Counts steps and seconds of training; stands still while paused.

        clock = Clock()
        clock.start()
        with clock.paused():
            evaluate()
        clock.lap(steps=64)                 # the device has finished 64 more steps
        clock.seconds, clock.rate

    Args:
      seconds, starved_seconds, steps: counted by earlier processes that trained the same trials; `record()` gives them.

    Attributes:
      steps: steps counted by `lap`.
      starved_seconds: part of `seconds` in which the device had nothing to do because no batch was there.
      rate: recent steps per second; None before the first lap.
    """

    def __init__(self, seconds: float = 0.0, starved_seconds: float = 0.0, steps: int = 0):
        self.starved_seconds = starved_seconds
        self.steps = steps
        self.rate: float | None = None
        self._running_since: float | None = None
        self._counted = self._last_lap = seconds

    def start(self) -> None:
        """Begins to count; does nothing where it counts already."""
        if self._running_since is None:
            self._running_since = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Seconds of training so far."""
        running = 0.0 if self._running_since is None else time.perf_counter() - self._running_since
        return self._counted + running

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Stands still inside."""
        running, self._counted, self._running_since = self._running_since is not None, self.seconds, None
        try:
            yield
        finally:
            if running:
                self.start()

    def leave_out(self, seconds: float) -> None:
        """Takes back seconds that it counted and that were no training."""
        if self._running_since is not None:
            self._counted -= seconds

    @contextlib.contextmanager
    def waiting(self, starved: Callable[[], bool]) -> Iterator[None]:
        """Counts what happens inside as starved seconds too, if `starved()` says so at the end of it."""
        started = self.seconds
        yield
        if starved():
            self.starved_seconds += self.seconds - started

    def lap(self, steps: int) -> None:
        """Counts `steps` more, finished since the last lap, and updates `rate`."""
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
        """Arguments of a clock that counts on from here."""
        return {"seconds": self.seconds, "starved_seconds": self.starved_seconds, "steps": self.steps}
