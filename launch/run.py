"""`launch run`: plans, trains and reports a request."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import sys
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any

import absl.logging

from launch import plan
from launch.backends import local
from launch.folder import RunFolder
from launch.halving import Halving
from launch.lease import Lease
from launch.plan import Group
from launch.request import Request
from research.config.once import Once
from research.config.serialization import canonical
from research.console import counted, say
from research.data.feeds import Feeds, KnownFeeds, make_feeds
from research.errors import RequestError, in_one_line, one_line, placed
from research.experiment import FITTED, Experiment
from research.training.check import check_trainable
from research.training.loop import Interrupted
from research.training.records import read_json
from research.training.trial import Stopped, Trial, finished_status, record_failure, standing


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


def run(
    request: Request, out: str | None, *, stack: str = "auto", prune: str | None = None, own_process: bool = False
) -> int:
    """Trains unfinished trials and reports; returns the exit status of the command.

    Args:
      request: the trials to train.
      out: the run's folder; None means runs/EXPERIMENT/SWEEP.
      stack: "on", "off" or "auto".
      prune: a validation metric for successive halving (`launch/halving.py`), or None.
      own_process: this process does nothing else and may be ended at once (`Lease`).

    Raises:
      RequestError: the request is wrong; nothing has been trained.
    """
    _quieten_orbax()
    folder = RunFolder(out or request.default_folder)
    folder.check_same(request, prune)
    halving = Halving.parse(prune, request) if prune else None
    ended = {trial.name for trial in request.trials if finished_status(folder.trial(trial.name))}
    prepared = prepare(request, halving and halving.metric, ended=ended)
    unwritten = folder.check_configs(prepared.experiments, prepared.once)
    with contextlib.ExitStack() as held:
        try:
            lease = held.enter_context(Lease(folder.path, own_process=own_process))
            folder.check_same(request, prune)  # another launcher may have been there in the meantime
            folder.write_request(request, stack, prune)
            for name in unwritten:
                folder.write_config(name, prepared.experiments[name])
        except OSError as error:
            raise RequestError(f"{folder.path}: cannot be written to: {one_line(error)}") from error
        trials = counted(len(prepared.experiments), "trial")
        say(f"{trials} in {folder.path}; data: {_where(prepared)}", sys.stderr)
        try:
            with local.stopping_signals() as stop:
                _train_all(request, folder, prepared, halving, stack, stop, lease.check)
            lease.check()
            return _report(folder)
        except Interrupted as interrupted:
            say(f"{interrupted}; the same command continues from there", sys.stderr)
            return 1
        except Stopped as stopped:
            say(str(stopped), sys.stderr)
            return 1


def _quieten_orbax() -> None:
    """Silences Orbax, which logs pages about a failed save; the loop reports it in one line."""
    absl.logging.set_verbosity(absl.logging.FATAL)
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # logs the other writes of a failed save
    sys.unraisablehook = _all_but_closed_loops


def _all_but_closed_loops(unraisable: Any, others: Callable[[Any], None] = sys.unraisablehook) -> None:
    if str(unraisable.exc_value) != "Event loop is closed":
        others(unraisable)


def _train_all(
    request: Request,
    folder: RunFolder,
    prepared: Prepared,
    halving: Halving | None,
    stack: str,
    stop: Callable[[], bool],
    permit: Callable[[], None],
) -> None:
    """Trains every trial to its end; `permit` is called before each write."""
    cache = plan.ProgramCache()
    rungs = [*(halving.rungs if halving else ()), request.experiment.steps]
    for rung in rungs:
        if halving is not None and rung != rungs[0]:
            permit()
            halving.prune(folder, rungs[rungs.index(rung) - 1], list(prepared.experiments))
        decided = [group for group in folder.groups() if halving is None or group.until == rung]
        for group in decided:
            _train_group(group, cache, folder, prepared, stop, permit)
        placed = {name for group in decided for name in group.trials}
        left = {
            name: experiment
            for name, experiment in prepared.experiments.items()
            if name not in placed and not finished_status(folder.trial(name))
        }
        until = {name: rung if rung != rungs[-1] else experiment.steps for name, experiment in left.items()}
        for step in dict.fromkeys(until.values()):
            some = {name: experiment for name, experiment in left.items() if until[name] == step}
            for undecided in plan.group(some, step, prepared.once):
                if stop():
                    raise Interrupted(0)
                feeds, groups = prepared.of(undecided.trials), []
                with _failing(folder, undecided.trials, permit):
                    groups = plan.decide(undecided, prepared.experiments, feeds, stack, cache)
                permit()
                folder.add_groups(groups)
                for group in groups:
                    _train_group(group, cache, folder, prepared, stop, permit)


def _train_group(
    group: Group,
    cache: plan.ProgramCache,
    folder: RunFolder,
    prepared: Prepared,
    stop: Callable[[], bool],
    permit: Callable[[], None],
) -> None:
    """Trains those trials of a group that have not reached its step yet."""
    trials = [Trial(name, prepared.experiments[name], folder.trial(name)) for name in group.trials]
    names = [trial.name for trial in trials if standing(trial, group.until) is None]
    if not names:
        return
    with _failing(folder, names, permit):
        own, feeds = [trial.experiment for trial in trials], prepared.of(group.trials)
        programs = cache.get(own, feeds, stacked=bool(group.stacked)).programs
        local.train_group(group, prepared.experiments, feeds, folder, programs, stop, permit)


@contextlib.contextmanager
def _failing(folder: RunFolder, names: Iterable[str], permit: Callable[[], None]) -> Iterator[None]:
    """An error inside, of a compiler or a device, fails these trials without affecting others."""
    try:
        yield
    except Stopped:
        raise
    except Exception as error:
        permit()
        for name in names:
            say(f"{name}: failed: {placed(error)}", sys.stderr)
            with contextlib.suppress(OSError):  # with a full disk, the missing result shows the failure
                record_failure(folder.trial(name), error)


def _where(prepared: Prepared) -> str:
    return "; ".join(dict.fromkeys(feeds.train.reason for feeds in prepared.feeds.values()))


def _report(folder: RunFolder) -> int:
    """Writes the report and prints its table; returns 0 if every trial ended, 1 if some failed.

    A report that cannot be made is told, but takes nothing from the results of the trials.
    """
    from launch.reporting import report

    try:
        report([folder.path])
    except Exception as error:  # drawing can raise anything
        say(f"the report cannot be made: {one_line(error)}", sys.stderr)
    ended = True
    for trial in read_json(folder.sweep_file)["trials"]:
        result = read_json(folder.trial(trial["name"]) / "result.json")
        result = result if isinstance(result, dict) else {}
        if result.get("status") != "finished":
            say(f"{trial['name']}: {result.get('status')}: {result.get('error', 'no result')}", sys.stderr)
        ended = ended and result.get("status") in ("finished", "diverged")
    return 0 if ended else 1
