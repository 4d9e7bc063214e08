"""Trains all trials of a run: group by group, rung by rung, with the next programs compiled ahead."""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import NamedTuple

from research.console import say
from research.errors import Stopped, placed
from research.experiment import Experiment
from research.parallel import hosts
from research.running import local, plan
from research.running.ahead import Ahead
from research.running.folder import RunFolder
from research.running.halving import Halving
from research.running.local import Controls
from research.running.plan import Group
from research.running.prepared import Prepared
from research.running.request import Request
from research.training.loop import Interrupted
from research.training.trial import Trial, finished_status, record_failure, standing


class Program(NamedTuple):
    """The number of a program in a sweep, from 1, and the number of all up to the next pruning."""

    number: int = 1
    of: int = 1


class Training:
    """Trains the trials of a run, each to its end.

    Args:
      request: the trials.
      folder: the run's folder.
      prepared: their data and resolved experiments.
      halving: prunes trials, or None.
      stack: "on", "off" or "auto".
      controls: the callbacks of the run.
      own_process: this process does nothing else.
    """

    def __init__(
        self,
        request: Request,
        folder: RunFolder,
        prepared: Prepared,
        halving: Halving | None,
        stack: str,
        controls: Controls,
        own_process: bool,
    ):
        self._folder, self._prepared, self._stack, self._controls = folder, prepared, stack, controls
        self._halving = halving
        self._rungs = [*(halving.rungs if halving else ()), request.experiment.steps]
        self._cache = plan.ProgramCache()
        self._ahead = Ahead(self._cache, own_process=own_process)

    def run(self) -> None:
        """Trains every trial to its end.

        Raises:
          Interrupted: somebody asked to stop; everything has been saved.
          Stopped: nothing may be written any more.
        """
        for below, rung in zip([None, *self._rungs], self._rungs, strict=False):
            if below is not None:
                hosts.by_leader("pruning", functools.partial(self._prune, below))
            coming = self._coming(rung)
            for i, group in enumerate(coming):
                place = place_of(group.trials, self._prepared.experiments, Program(i + 1, len(coming)))
                left = sum(g.until * len(g.trials) for g in coming[i:])
                tell = functools.partial(self._controls.progress.placed, place, left)
                decided = self._decided(group, tell)
                for j, own in enumerate(decided):
                    following = [*decided[j + 1 :], *coming[i + 1 :]]
                    self._train(own, tell, following[0] if following else None)

    def _coming(self, rung: int) -> list[Group]:
        """The groups to train up to a rung: those that sweep.json has, then those of which nothing is decided."""
        last = rung == self._rungs[-1]
        decided = [group for group in _groups(self._folder) if len(self._rungs) == 1 or group.until == rung]
        known = {name for group in decided for name in group.trials}
        unplaced = [name for name in self._prepared.experiments if name not in known]
        ended = hosts.by_leader("the ended trials", functools.partial(finished, self._folder, unplaced))
        left: dict[int, dict[str, Experiment]] = {}
        for name in unplaced:
            if name not in ended:
                experiment = self._prepared.experiments[name]
                left.setdefault(experiment.steps if last else rung, {})[name] = experiment
        return [*decided, *(g for step, own in left.items() for g in plan.group(own, step, self._prepared.once))]

    def _decided(self, group: Group, tell: Callable[[], None]) -> list[Group]:
        """The groups, with a decision about stacking, that a group is trained as."""
        if group.stacked is not None:
            return [group]
        if self._controls.stop():
            raise Interrupted(0)
        tell()
        decided = []
        with self._failing(group.trials):
            experiments, feeds = self._prepared.experiments, self._prepared.of(group.trials)
            decided = plan.decide(group, experiments, feeds, self._stack, self._cache)
        hosts.by_leader("the groups", functools.partial(self._add_groups, decided))
        return decided

    def _train(self, group: Group, tell: Callable[[], None], following: Group | None) -> None:
        """Trains those trials of a group that have not reached its step yet, and compiles for the following group."""
        trials = [Trial(name, self._prepared.experiments[name], self._folder.trial(name)) for name in group.trials]
        names = hosts.by_leader(
            "the unfinished trials", lambda: [t.name for t in trials if standing(t, group.until) is None]
        )
        if not names:
            return
        tell()
        with self._failing(names):
            own, feeds = [trial.experiment for trial in trials], self._prepared.of(group.trials)
            programs = self._cache.get(own, feeds, stacked=bool(group.stacked)).programs
            if following is not None:
                self._compile_ahead(following)
            local.train_group(group, self._prepared.experiments, feeds, self._folder, programs, self._controls)

    def _compile_ahead(self, group: Group) -> None:
        """Starts to compile the first program that a group will need."""
        own = [self._prepared.experiments[name] for name in group.trials]
        stacked = group.stacked
        if stacked is None:
            stacked = self._stack == "on" and 1 < len(own) <= plan.MOST_STACKED
        self._ahead.start(own, self._prepared.of(group.trials), stacked=stacked)

    @contextlib.contextmanager
    def _failing(self, names: Iterable[str]) -> Iterator[None]:
        """An error inside, of a compiler or a device, fails these trials without affecting others."""
        try:
            yield
        except Stopped:
            raise
        except Exception as error:
            hosts.share_failure("a failure", error)
            hosts.by_leader("the failures", functools.partial(self._record_failures, names, error))

    def _record_failures(self, names: Iterable[str], error: Exception) -> None:
        self._controls.permit()
        for name in names:
            say(f"{name}: failed: {placed(error)}", sys.stderr)
            with contextlib.suppress(OSError):  # with a full disk, the missing result shows the failure
                record_failure(self._folder.trial(name), error)

    def _prune(self, rung: int) -> None:
        self._controls.permit()
        self._halving.prune(self._folder, rung, list(self._prepared.experiments))

    def _add_groups(self, groups: list[Group]) -> None:
        self._controls.permit()
        self._folder.add_groups(groups)


def place_of(names: Collection[str], every: Collection[str], program: Program = Program()) -> str:  # noqa: B008
    """The place of trials, and of their program, in a sweep; "" if there is only one trial.

    >>> place_of(["c"], "abcde"), place_of(["b", "c"], "abcde"), place_of(["a", "e"], "abcde")
    ('trial 3 of 5', 'trials 2 to 3 of 5', '2 of 5 trials')
    >>> place_of(["b", "c"], "abcde", Program(2, 4))
    'trials 2 to 3 of 5, program 2 of 4'
    """
    numbers = sorted(number for number, name in enumerate(every, 1) if name in set(names))
    if len(every) == 1:
        return ""
    if len(numbers) == 1:
        trials = f"trial {numbers[0]:,} of {len(every):,}"
    elif numbers[-1] - numbers[0] + 1 == len(numbers):
        trials = f"trials {numbers[0]:,} to {numbers[-1]:,} of {len(every):,}"
    else:
        trials = f"{len(numbers):,} of {len(every):,} trials"
    return trials if program.of in (1, len(every)) else f"{trials}, program {program.number:,} of {program.of:,}"


def finished(folder: RunFolder, names: Iterable[str]) -> list[str]:
    """Those of the named trials that have ended."""
    return [name for name in names if finished_status(folder.trial(name))]


def _groups(folder: RunFolder) -> list[Group]:
    """The groups recorded in sweep.json, as process 0 reads them."""
    return [Group.from_record(r) for r in hosts.by_leader("the groups", lambda: [g.record() for g in folder.groups()])]
