"""Events are due at the right steps and times."""

import math
import types

import pytest

from research.training.checkpoints import Checkpoints
from research.training.events import Every, Save


def test_every_so_many_steps():
    every = Every(5)
    assert [step for step in range(1, 21) if every.due(step)] == [5, 10, 15, 20]
    assert [every.next_due(step) for step in (0, 4, 5, 6)] == [5, 5, 10, 10]
    assert not any(Every(None).due(step) for step in range(20)) and Every(None).next_due(3) == math.inf


@pytest.fixture
def now(monkeypatch):
    now = types.SimpleNamespace(seconds=0.0)
    monkeypatch.setattr("research.training.events.time", types.SimpleNamespace(monotonic=lambda: now.seconds))
    return now


def test_saving_is_due_by_steps_and_late_by_seconds_since_the_last(now):
    saving = Save(Checkpoints(every_steps=4, every_seconds=10.0))
    assert saving.due(4) and not saving.due(5) and saving.next_due(5) == 8 and not saving.late
    now.seconds = 10.0
    assert saving.late and not saving.due(5)
    saving.done()
    assert not saving.late
    assert not Save(Checkpoints(every_seconds=None)).late
