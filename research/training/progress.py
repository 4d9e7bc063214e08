"""Reports the progress of training: a live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence

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


class TimeLeft:
    """Estimates the time left of a whole sweep from its steps so far, with all that happened between them.

    >>> seconds = iter([0.0, 10.0])
    >>> left = TimeLeft(lambda: next(seconds))
    >>> left.placed(400)                       # two programs, of two trials and 100 steps each
    >>> left.start(0, 2)
    >>> left.update(10), left.update(30)       # the first step also waits for the compiler, so it does not count
    (None, 85.0)
    """

    def __init__(self, now: Callable[[], float] = time.monotonic):
        self._now, self._began = now, None
        self._left = self._done = self._step = self._trials = 0

    def placed(self, trial_steps: int) -> None:
        """Takes the steps of this program and of later ones, summed over trials."""
        self._left = trial_steps

    def start(self, step: int, trials: int) -> None:
        """Takes the number of trials that start together at `step`."""
        self._left -= step * trials
        self._step, self._trials = step, trials

    def update(self, step: int) -> float | None:
        """Seconds left after `step`; None if they are not known yet."""
        steps = (step - self._step) * self._trials
        self._left, self._step = self._left - steps, step
        if self._began is None:
            self._began = self._now()
            return None
        self._done += steps
        return (self._now() - self._began) * max(0, self._left) / self._done if self._done else None


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

    def placed(self, place: str, trial_steps: int) -> None:
        """Called before a program is compiled.

        `place` says where in the sweep it is, "trials 4 to 6 of 15, program 2 of 5", or is "" for the only trial;
        `trial_steps` is the number of steps that this program and the later ones run, summed over trials.
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
        self._place = self._scores = self._line = ""
        self._left = TimeLeft()

    def placed(self, place: str, trial_steps: int) -> None:
        self.close()
        self._place = place and f"{place}: "
        self._left.placed(trial_steps)
        self._show(f"{self._place}compiling …", None)

    def start(self, step: int, total: int, trials: Sequence[str]) -> None:
        self.close()
        self.total, self._scores = total, ""
        name = printable(trials[0]) + (f" and {len(trials) - 1} more" if len(trials) > 1 else "")
        self.label = f"{self._place}{name}"
        self._left.start(step, len(trials))
        if step:
            self.note(f"{self.label}: continues at step {step}")
        self._show(self.label, total, completed=step)

    def update(self, step: int, losses: np.ndarray, rate: float | None) -> None:
        left = self._left.update(step)
        of_all = f"{duration(left)} left of all" if self._place and left is not None and left >= 1 else ""
        said = described(step, self.total, losses, rate)
        self._line = f"{self.label}: {said}" if step == self.total else ""
        if self._bar is not None:
            fields = {"loss": _loss(losses), "rate": _speed(rate), "scores": self._scores, "left": of_all}
            self._bar.update(self._task, completed=step, **fields)
        elif step < self.total and time.monotonic() - self._said > PLAIN_LINE_EVERY:
            self._said = time.monotonic()
            parts = (said + (f", {of_all}" if of_all else ""), self._scores)
            self.console.print(f"{self.label}: {'; '.join(part for part in parts if part)}")

    def evaluated(self, step: int, split: str, metrics: Sequence[Mapping[str, float]]) -> None:
        self._scores = scores(split, metrics) or self._scores

    def note(self, text: str) -> None:
        self.console.print(printable(text))

    def close(self) -> None:
        """Ends the live line, and keeps a line of a program that has come to its end."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
        if self._line:
            self._said = time.monotonic()
            self.console.print("; ".join(part for part in (self._line, self._scores) if part))
            self._line = ""

    def _show(self, label: str, total: int | None, completed: int = 0) -> None:
        """Shows a live line on a terminal: a bar, or a moving one if the total is not known."""
        if not self.console.is_terminal:
            return
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        told = [] if total is None else [MofNCompleteColumn(), *map(_field, ("loss", "rate")), TimeRemainingColumn()]
        more = [] if total is None else [*map(_field, ("left", "scores"))]
        columns = TextColumn("{task.description}", markup=False), BarColumn(bar_width=24), *told, *more
        self.close()
        self._bar = Progress(*columns, console=self.console, transient=True)
        fields = dict.fromkeys(("loss", "rate", "left", "scores"), "")
        self._task = self._bar.add_task(label, total=total, completed=completed, **fields)
        self._bar.start()


def _field(name: str):
    """A column of a live line that shows one of its fields."""
    from rich.progress import TextColumn

    return TextColumn(f"{{task.fields[{name}]}}", markup=False)
