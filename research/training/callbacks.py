"""Callbacks: what hears of the events of training, such as loggers.

    class Prints(Callback):
        def write(self, step, split, metrics):
            print(self.trial.name, step, split, metrics)

    fit(experiment, out="runs/mine", callbacks=(TensorBoard(), Prints()))

An experiment's module may define a function `callbacks()` that returns them for the command line.  Callbacks change no
result, so they belong to no experiment: metrics.jsonl, checkpoints and result.json are written with any of them.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

from research.errors import RequestError, placed
from research.evaluation.exhibits import Exhibit

if TYPE_CHECKING:
    from research.training.trial import Trial


class Callback:
    """Hears of the events of each trial, in the process that leads; every method may be left as it is.

    Training goes on without a callback that raises an error, after a line that says so.

    Attributes:
      trial: the trial, with `name`, `experiment` and `folder`.
    """

    trial: Trial

    def check(self) -> None:
        """Raises RequestError if the callback cannot work; called before anything is compiled."""

    def opened(self, trial: Trial, step: int) -> Self:
        """Returns the callback of one trial, by default a copy; training starts, or continues, at `step`."""
        own = copy.copy(self)
        own.trial = trial
        own.start(step)
        return own

    def start(self, step: int) -> None:
        """Called before the trial trains, from `step` on."""

    def write(self, step: int, split: str, metrics: Mapping[str, float]) -> None:
        """Called with the metrics of training, split "train", at each log step, and with those of evaluations."""

    def show(self, step: int, evaluation: str, name: str, exhibit: Exhibit) -> None:
        """Called with each exhibit of an evaluation."""

    def save(self, step: int) -> None:
        """Called when a checkpoint has been started."""

    def end(self, status: str, metrics: Mapping[str, float | None]) -> None:
        """Called when the trial has ended: "finished", "diverged" or "failed", with the metrics of result.json."""

    def close(self) -> None:
        """Called last, also if the trial was stopped and will be continued later."""


def as_callbacks(given: Any) -> tuple[Callback, ...]:
    """Callbacks as a tuple.

    Raises:
      RequestError: it is no tuple or list, something in it is no callback, or one cannot work.
    """
    if not isinstance(given, list | tuple):
        raise RequestError(f"callbacks: a {type(given).__name__}; expected a tuple, as in (TensorBoard(),)")
    for callback in given:
        if not isinstance(callback, Callback):
            kind = callback.__name__ if isinstance(callback, type) else type(callback).__name__
            expected = f"{kind}(…)" if isinstance(callback, type) else "a research.Callback"
            raise RequestError(f"callbacks: {kind}: expected {expected}")
        callback.check()
    return tuple(given)


class Callbacks:
    """The callbacks of one trial; those that raise an error are told of and left out from then on.

    Args:
      callbacks: the user's.
      note: receives lines for the user.
    """

    def __init__(self, callbacks: Sequence[Callback], note: Callable[[str], None]):
        self._given, self._note = callbacks, note
        self._own: list[Callback] = []

    def open(self, trial: Trial, step: int) -> None:
        """Opens every callback for a trial."""
        for callback in self._given:
            own = self._guarded(callback, "opened", trial, step)
            if own is not None:
                self._own.append(own)

    def each(self, event: str, *arguments: Any) -> None:
        """Calls the method of that name of every callback."""
        for callback in list(self._own):
            self._guarded(callback, event, *arguments)

    def close(self) -> None:
        """Closes every callback."""
        self.each("close")
        self._own.clear()

    def _guarded(self, callback: Callback, event: str, *arguments: Any) -> Any:
        try:
            return getattr(callback, event)(*arguments)
        except Exception as error:  # the user's code, and services, can raise anything
            self._own = [own for own in self._own if own is not callback]
            self._note(f"callback {type(callback).__name__}.{event}: {placed(error)}; training goes on without it")
            return None
