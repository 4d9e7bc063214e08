"""Trainings of small trials for tests of the loop: stacked or one after another, with notes of what is said."""

import dataclasses
import functools
import itertools

import jax
import numpy as np
import pytest
import toys
from command_line import lines, read, saved_steps, state

from research.data.feeds import make_feeds
from research.models.mlp import MLP
from research.tasks.classification import Classification
from research.training.checkpoints import Checkpoints
from research.training.loggers import DEFAULT
from research.training.loop import Interrupted, train
from research.training.programs import make_programs
from research.training.progress import Progress
from research.training.trial import Trial

POLICY = Checkpoints(every_steps=12, every_seconds=None, best="validation/loss")


class LargestLoss(Classification):
    """Declares the largest loss as best, so that the best state is not the last one, which is scored by default."""

    better = {**Classification.better, "loss": "max"}


SELDOM = Checkpoints(every_seconds=None)
"""A policy that saves only when training stops."""


class Notes(Progress):
    """Progress that stores its messages."""

    def __init__(self):
        self.notes = []
        self.started = []

    def start(self, step, total, trials):
        self.started.append((step, tuple(trials)))

    def note(self, text):
        self.notes.append(text)


@functools.cache
def feeds_of(data):
    return make_feeds(data.load(), data)


@functools.cache
def programs_of(experiment, trials):
    """Compiles programs once for all tests of the same experiment."""
    return make_programs(experiment, feeds_of(experiment.data).train.resident, trials=trials)


def go(folder, experiments, *, stacked, stop=lambda: False, until=None, callbacks=DEFAULT):
    """Trains experiments into folder/0, folder/1, ...; returns the progress messages."""
    notes = Notes()
    trials = [Trial(str(i), experiment, folder / str(i)) for i, experiment in enumerate(experiments)]
    plain = dataclasses.replace(experiments[0], seed=0)
    train(
        trials,
        feeds_of(plain.data),
        stacked=stacked,
        progress=notes,
        stop=stop,
        until=until,
        callbacks=callbacks,
        programs=programs_of(plain, len(trials) if stacked else None),
    )
    return notes


def experiments(**changes):
    """Makes three trials that share one program."""
    base = toys.experiment(
        **{
            "model": MLP(widths=(8,), classes=3, dropout=0.2, norm="batch"),
            "task": LargestLoss(classes=3),
            "steps": 24,
            "eval_every": 8,
            "log_every": 5,
            "ema_decay": 0.8,
            "checkpoints": POLICY,
            "parallel": dataclasses.replace(toys.ONE_DEVICE, steps_per_call=4),
            **changes,
        }
    )
    return [dataclasses.replace(base, seed=seed) for seed in (3, 4, 5)]


def same(a, b):
    """Checks that two folders of trials have equal parameters, logs and results, except for times."""
    for one, other in zip(sorted(a.iterdir()), sorted(b.iterdir()), strict=True):
        assert saved_steps(one) == saved_steps(other)
        jax.tree.map(np.testing.assert_array_equal, state(one), state(other))
        assert lines(one) == lines(other)
        untimed = [{k: v for k, v in read(f / "result.json").items() if "second" not in k} for f in (one, other)]
        assert untimed[0] == untimed[1]


def stopping_changes_nothing(folder, experiment, feeds, *, stacked):
    """Trains two seeds into folder/whole, and with a stop into folder/stopped; checks that both end the same."""
    experiments = [dataclasses.replace(experiment, seed=seed) for seed in (0, 1)]
    programs = make_programs(experiment, feeds.train.resident, trials=2 if stacked else None)

    def run(name, stop=lambda: False):
        trials = [Trial(str(i), one, folder / name / str(i)) for i, one in enumerate(experiments)]
        train(trials, feeds, stacked=stacked, progress=Progress(), stop=stop, programs=programs)

    with pytest.raises(Interrupted):
        run("stopped", stop_at(2))
    run("stopped")
    run("whole")
    for trial in ("0", "1"):
        one, other = folder / "stopped" / trial, folder / "whole" / trial
        assert lines(one) == lines(other)
        jax.tree.map(np.testing.assert_array_equal, state(one), state(other))


def stop_at(call):
    """Makes a `stop` function that returns True from its n-th call on, with n = `call`."""
    calls = itertools.count(1)
    return lambda: next(calls) >= call
