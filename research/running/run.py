"""Runs a request: checks it, plans it, trains its trials and has it reported."""

from __future__ import annotations

import contextlib
import functools
import logging
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import absl.logging
from etils import epath

from research.config.serialization import stable_hash
from research.console import counted, say
from research.errors import RequestError, one_line
from research.experiment import Experiment
from research.parallel import hosts
from research.running import local
from research.running.folder import RunFolder
from research.running.halving import Halving
from research.running.kept_programs import keep_programs
from research.running.lease import Lease
from research.running.local import Controls
from research.running.prepared import Prepared, prepare
from research.running.request import Request
from research.running.training import Training, finished
from research.training.progress import Progress
from research.training.records import read_json, read_record


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
    told = keep_programs()
    hosts.check_alike("the request", stable_hash(request.record()), "the same command and code in all processes")
    hosts.by_leader("the run's folder", lambda: folder.check_same(request, prune))
    halving = Halving.parse(prune, request) if prune else None
    ended = hosts.by_leader("the ended trials", lambda: finished(folder, [trial.name for trial in request.trials]))
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
            if told:
                progress.note(told)
            trials = counted(len(prepared.experiments), "trial")
            progress.note(f"{trials} in {folder.path}; data: {_where(prepared)}")
        with local.stopping_signals() as stop:
            controls = Controls(stop, permit, progress, request.callbacks)
            Training(request, folder, prepared, halving, stack, controls, own_process).run()
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
