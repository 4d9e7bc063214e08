"""Reports the progress of training: a live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence

import numpy as np

from research.console import printable, write_what_it_can

PLAIN_LINE_EVERY = 5.0
"""Minimum seconds between lines if the output is not a terminal."""


def duration(seconds: float) -> str:
    """A duration in seconds, minutes or hours, whichever suits its size.

    >>> duration(0.04), duration(9.04), duration(600), duration(9000)
    ('0.04 s', '9.0 s', '10.0 min', '2.5 h')
    """
    if seconds < 120:
        return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds:.2g} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def described(step: int, total: int, losses: np.ndarray, rate: float | None) -> str:
    """A line about the steps so far: their number, the mean of finite `losses`, the speed, and the time left.

    >>> described(50, 100, np.array([0.5]), 20.0)
    'step 50/100, loss 0.5, 20 steps/s, 2.5 s left'
    """
    seconds = (total - step) / rate if rate else 0
    left = f"{duration(seconds)} left" if seconds >= 1 else ""
    return ", ".join(part for part in (f"step {step}/{total}", _loss(losses), _speed(rate), left) if part)


def scores(split: str, metrics: Sequence[Mapping[str, float]]) -> str:
    """The first two metrics of an evaluation, averaged over trials; "" without trials.

    >>> scores("validation", [{"accuracy": 0.5}, {"accuracy": 1.0}])
    'validation accuracy 0.75'
    """
    means = [f"{name} {np.mean([m[name] for m in metrics]):.4g}" for name in list(next(iter(metrics), {}))[:2]]
    return printable(f"{split} {', '.join(means)}") if means else ""


def _loss(losses: np.ndarray) -> str:
    finite = losses[np.isfinite(losses)]
    return f"loss {finite.mean():.4g}" if finite.size else "loss not finite"


def _speed(rate: float | None) -> str:
    return f"{rate:,.0f} steps/s" if rate and rate >= 10 else f"{rate:.2g} steps/s" if rate else ""


class Progress:
    """Reports nothing: the base class, and the choice for notebooks and tests that want no output."""

    def placed(self, place: str) -> None:
        """Called before a program is compiled, with its place in the sweep, "trials 4 to 6 of 15", or "" for the only
        trial.
        """

    def start(self, step: int, total: int, trials: Sequence[str]) -> None:
        """Called when training of the named trials starts, at `step` of `total`."""

    def update(self, step: int, losses: np.ndarray, rate: float | None) -> None:
        """Called with the `losses` [trials] of the latest step that was read; `rate` is in steps per second."""

    def evaluated(self, step: int, split: str, metrics: Sequence[Mapping[str, float]]) -> None:
        """Called after an evaluation, with the metrics of each trial."""

    def note(self, text: str) -> None:
        """Called with a message that needs its own line."""

    def close(self) -> None:
        """Called when the program is done."""


class TextProgress(Progress):
    """Prints plain lines, at most one every few seconds, or a live line if the stream is a terminal."""

    def __init__(self, stream=None):
        from rich.console import Console

        stream = stream or sys.stderr
        write_what_it_can(stream)
        self.console = Console(file=stream, highlight=False, markup=False, emoji=False, soft_wrap=True)
        self._bar = self._task = None
        self._said = 0.0
        self._place = self._scores = ""

    def placed(self, place: str) -> None:
        self._place = place and f"{place}: "

    def start(self, step: int, total: int, trials: Sequence[str]) -> None:
        self.total, self._scores = total, ""
        name = printable(trials[0]) + (f" and {len(trials) - 1} more" if len(trials) > 1 else "")
        self.label = label = f"{self._place}{name}"
        if step:
            self.note(f"{label}: continues at step {step}")
        if self.console.is_terminal:
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            self.close()
            self._bar = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TextColumn("{task.fields[loss]}"),
                TextColumn("{task.fields[rate]}"),
                TimeRemainingColumn(),
                TextColumn("{task.fields[scores]}", markup=False),
                console=self.console,
                transient=True,
            )
            self._task = self._bar.add_task(label, total=total, completed=step, loss="", rate="", scores="")
            self._bar.start()

    def update(self, step: int, losses: np.ndarray, rate: float | None) -> None:
        if self._bar is not None:
            self._bar.update(self._task, completed=step, loss=_loss(losses), rate=_speed(rate), scores=self._scores)
        elif time.monotonic() - self._said > PLAIN_LINE_EVERY or step == self.total:
            self._said = time.monotonic()
            said = described(step, self.total, losses, rate)
            self.console.print(f"{self.label}: {said}{f'; {self._scores}' if self._scores else ''}")

    def evaluated(self, step: int, split: str, metrics: Sequence[Mapping[str, float]]) -> None:
        self._scores = scores(split, metrics) or self._scores

    def note(self, text: str) -> None:
        self.console.print(printable(text))

    def close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
