"""Trains in this process, on the devices of this host."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from launch.folder import RunFolder
from launch.plan import Group
from research.data.feeds import Feeds
from research.experiment import Experiment
from research.parallel import hosts
from research.parallel.programs import Programs
from research.training.loop import train
from research.training.progress import Progress, TextProgress
from research.training.trial import Trial


@contextmanager
def stopping_signals() -> Iterator[Callable[[], bool]]:
    """Makes SIGTERM and SIGINT ask all processes to save and stop; a second SIGINT interrupts immediately."""
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
    stop: Callable[[], bool],
    permit: Callable[[], None],
) -> None:
    """Trains a group to its next step, each trial in its own folder.

    Raises:
      research.training.loop.Interrupted: `stop` returned True; everything has been saved.
      research.training.trial.Stopped: `permit`, which is called before each write, raised it.
    """
    trials = [Trial(name, experiments[name], folder.trial(name)) for name in group.trials]
    progress = TextProgress() if hosts.leads() else Progress()
    try:
        train(
            trials,
            feeds,
            stacked=bool(group.stacked),
            progress=progress,
            stop=stop,
            programs=programs,
            until=group.until,
            permit=permit,
        )
    finally:
        progress.close()
