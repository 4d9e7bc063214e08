"""Runs a request: checks it, plans it, trains its trials and has it reported."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
import sys
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import absl.logging
from etils import epath

from research.config.once import Once
from research.config.serialization import canonical, stable_hash
from research.console import counted, say
from research.data.feeds import Feeds, KnownFeeds, make_feeds
from research.errors import RequestError, Stopped, in_one_line, one_line, placed
from research.experiment import FITTED, Experiment
from research.parallel import hosts
from research.running import local, plan
from research.running.folder import RunFolder
from research.running.halving import Halving
from research.running.lease import Lease
from research.running.local import Controls
from research.running.plan import Group
from research.running.request import Request
from research.training.check import check_trainable
from research.training.loop import Interrupted
from research.training.progress import Progress
from research.training.records import read_json, read_record
from research.training.trial import Trial, finished_status, record_failure, standing


@dataclasses.dataclass(frozen=True)
class Prepared:
    """The trials of a request with their data, resolved and checked.

    Attributes:
      experiments: the resolved experiment of each trial.
      feeds: the data of each trial.
      once: what was computed of the parts that the experiments share.
    """

    experiments: dict[str, Experiment]
    feeds: dict[str, Feeds]
    once: Once

    def of(self, names: Iterable[str]) -> Feeds:
        """The data that the trials of a group share."""
        return self.feeds[next(iter(names))]


def prepare(request: Request, prune: str | None = None, *, ended: Collection[str] = ()) -> Prepared:
    """Loads the data, resolves every trial's experiment, and checks that model, task, data and optimizer fit together.

    Args:
      request: the trials.
      prune: a metric that requires a validation split.
      ended: the names of trials that have been trained already, of which only the data are checked.

    Raises:
      RequestError: something does not fit; nothing has been compiled or written.
    """
    loaded: dict[tuple, tuple] = {}
    fitted: dict[tuple, Experiment] = {}
    known: KnownFeeds = {}
    once = Once()
    experiments, feeds, seen = {}, {}, set()
    for trial in request.trials:
        asked = trial.experiment
        with in_one_line(f"{trial.name}: " if len(request.trials) > 1 else ""):
            key = once(canonical, asked.data), asked.label
            if key not in loaded:
                splits = asked.load()
                own = make_feeds(splits, asked.data, known)
                loaded[key] = splits, own, (plan.shapes_of(own), *own.evaluation)
            splits, own, shapes = loaded[key]
            parts = (asked.label, *(once(canonical, getattr(asked, name)) for name in FITTED))
            if parts not in fitted:
                fitted[parts] = asked.fit(splits, own.decoded)
            experiment = dataclasses.replace(asked, **{name: getattr(fitted[parts], name) for name in FITTED})
            sign = plan.signature(experiment, once, data=False), shapes
            if sign not in seen and trial.name not in ended:
                check_trainable(experiment, own, prune)
                seen.add(sign)
        experiments[trial.name], feeds[trial.name] = experiment, own
    return Prepared(experiments, feeds, once)


class Outcome(NamedTuple):
    """The end of a run.

    Attributes:
      ended: True if every trial ended, which a diverged one did, too.
      experiments: the resolved experiment of each trial by name.
    """

    ended: bool
    experiments: Mapping[str, Experiment]


def run(
    request: Request,
    folder: RunFolder,
    *,
    progress: Progress,
    report: Callable[[epath.Path], Any],
    stack: str = "auto",
    prune: str | None = None,
    own_process: bool = False,
) -> Outcome:
    """Trains unfinished trials and reports.

    Args:
      request: the trials to train.
      folder: the run's folder.
      progress: receives the steps, losses and evaluations of each program.
      report: makes the report of a run's folder.
      stack: "on", "off" or "auto".
      prune: a validation metric for successive halving (`research/running/halving.py`), or None.
      own_process: this process does nothing else and may be ended at once (`Lease`).

    Raises:
      RequestError: the request is wrong; nothing has been trained.
      research.training.loop.Interrupted: somebody asked to stop; everything has been saved, and the same request
        continues from there.
      Stopped: the folder has been taken over by another launcher.
    """
    with _quiet_orbax():
        return _run(request, folder, progress, report, stack, prune, own_process)


def _run(
    request: Request,
    folder: RunFolder,
    progress: Progress,
    report: Callable[[epath.Path], Any],
    stack: str,
    prune: str | None,
    own_process: bool,
) -> Outcome:
    hosts.check_alike("the request", stable_hash(request.record()), "the same command and code in all processes")
    hosts.by_leader("the run's folder", lambda: folder.check_same(request, prune))
    halving = Halving.parse(prune, request) if prune else None
    ended = hosts.by_leader("the ended trials", lambda: _ended(folder, [trial.name for trial in request.trials]))
    with hosts.together("preparing"):
        prepared = prepare(request, halving and halving.metric, ended=ended)
    resolved = stable_hash(list(prepared.experiments.values()))
    hosts.check_alike("an experiment with its data", resolved, "the same data in all processes")
    with contextlib.ExitStack() as held:
        lease = Lease(folder.path, own_process=own_process, token=hosts.agree("the lease", uuid.uuid4().hex))
        hosts.by_leader("the run's folder", lambda: _open(folder, request, prepared, stack, prune, held, lease))
        held.enter_context(hosts.given_up(lease.give_up))
        permit = lease.check if hosts.leads() else _always
        if hosts.leads():
            trials = counted(len(prepared.experiments), "trial")
            progress.note(f"{trials} in {folder.path}; data: {_where(prepared)}")
        with local.stopping_signals() as stop:
            controls = Controls(stop, permit, progress)
            _train_all(request, folder, prepared, halving, stack, controls)
        all_ended = hosts.by_leader("the report", functools.partial(_report, folder, permit, report))
        return Outcome(all_ended, prepared.experiments)


def _always() -> None:
    """Permits every write: a process that does not lead writes checkpoints only, which process 0 completes."""


def _open(
    folder: RunFolder,
    request: Request,
    prepared: Prepared,
    stack: str,
    prune: str | None,
    held: contextlib.ExitStack,
    lease: Lease,
) -> None:
    """Takes the folder for this launcher, and writes what is asked for."""
    unwritten = folder.check_configs(prepared.experiments, prepared.once)
    try:
        held.enter_context(lease)
        folder.check_same(request, prune)  # another launcher may have been there in the meantime
        folder.write_request(request, stack, prune)
        for name in unwritten:
            folder.write_config(name, prepared.experiments[name])
    except OSError as error:
        raise RequestError(f"{folder.path}: cannot be written to: {one_line(error)}") from error


@contextlib.contextmanager
def _quiet_orbax() -> Iterator[None]:
    """Silences Orbax, which logs pages about a failed save; the loop reports it in one line."""
    verbosity = absl.logging.get_verbosity()
    absl.logging.set_verbosity(absl.logging.FATAL)
    # These stay: tasks and loops are collected later, and then told about.
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # logs the other writes of a failed save
    if getattr(sys.unraisablehook, "func", None) is not _all_but_closed_loops:
        sys.unraisablehook = functools.partial(_all_but_closed_loops, sys.unraisablehook)
    try:
        yield
    finally:
        absl.logging.set_verbosity(verbosity)


def _all_but_closed_loops(others: Callable[[Any], None], unraisable: Any) -> None:
    if str(unraisable.exc_value) != "Event loop is closed":
        others(unraisable)


def _train_all(
    request: Request,
    folder: RunFolder,
    prepared: Prepared,
    halving: Halving | None,
    stack: str,
    controls: Controls,
) -> None:
    """Trains every trial to its end."""
    cache = plan.ProgramCache()
    rungs = [*(halving.rungs if halving else ()), request.experiment.steps]
    for rung in rungs:
        if halving is not None and rung != rungs[0]:
            below, names = rungs[rungs.index(rung) - 1], list(prepared.experiments)
            hosts.by_leader("pruning", functools.partial(_prune, halving, folder, below, names, controls.permit))
        decided = [group for group in _groups(folder) if halving is None or group.until == rung]
        for group in decided:
            _train_group(group, cache, folder, prepared, controls)
        placed = {name for group in decided for name in group.trials}
        unplaced = [name for name in prepared.experiments if name not in placed]
        ended = hosts.by_leader("the ended trials", functools.partial(_ended, folder, unplaced))
        left = {name: prepared.experiments[name] for name in unplaced if name not in ended}
        until = {name: rung if rung != rungs[-1] else experiment.steps for name, experiment in left.items()}
        for step in dict.fromkeys(until.values()):
            some = {name: experiment for name, experiment in left.items() if until[name] == step}
            for undecided in plan.group(some, step, prepared.once):
                if controls.stop():
                    raise Interrupted(0)
                feeds, groups = prepared.of(undecided.trials), []
                controls.progress.placed(place(undecided.trials, prepared.experiments))
                with _failing(folder, undecided.trials, controls.permit):
                    groups = plan.decide(undecided, prepared.experiments, feeds, stack, cache)
                hosts.by_leader("the groups", functools.partial(_add_groups, folder, groups, controls.permit))
                for group in groups:
                    _train_group(group, cache, folder, prepared, controls)


def _train_group(
    group: Group,
    cache: plan.ProgramCache,
    folder: RunFolder,
    prepared: Prepared,
    controls: Controls,
) -> None:
    """Trains those trials of a group that have not reached its step yet."""
    trials = [Trial(name, prepared.experiments[name], folder.trial(name)) for name in group.trials]
    names = hosts.by_leader(
        "the unfinished trials", lambda: [t.name for t in trials if standing(t, group.until) is None]
    )
    if not names:
        return
    controls.progress.placed(place(group.trials, prepared.experiments))
    with _failing(folder, names, controls.permit):
        own, feeds = [trial.experiment for trial in trials], prepared.of(group.trials)
        programs = cache.get(own, feeds, stacked=bool(group.stacked)).programs
        local.train_group(group, prepared.experiments, feeds, folder, programs, controls)


def place(names: Collection[str], every: Collection[str]) -> str:
    """The place of trials among all of a sweep.

    >>> place(["c"], "abcde"), place(["b", "c"], "abcde"), place(["a", "e"], "abcde"), place(["a"], "a")
    ('trial 3 of 5', 'trials 2 to 3 of 5', '2 of 5 trials', '')
    """
    numbers = sorted(number for number, name in enumerate(every, 1) if name in set(names))
    if len(every) == 1:
        return ""
    if len(numbers) == 1:
        return f"trial {numbers[0]:,} of {len(every):,}"
    together = numbers[-1] - numbers[0] + 1 == len(numbers)
    return (
        f"trials {numbers[0]:,} to {numbers[-1]:,} of {len(every):,}"
        if together
        else f"{len(numbers):,} of {len(every):,} trials"
    )


@contextlib.contextmanager
def _failing(folder: RunFolder, names: Iterable[str], permit: Callable[[], None]) -> Iterator[None]:
    """An error inside, of a compiler or a device, fails these trials without affecting others."""
    try:
        yield
    except Stopped:
        raise
    except Exception as error:
        hosts.share_failure("a failure", error)
        hosts.by_leader("the failures", functools.partial(_record_failures, folder, names, error, permit))


def _record_failures(folder: RunFolder, names: Iterable[str], error: Exception, permit: Callable[[], None]) -> None:
    permit()
    for name in names:
        say(f"{name}: failed: {placed(error)}", sys.stderr)
        with contextlib.suppress(OSError):  # with a full disk, the missing result shows the failure
            record_failure(folder.trial(name), error)


def _ended(folder: RunFolder, names: Iterable[str]) -> list[str]:
    return [name for name in names if finished_status(folder.trial(name))]


def _prune(halving: Halving, folder: RunFolder, rung: int, names: list[str], permit: Callable[[], None]) -> None:
    permit()
    halving.prune(folder, rung, names)


def _add_groups(folder: RunFolder, groups: list[Group], permit: Callable[[], None]) -> None:
    permit()
    folder.add_groups(groups)


def _groups(folder: RunFolder) -> list[Group]:
    """The groups recorded in sweep.json, as process 0 reads them."""
    return [Group.from_record(r) for r in hosts.by_leader("the groups", lambda: [g.record() for g in folder.groups()])]


def _where(prepared: Prepared) -> str:
    return "; ".join(dict.fromkeys(feeds.train.reason for feeds in prepared.feeds.values()))


def _report(folder: RunFolder, permit: Callable[[], None], report: Callable[[epath.Path], Any]) -> bool:
    """Has the report made, and names the trials that did not finish; returns True if every trial ended.

    A report that cannot be made is told, but takes nothing from the results of the trials.
    """
    permit()
    try:
        report(folder.path)
    except Exception as error:  # drawing can raise anything
        say(f"the report cannot be made: {one_line(error)}", sys.stderr)
    ended = True
    for trial in read_json(folder.sweep_file)["trials"]:
        result = read_record(folder.trial(trial["name"]) / "result.json")
        if result.get("status") != "finished":
            say(f"{trial['name']}: {result.get('status')}: {result.get('error', 'no result')}", sys.stderr)
        ended = ended and result.get("status") in ("finished", "diverged")
    return ended
