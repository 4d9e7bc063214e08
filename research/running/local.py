"""Trains in this process, on the devices of this host."""

from __future__ import annotations

import dataclasses
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from research.data.feeds import Feeds
from research.experiment import Experiment
from research.parallel import hosts
from research.parallel.programs import Programs
from research.running.folder import RunFolder
from research.running.plan import Group
from research.training.callbacks import Callback
from research.training.loop import train
from research.training.progress import Progress
from research.training.trial import Trial


@dataclasses.dataclass(frozen=True)
class Controls:
    """The callbacks of a run.

    Attributes:
      stop: returns True if somebody asked all processes to save and stop.
      permit: called before each write; raises `Stopped` if nothing may be written any more.
      progress: receives the steps, losses and evaluations of each program.
      callbacks: hear of the events of each trial.
    """

    stop: Callable[[], bool]
    permit: Callable[[], None]
    progress: Progress
    callbacks: Sequence[Callback]


@contextmanager
def stopping_signals() -> Iterator[Callable[[], bool]]:
    """Makes SIGTERM and SIGINT ask all processes to save and stop; a second SIGINT interrupts immediately.

    Outside of the main thread, where Python handles no signals, nothing asks.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    asked: list[int] = []

    def ask(number: int, frame: object) -> None:
        if asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        asked.append(number)

    before = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield lambda: any(hosts.gather("asked to stop", bool(asked)))
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def train_group(
    group: Group,
    experiments: dict[str, Experiment],
    feeds: Feeds,
    folder: RunFolder,
    programs: Programs,
    controls: Controls,
) -> None:
    """Trains a group to its next step, each trial in its own folder.

    Raises:
      research.training.loop.Interrupted: somebody asked to stop; everything has been saved.
      research.errors.Stopped: nothing may be written any more.
    """
    trials = [Trial(name, experiments[name], folder.trial(name)) for name in group.trials]
    progress = controls.progress if hosts.leads() else Progress()
    try:
        train(
            trials,
            feeds,
            stacked=bool(group.stacked),
            progress=progress,
            stop=controls.stop,
            programs=programs,
            until=group.until,
            permit=controls.permit,
            callbacks=controls.callbacks,
        )
    finally:
        progress.close()
