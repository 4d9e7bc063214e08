"""Progress in a notebook: one display that changes in place."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from research.training.progress import Progress, TextProgress, TimeLeft, described, duration, scores

REFRESHED_SECONDS = 0.25
"""Minimum seconds between two changes of the display."""

KEPT_LINES = 12
"""Lines of finished programs that stay on display; earlier ones are counted."""


def shell() -> Any | None:
    """The shell of the notebook that this process runs for; None outside of notebooks."""
    ipython = sys.modules.get("IPython")  # never imported here: a kernel has done so
    found = ipython.get_ipython() if hasattr(ipython, "get_ipython") else None
    return found if hasattr(found, "kernel") else None


def progress_here() -> Progress:
    """Progress that suits the place: a display in a notebook, lines or a live line elsewhere."""
    return TextProgress() if shell() is None else NotebookProgress()


class NotebookProgress(Progress):
    """Shows the program that trains as a bar, above it what has been said, and changes the display in place.

    Args:
      display: IPython's function of that name; None imports it.
    """

    def __init__(self, display: Any = None):
        if display is None:
            from IPython.display import display
        self._display, self._handle = display, None
        self._kept: list[str] = []
        self._place = self._line = self._scores = ""
        self._step = self._total = 0
        self._left = TimeLeft()
        self._shown = -REFRESHED_SECONDS

    def placed(self, place: str, trial_steps: int) -> None:
        self._keep()
        self._place = place and f"{place}: "
        self._left.placed(trial_steps)
        self._line, self._total, self._scores = f"{self._place}compiling …", 0, ""
        self._show(at_once=True)

    def start(self, step: int, total: int, trials: Sequence[str]) -> None:
        self._keep()
        self._label = f"{self._place}{trials[0]}" + (f" and {len(trials) - 1} more" if len(trials) > 1 else "")
        self._line, self._step, self._total, self._scores = self._label, step, total, ""
        self._left.start(step, len(trials))
        self._show()

    def update(self, step: int, losses: np.ndarray, rate: float | None) -> None:
        self._step = step
        left = self._left.update(step)
        of_all = f", {duration(left)} left of all" if self._place and left is not None and left >= 1 else ""
        self._line = f"{self._label}: {described(step, self._total, losses, rate)}{of_all}"
        self._show(at_once=step == self._total)

    def evaluated(self, step: int, split: str, metrics: Sequence[Mapping[str, float]]) -> None:
        self._scores = scores(split, metrics) or self._scores
        self._show()

    def note(self, text: str) -> None:
        self._kept.append(text)
        self._show(at_once=True)

    def close(self) -> None:
        self._keep()
        if self._kept:  # a request that is refused has shown nothing
            self._show(at_once=True)

    def _keep(self) -> None:
        """Keeps the line of the program that trained last."""
        if self._line and self._total:
            self._kept.append(self._now)
        self._line = ""

    @property
    def _now(self) -> str:
        return f"{self._line}; {self._scores}" if self._scores else self._line

    def _show(self, *, at_once: bool = False) -> None:
        if not at_once and time.monotonic() - self._shown < REFRESHED_SECONDS:
            return
        self._shown = time.monotonic()
        shown = {"text/plain": "\n".join(self._lines()), "text/html": self._html()}
        if self._handle is None:
            self._handle = self._display(shown, raw=True, display_id=True)
        else:
            self._handle.update(shown, raw=True)

    def _lines(self) -> list[str]:
        dropped = len(self._kept) - KEPT_LINES
        before = [f"… {dropped:,} earlier"] if dropped > 0 else []
        return [*before, *self._kept[-KEPT_LINES:], *([self._now] if self._line else [])]

    def _html(self) -> str:
        lines = [f"<div>{escape(line)}</div>" for line in self._lines()]
        if self._line and self._total:
            lines.append(f'<progress value="{self._step}" max="{self._total}" style="width: 24em"></progress>')
        return f'<div style="font-size: 13px; line-height: 1.5; opacity: 0.85">{"".join(lines)}</div>'
