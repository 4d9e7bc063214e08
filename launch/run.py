"""`launch run`: a request, planned, trained and reported."""

from __future__ import annotations

import dataclasses
import sys
import traceback
from collections.abc import Callable, Iterable

from launch import plan
from launch.backends import local
from launch.folder import Lease, RunFolder
from launch.halving import Halving
from launch.plan import Group
from launch.request import Request
from research.errors import RequestError
from research.experiment import Experiment
from research.loop import Feeds, Interrupted, check_trainable, finished_status, make_feeds, one_line
from research.records import read_json, write_json
from research.serialization import canonical


@dataclasses.dataclass(frozen=True)
class Prepared:
    """The trials of a request with their data at hand: resolved, and known to fit together."""

    experiments: dict[str, Experiment]
    feeds: dict[str, Feeds]

    def of(self, names: Iterable[str]) -> Feeds:
        """The data of a group's trials, which share it."""
        return self.feeds[next(iter(names))]


def prepare(request: Request) -> Prepared:
    """Loads the data, resolves every trial's experiment and holds model, task, data and optimizer against each other.

    Raises:
      RequestError: something does not fit; nothing has been compiled or written.
    """
    loaded: dict[str, tuple] = {}
    experiments, feeds, seen = {}, {}, set()
    for trial in request.trials:
        key = canonical(trial.experiment.data)
        if key not in loaded:
            loaded[key] = make_feeds(trial.experiment.data)
        splits, own = loaded[key]
        try:
            experiment = trial.experiment.fit(splits)
            if (sign := plan.signature(experiment)) not in seen:
                check_trainable(experiment, own)
                seen.add(sign)
        except RequestError as error:
            raise RequestError(f"{trial.name}: {error}" if len(request.trials) > 1 else str(error)) from None
        experiments[trial.name], feeds[trial.name] = experiment, own
    return Prepared(experiments, feeds)


def run(request: Request, out: str | None, *, stack: str = "auto", prune: str | None = None) -> int:
    """Trains what is not finished yet and reports; the exit status of the command.

    Args:
      request: what to train.
      out: the run's folder; None is runs/EXPERIMENT/SWEEP.
      stack: "on", "off" or "auto".
      prune: a validation metric to drop hopeless trials by (`launch/halving.py`), or None.

    Raises:
      RequestError: the request is wrong; nothing has been trained.
    """
    folder = RunFolder(out or request.default_folder)
    folder.check_same(request)
    halving = Halving.parse(prune, request) if prune else None
    prepared = prepare(request)
    with Lease(folder):
        folder.write_request(request, stack, prune)
        for name, experiment in prepared.experiments.items():
            folder.write_config(name, experiment)
        print(f"{len(prepared.experiments)} trials in {folder.path}; data: {_where(prepared)}", file=sys.stderr)
        with local.stopping_signals() as stop:
            try:
                _train_all(request, folder, prepared, halving, stack, stop)
            except Interrupted as interrupted:
                print(f"{interrupted}; the same command continues from there", file=sys.stderr)
                return 1
    return _report(folder)


def _train_all(
    request: Request,
    folder: RunFolder,
    prepared: Prepared,
    halving: Halving | None,
    stack: str,
    stop: Callable[[], bool],
) -> None:
    rungs = [*(halving.rungs if halving else ()), request.experiment.steps]
    for rung in rungs:
        if halving is not None and rung != rungs[0]:
            halving.prune(folder, rungs[rungs.index(rung) - 1], list(prepared.experiments))
        decided = [group for group in folder.groups() if group.until == rung]
        for group in decided:
            _train_group(group, None, folder, prepared, stop)
        placed = {name for group in decided for name in group.trials}
        left = {
            name: experiment
            for name, experiment in prepared.experiments.items()
            if name not in placed and not finished_status(folder.trial(name))
        }
        until = {name: rung if rung != rungs[-1] else experiment.steps for name, experiment in left.items()}
        for step in dict.fromkeys(until.values()):
            some = {name: experiment for name, experiment in left.items() if until[name] == step}
            for undecided in plan.group(some, step):
                if stop():
                    raise Interrupted(0)
                feeds = prepared.of(undecided.trials)
                for group, programs in plan.decide(undecided, prepared.experiments, feeds, stack):
                    folder.write_groups([*folder.groups(), group])
                    _train_group(group, programs, folder, prepared, stop)


def _train_group(group: Group, programs, folder: RunFolder, prepared: Prepared, stop: Callable[[], bool]) -> None:
    """Trains a group; what goes wrong fails its unfinished trials and leaves the other groups alone."""
    names = [name for name in group.trials if not finished_status(folder.trial(name))]
    if not names:
        return
    try:
        local.train_group(group, prepared.experiments, prepared.of(group.trials), folder, programs, stop)
    except (Interrupted, KeyboardInterrupt):
        raise
    except Exception as error:  # whatever a model, an XLA program or a disk can raise
        print(f"{names[0]}: {one_line(error)}", file=sys.stderr)
        for name in names:
            if not finished_status(folder.trial(name)):
                _record_failure(folder, name, error)


def _record_failure(folder: RunFolder, name: str, error: Exception) -> None:
    try:
        write_json(folder.trial(name) / "result.json", {"status": "failed", "metrics": {}, "error": one_line(error)})
        (folder.trial(name) / "error.txt").write_text("".join(traceback.format_exception(error)))
    except OSError as second:
        print(f"{name}: its result could not be written: {one_line(second)}", file=sys.stderr)


def _where(prepared: Prepared) -> str:
    return "; ".join(dict.fromkeys(feeds.train.reason for feeds in prepared.feeds.values()))


def _report(folder: RunFolder) -> int:
    """Prints the table and where the report is; 0 if every trial ended, 1 if some failed."""
    from launch.report import report, terminal_table

    made = report([folder.path])
    terminal_table([folder.path])
    print(made.html)
    sweep = read_json(folder.sweep_file)
    statuses = {
        trial["name"]: read_json(folder.trial(trial["name"]) / "result.json") or {} for trial in sweep["trials"]
    }
    for name, result in statuses.items():
        if result.get("status") in ("failed", "diverged", None):
            print(f"{name}: {result.get('status', 'missing')}: {result.get('error', 'no result')}", file=sys.stderr)
    ended = all(result.get("status") in ("finished", "diverged") for result in statuses.values())
    return 0 if ended else 1
