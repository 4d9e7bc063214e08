"""The clock counts the seconds of training only."""

import types

import pytest

from research.training.clock import Clock


@pytest.fixture
def at(monkeypatch):
    """Returns a function that advances the time."""
    now = types.SimpleNamespace(seconds=100.0)
    monkeypatch.setattr(
        "research.training.clock.time", types.SimpleNamespace(perf_counter=lambda: now.seconds), raising=True
    )

    def move(by):
        now.seconds += by

    return move


def test_it_counts_from_its_start_and_stands_still_while_paused(at):
    clock = Clock()
    at(5)
    assert clock.seconds == 0
    clock.start()
    at(2)
    clock.start()
    with clock.paused():
        at(30)
        assert clock.seconds == 2
        with clock.paused():
            at(30)
    at(1)
    assert clock.seconds == 3
    clock.leave_out(1)
    assert clock.seconds == 2


def test_it_goes_on_after_an_error_in_a_pause(at):
    clock = Clock()
    clock.start()
    with pytest.raises(ValueError), clock.paused():
        at(7)
        raise ValueError
    at(1)
    assert clock.seconds == 1


def test_what_happens_before_its_start_is_never_taken_back(at):
    clock = Clock()
    with clock.paused():
        at(5)
    clock.leave_out(5)
    clock.start()
    at(1)
    assert clock.seconds == 1


def test_waiting_counts_where_the_device_was_idle(at):
    clock = Clock()
    clock.start()
    for seconds, idle in ((4, False), (3, True)):
        with clock.waiting(lambda idle=idle: idle):
            at(seconds)
    assert (clock.starved_seconds, clock.seconds) == (3, 7)


def test_the_rate_is_that_of_recent_laps(at):
    clock = Clock()
    clock.start()
    assert clock.rate is None
    at(2)
    clock.lap(10)
    assert clock.rate == 5 and clock.since_lap == 0
    at(1)
    clock.lap(10)
    assert clock.rate == pytest.approx(0.7 * 5 + 0.3 * 10)


def test_another_process_counts_on(at):
    first = Clock()
    first.start()
    at(4)
    first.lap(8)
    second = Clock(**first.record())
    second.start()
    at(1)
    second.lap(1)
    assert second.record() == {"seconds": 5, "starved_seconds": 0, "steps": 9}
    assert second.rate == 1  # counts only its own laps
