"""Plans a sweep: groups trials by program, sizes stacks to fit the device, and times both ways of training."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from research.config.hparams import hparams, marked_fields, structure
from research.config.once import Once
from research.data.feed import columns_of
from research.data.feeds import Feeds
from research.data.memory import available_memory
from research.data.source import first_example
from research.experiment import Experiment
from research.parallel import hosts
from research.parallel.placement import Held
from research.parallel.programs import Programs
from research.training.evaluate import compile_evaluations, evaluation_memory
from research.training.programs import make_programs, placement_of
from research.training.state import TrainState

MEMORY_SHARE = 0.8
"""Maximum share of a device's memory for a stack of trials."""

MOST_STACKED = 256
"""Maximum number of trials that train at once; more are hardly faster, but take long to time and to save."""

HOPED = {"cpu": 2}
"""How many times faster a stack may be, by platform; on others, as many times as it has trials."""

PRICE = 3
"""What trying another way costs, as a multiple of compiling its training: evaluations are compiled, and steps timed."""

MEASURED_SECONDS = 0.5
"""Seconds for which each way of training is timed, at most."""

MEASURED_SHARE = 0.1
"""Maximum share of the training for which each way is timed."""


@dataclasses.dataclass(frozen=True)
class Group:
    """Trials that train with one program.

    Attributes:
      trials: the names of the trials.
      until: the step to train to.
      stacked: trains all trials at once under vmap; False trains them one after another; None is undecided.
      measured: trial steps per second of each way of training that was timed.
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


def signature(experiment: Experiment, once: Once | None = None, *, data: bool = True) -> tuple:
    """A key that is equal for experiments that differ only in seed and hparams and so can share a program.

    Args:
      once: keeps what was computed of the parts that experiments share.
      data: also distinguishes data sets.
    """
    once = Once() if once is None else once
    left_out = {"seed"} if data else {"seed", "data"}
    parts = (
        (getattr(experiment, name), marked) for name, marked in marked_fields(type(experiment)) if name not in left_out
    )
    return tuple(part is None if marked else once(structure, part) for part, marked in parts)


def group(experiments: dict[str, Experiment], until: int, once: Once | None = None) -> list[Group]:
    """Groups trials, {name: experiment}, by signature, in the order of their first trials."""
    once = Once() if once is None else once
    groups: dict[str, list[str]] = {}
    for name, experiment in experiments.items():
        groups.setdefault(signature(experiment, once), []).append(name)
    return [Group(tuple(names), until) for names in groups.values()]


def split_evenly(names: Sequence[str], largest: int) -> list[tuple[str, ...]]:
    """Splits names into chunks of at most `largest`, of nearly equal size, so that few programs are compiled."""
    chunks = -(-len(names) // largest)
    bounds = np.linspace(0, len(names), chunks + 1).round().astype(int)
    return [tuple(names[a:b]) for a, b in zip(bounds, bounds[1:], strict=False)]


def device_memory() -> int:
    """Bytes of memory for a program: the device's limit, or the host's available memory if there is no limit."""
    stats = jax.local_devices()[0].memory_stats() or {}
    return hosts.smallest("the memory for programs", int(stats.get("bytes_limit") or available_memory()))


@dataclasses.dataclass
class Candidate:
    """Programs for training a group, with their memory and speed.

    Attributes:
      programs: the compiled programs.
      train_memory: bytes that training needs on a device, without the data.
      memory: bytes that training or evaluation needs, whichever is larger, without the data; None is not computed yet.
      trial_steps_per_second: speed of training over all trials; None is not timed yet.
      compiling_seconds: seconds for which the training program was compiled.
    """

    programs: Programs
    train_memory: int
    memory: int | None = None
    trial_steps_per_second: float | None = None
    compiling_seconds: float = 0.0


class ProgramCache:
    """Caches the compiled and timed programs of a run, for groups with other data of the same shapes.

    The cache keeps only the data of the latest group on the device, one copy for all programs.
    """

    def __init__(self):
        self._candidates: dict[tuple, Candidate] = {}
        self._feeds: Feeds | None = None
        self._held = Held()
        self._lock = threading.Lock()

    def get(
        self,
        experiments: Sequence[Experiment],
        feeds: Feeds,
        *,
        stacked: bool,
        sized: bool = False,
        timed: bool = False,
    ) -> Candidate:
        """The compiled programs of a group, on its data; `sized` adds their memory, and `timed` their speed."""
        with self._lock:
            return self._get(experiments, feeds, stacked, sized, timed)

    def compile_ahead(self, experiments: Sequence[Experiment], feeds: Feeds, *, stacked: bool) -> None:
        """Compiles all programs of a group if its data are on the device; runs nothing there."""
        with self._lock:
            if self._feeds is feeds:
                self._get(experiments, feeds, stacked, every=True)

    def _get(
        self,
        experiments: Sequence[Experiment],
        feeds: Feeds,
        stacked: bool,
        sized: bool = False,
        timed: bool = False,
        every: bool = False,
    ) -> Candidate:
        trials = len(experiments) if stacked else None
        key = program_key(experiments[0], feeds, trials)
        first = experiments[0]
        rows = placement_of(first, trials=trials).rows(first.batch_size)
        with feeds.train.batches(first.seed, first.batch_size, rows) as batches:
            largest, average = batches.largest(), batches.average()
        if key not in self._candidates:
            like = self._candidates.get(program_key(first, feeds, None))
            programs = self._on(feeds, make_programs(first, {}, trials=trials, like=like.programs if like else None))
            state = programs.shapes(hparams(first), largest)
            memory = programs.train_memory(state, _stack(largest, trials))
            self._candidates[key] = Candidate(programs.on({}), memory, compiling_seconds=programs.compiling_seconds)
        found = self._candidates[key]
        programs = self._on(feeds, found.programs)
        if sized and found.memory is None:
            needed = evaluation_memory(programs, programs.shapes(hparams(first), largest), first, feeds)
            found.memory = max(found.train_memory, needed)
        if every:
            programs.compile_init(hparams(first), largest)
            compile_evaluations(programs, programs.shapes(hparams(first), largest), first, feeds)
        if timed and found.trial_steps_per_second is None:
            # The first trial, for each: times do not depend on values.
            state = programs.init([first.seed] * (trials or 1), [hparams(first)] * (trials or 1), largest)
            steps = sum(experiment.steps for experiment in experiments)
            found.trial_steps_per_second = _time_steps(programs, state, _stack(average, trials), steps)
        return dataclasses.replace(found, programs=programs)

    def _on(self, feeds: Feeds, programs: Programs) -> Programs:
        """Binds programs to data, which stay on the device if the previous programs used the same."""
        if self._feeds is not feeds:
            self._feeds, self._held = feeds, Held()
        return programs.on(feeds.train.resident, self._held)


def program_key(experiment: Experiment, feeds: Feeds, trials: int | None) -> tuple:
    """The key of a program: everything but seed, hparams and the values of the data."""
    return signature(experiment, data=False), shapes_of(feeds), trials


def shapes_of(feeds: Feeds) -> tuple:
    """The names, shapes and dtypes of the columns of the training split."""
    feed = feeds.train
    columns = columns_of(feed.resident) or first_example(feed.source)
    return tuple((name, x.shape, str(x.dtype)) for of in (columns, feed.shared) for name, x in sorted(of.items()))


def _time_steps(programs: Programs, state: TrainState, sent: dict[str, np.ndarray], steps: int) -> float:
    """Times a few of `steps` trial steps on a state that is then discarded; returns trial steps per second."""
    trials = programs.trials or 1
    for _ in range(2):  # the first call also warms up
        started = time.perf_counter()
        state, _ = programs.train(state, [sent])
        jax.block_until_ready(state)
    took = time.perf_counter() - started
    seconds = min(MEASURED_SECONDS, MEASURED_SHARE * took * steps / trials)
    steps_per_call = max(1, min(programs.steps_per_call(state, sent), 8, int(seconds / max(took, 1e-9))))
    started, done = time.perf_counter(), 0
    while done == 0 or hosts.agree("timing", time.perf_counter() - started < seconds):
        state, _ = programs.train(state, [sent] * steps_per_call)
        jax.block_until_ready(state)
        done += steps_per_call
    return hosts.agree("the time", done * trials / (time.perf_counter() - started))


def largest_stack(single: Candidate) -> int:
    """Estimates from the memory of one trial how many trials to train at once."""
    return min(MOST_STACKED, max(1, int(MEMORY_SHARE * device_memory() / max(1, single.train_memory))))


def chunks_that_fit(
    names: Sequence[str], largest: int, experiments: dict[str, Experiment], feeds: Feeds, cache: ProgramCache
) -> list[tuple[str, ...]]:
    """Splits trials into chunks of at most `largest` that the device can train and evaluate at once."""
    chunks = split_evenly(names, largest)
    while len(chunks[0]) > 1:
        together = cache.get([experiments[name] for name in chunks[0]], feeds, stacked=True, sized=True)
        if together.memory <= MEMORY_SHARE * device_memory():
            break
        chunks = split_evenly(names, len(chunks[0]) // 2)
    return chunks


def decide(
    undecided: Group, experiments: dict[str, Experiment], feeds: Feeds, stack: str, cache: ProgramCache
) -> list[Group]:
    """Decides whether a group trains stacked, and splits it into chunks if it does not fit on the device at once.

    Args:
      undecided: a group of trials of one signature.
      experiments: the resolved experiments by trial name.
      feeds: the splits of their data.
      stack: "on", "off", or "auto", which compiles and times both on this device, unless training one after another
        takes less time than trying the other way.
      cache: keeps the compiled programs for training.
    """
    own = [experiments[name] for name in undecided.trials]
    if len(own) == 1 or stack == "off":
        return [dataclasses.replace(undecided, stacked=False)]
    trials = undecided.trials
    if stack == "on":
        chunks = chunks_that_fit(trials, min(MOST_STACKED, len(trials)), experiments, feeds, cache)
        return [dataclasses.replace(undecided, trials=chunk, stacked=True) for chunk in chunks]
    single = cache.get(own, feeds, stacked=False, timed=True)
    one = single.trial_steps_per_second
    hoped = min(len(own), HOPED.get(single.programs.placement.platform, len(own)))
    saved = undecided.until * len(own) / one * (1 - 1 / hoped)
    largest = largest_stack(single)
    if largest == 1 or hosts.agree("the ways to time", saved < PRICE * single.compiling_seconds):
        return [dataclasses.replace(undecided, stacked=False, measured={"one_after_another": round(one, 3)})]
    first = split_evenly(trials, largest)[0]
    together = cache.get([experiments[name] for name in first], feeds, stacked=True, timed=True)
    side_by_side = together.trial_steps_per_second
    measured = {"one_after_another": round(one, 3), "stacked": round(side_by_side, 3)}
    if one >= side_by_side:
        return [dataclasses.replace(undecided, stacked=False, measured=measured)]
    chunks = chunks_that_fit(trials, len(first), experiments, feeds, cache)
    if len(chunks[0]) == 1:
        return [dataclasses.replace(undecided, stacked=False, measured=measured)]
    return [dataclasses.replace(undecided, trials=chunk, stacked=True, measured=measured) for chunk in chunks]


def _stack(sent: dict[str, np.ndarray], trials: int | None) -> dict[str, np.ndarray]:
    return sent if trials is None else {name: np.stack([x] * trials) for name, x in sent.items()}
