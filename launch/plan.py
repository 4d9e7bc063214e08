"""Which trials share a program, how many fit on the device at once, and whether they are faster stacked."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from research.data.feed import available_memory
from research.experiment import Experiment
from research.hparams import bind, hparams
from research.loop import Feeds
from research.parallel import Programs
from research.serialization import stable_hash
from research.train_state import TrainState

MEMORY_SHARE = 0.8
"""Of a device's memory, what a stack of trials may take."""

MEASURED_SECONDS = 0.5
"""About how long each way of training is timed."""


@dataclasses.dataclass(frozen=True)
class Group:
    """Trials that train through one program.

    Attributes:
      trials: their names.
      until: the step they train to.
      stacked: all at once under vmap, or one after another; None is not decided yet.
      measured: trial steps per second of each way tried.
    """

    trials: tuple[str, ...]
    until: int
    stacked: bool | None = None
    measured: dict[str, float] | None = None

    def record(self) -> dict[str, Any]:
        return {**dataclasses.asdict(self), "trials": list(self.trials)}

    @staticmethod
    def from_record(record: dict[str, Any]) -> Group:
        return Group(tuple(record["trials"]), record["until"], record["stacked"], record["measured"])


def signature(experiment: Experiment) -> str:
    """What two experiments have in common when they differ in nothing but seed and hparams: one program serves both."""
    blank = bind(experiment, dict.fromkeys(hparams(experiment), 0.0))
    return stable_hash(dataclasses.replace(blank, seed=0))


def group(experiments: dict[str, Experiment], until: int) -> list[Group]:
    """The trials, by name, in groups of one signature, in order of their first."""
    groups: dict[str, list[str]] = {}
    for name, experiment in experiments.items():
        groups.setdefault(signature(experiment), []).append(name)
    return [Group(tuple(names), until) for names in groups.values()]


def split_evenly(names: Sequence[str], largest: int) -> list[tuple[str, ...]]:
    """Chunks of at most `largest`, as equal in size as can be, so that few programs are compiled."""
    chunks = -(-len(names) // largest)
    bounds = np.linspace(0, len(names), chunks + 1).round().astype(int)
    return [tuple(names[a:b]) for a, b in zip(bounds, bounds[1:], strict=False)]


def device_memory() -> int:
    """Bytes a device has for a program: its own limit, or what the host has free."""
    stats = jax.local_devices()[0].memory_stats() or {}
    return int(stats.get("bytes_limit") or available_memory())


@dataclasses.dataclass
class Candidate:
    """Programs to train a group with, and what is known of them."""

    programs: Programs
    memory: int
    trial_steps_per_second: float | None = None


def build(
    experiments: Sequence[Experiment], feeds: Feeds, *, stacked: bool, like: Programs | None = None
) -> tuple[Candidate, TrainState]:
    """Compiles the programs of a group, and gives the state before the first step."""
    trials = len(experiments) if stacked else None
    programs = Programs(experiments[0], feeds.train.resident, trials=trials, like=like)
    own = experiments if stacked else experiments[:1]
    fed = feeds.train.batches(experiments[0].seed, experiments[0].batch_size).fed(0)
    state = programs.init([e.seed for e in own], [hparams(e) for e in own], fed)
    memory = programs.train_memory(state, _stack(fed, len(experiments) if stacked else None))
    return Candidate(programs, memory), state


def measure(candidate: Candidate, state: TrainState, experiment: Experiment, feeds: Feeds) -> None:
    """Times a few calls on a state that is thrown away."""
    programs = candidate.programs
    batches = feeds.train.batches(experiment.seed, experiment.batch_size)
    fed = _stack(batches.fed(0), programs.trials)
    capacity = min(programs.steps_per_call(state, fed), 8)
    state, _ = programs.train(state, [fed])
    jax.block_until_ready(state)
    started, steps = time.perf_counter(), 0
    while steps == 0 or time.perf_counter() - started < MEASURED_SECONDS:
        state, _ = programs.train(state, [fed] * capacity)
        jax.block_until_ready(state)
        steps += capacity
    candidate.trial_steps_per_second = steps * (programs.trials or 1) / (time.perf_counter() - started)


def largest_stack(single: Candidate) -> int:
    """How many trials fit on the device at once, judged by what one needs."""
    return max(1, int(MEMORY_SHARE * device_memory() / max(1, single.memory)))


def decide(
    undecided: Group, experiments: dict[str, Experiment], feeds: Feeds, stack: str
) -> list[tuple[Group, Programs | None]]:
    """The group with its way of training, in chunks where it does not fit the device at once.

    Args:
      undecided: trials of one signature.
      experiments: by trial name, resolved.
      feeds: of their data.
      stack: "on", "off", or "auto": both are compiled and timed on this device.

    Returns:
      Groups to train in order, each with its compiled programs where they are at hand.
    """
    own = [experiments[name] for name in undecided.trials]
    if len(own) == 1 or stack == "off":
        return [(dataclasses.replace(undecided, stacked=False), None)]
    single, state = build(own, feeds, stacked=False)
    if stack == "auto":
        measure(single, state, own[0], feeds)
    del state
    chunks = split_evenly(undecided.trials, largest_stack(single))
    if len(chunks[0]) == 1:
        return [(dataclasses.replace(undecided, stacked=False), single.programs)]
    together, state = build([experiments[name] for name in chunks[0]], feeds, stacked=True, like=single.programs)
    measured = None
    if stack == "auto":
        measure(together, state, own[0], feeds)
        one, all_ = single.trial_steps_per_second, together.trial_steps_per_second
        measured = {"one_after_another": round(one, 3), "stacked": round(all_, 3)}
        if one >= all_:
            return [(dataclasses.replace(undecided, stacked=False, measured=measured), single.programs)]
    return [
        (
            dataclasses.replace(undecided, trials=chunk, stacked=True, measured=measured),
            together.programs if len(chunk) == len(chunks[0]) else None,
        )
        for chunk in chunks
    ]


def _stack(fed: dict[str, np.ndarray], trials: int | None) -> dict[str, np.ndarray]:
    return fed if trials is None else {name: np.stack([x] * trials) for name, x in fed.items()}
