"""Finds out, by compiling, the largest batch that fits, and which settings make a step fit that does not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax

from launch.compiled import Compiled, Known, compile_step
from research.config.override import override
from research.errors import RequestError
from research.experiment import Experiment

TRIES = 4
"""The maximum number of batch sizes to compile for."""

VOCAB_CHUNKS = 8
"""The parts of a vocabulary to try."""

USABLE = 0.98
"""The share of a device's memory that a program can have."""

Settings = dict[str, Any]


def largest_batch(first: Compiled, devices: Sequence[jax.Device]) -> tuple[int, int | None]:
    """The largest batch size that was found to fit, 0 if none was, and the least that was found not to, if any.

    A size is guessed in proportion to the temporaries and then compiled, at most `TRIES` times.
    """
    unit = first.placement.shards * first.experiment.accumulation
    fitting, failing, latest = 0, None, first
    for left in range(TRIES, -1, -1):
        size = latest.experiment.batch_size
        fitting, failing = (max(fitting, size), failing) if latest.fits else (fitting, min(failing or size, size))
        guess = _guess(latest) // unit * unit
        if failing is not None:
            guess = min(guess, failing - unit)
        if not left or latest.memory is None or guess < unit or guess <= fitting:
            break
        try:
            latest = compile_step(_changed(first.given, {"batch_size": guess}), devices)
        except RequestError:  # the compiler fails at this size
            break
    return fitting, failing


def _guess(tried: Compiled) -> int:
    memory, limit = tried.memory, tried.chip.memory * USABLE
    if memory is None or memory.temporaries <= 0:
        return 0
    return int(tried.experiment.batch_size * max(0.0, limit - memory.kept) / memory.temporaries)


def what_would_fit(given: Known, devices: Sequence[jax.Device]) -> Settings | None:
    """Settings with which the step fits at the same batch size; None if none of those tried does.

    Tries settings one by one and then together, those first that cost the least time.
    """
    for settings in _candidates(given.experiment, len(devices)):
        try:
            found = compile_step(_changed(given, settings), devices)
        except RequestError:  # this experiment has no such field, or its batch does not divide
            continue
        if found.fits:
            return settings
    return None


def _candidates(experiment: Experiment, devices: int) -> Iterator[Settings]:
    split = {"parallel.shard": "fsdp"} if devices > 1 and experiment.parallel.shard is None else {}
    some = _effective(experiment, {"model.remat": "dots_with_no_batch_dims_saveable"})
    every = _effective(experiment, {"model.remat": True})
    some = {} if not every else some  # everything is recomputed already
    chunks = _effective(experiment, {"task.vocab_chunks": VOCAB_CHUNKS})
    tried: list[Settings] = []
    for settings in (split, chunks, some, every, split | chunks | some, split | chunks | every):
        if settings and settings not in tried:
            tried.append(settings)
            yield settings
    parts = 2 * experiment.accumulation
    while parts <= min(16, experiment.batch_size // devices):
        yield split | chunks | every | {"accumulation": parts}
        parts *= 2


def _changed(given: Known, settings: Settings) -> Known:
    changed = override(given.experiment, settings)
    changed.check()
    return given._replace(experiment=changed)


def _effective(experiment: Experiment, settings: Mapping[str, Any]) -> Settings:
    """The settings that the experiment has and that change it."""
    try:
        return dict(settings) if override(experiment, settings) != experiment else {}
    except RequestError:
        return {}
