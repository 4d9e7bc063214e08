"""Runs as values: the request for each trial, and the content of its folder."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from research.metrics.directions import Direction, direction

Status = Literal["finished", "pruned", "diverged", "failed", "missing", "unreadable"]

STATUSES: tuple[Status, ...] = ("finished", "pruned", "diverged", "failed", "missing", "unreadable")


@dataclasses.dataclass(frozen=True)
class Curve:
    """One metric of a trial on one split: `values[i]` was logged at `steps[i]`; both `[points]`, by ascending step."""

    steps: np.ndarray
    values: np.ndarray


@dataclasses.dataclass(frozen=True)
class TrialResult:
    """One training: its request and the content of its folder.

    Attributes:
      status: from `result.json`, except that a finished trial that the sweep stopped early is `pruned`, a trial without
        `result.json` is `missing`, and a trial with an invalid `result.json` is `unreadable`.
      metrics: finite numbers by name, such as `"test/accuracy"`; NaN is left out, so that n shows it.  If a best
        checkpoint was kept, metrics of evaluations during training are those at its step.
      better: the direction of each metric, by name or pattern, as declared by the task.
      stopped_at_step: the step at which early stopping ended the trial.
      curves: by `(split, metric)`.
      mfu: the model FLOPs utilisation of the devices, if their FLOP/s are published.
      starved_seconds: the part of `seconds` in which the device waited for a batch.
      storage: the phrase of `Feed.reason`, which says where the training data were kept.
      cut_lines: the number of incomplete lines of metrics.jsonl, which are skipped.
    """

    name: str
    variant: str
    seed: int | None = None
    overrides: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    hash: str = ""
    status: Status = "missing"
    metrics: Mapping[str, float] = dataclasses.field(default_factory=dict)
    steps: int | None = None
    seconds: float | None = None
    steps_per_second: float | None = None
    mfu: float | None = None
    starved_seconds: float | None = None
    storage: str = ""
    stacked: int | None = None
    parameters: int | None = None
    pruned_at_step: int | None = None
    stopped_at_step: int | None = None
    best_step: int | None = None
    error: str = ""
    config: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    better: Mapping[str, Direction] = dataclasses.field(default_factory=dict)
    curves: Mapping[tuple[str, str], Curve] = dataclasses.field(default_factory=dict)
    cut_lines: int = 0


@dataclasses.dataclass(frozen=True, eq=False)
class RunResult:
    """A folder written by `launch run`: sweep.json and the trials, in the order of the request.

    Attributes:
      metric: the metric by which the run itself selected trials or checkpoints, if it did.
      command: a command that makes the same request.
      date: the date of the run.
      headline: patterns of the metrics that the task shows in a table; () shows all.
      label: distinguishes the runs of a report; empty for a single run.
    """

    folder: str
    experiment: str
    sweep: str
    trials: tuple[TrialResult, ...]
    baseline: str | None = None
    commit: str = ""
    hash: str = ""
    versions: Mapping[str, str] = dataclasses.field(default_factory=dict)
    protocol: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    command: str = ""
    metric: str = ""
    date: str = ""
    headline: tuple[str, ...] = ()
    label: str = ""

    @functools.cached_property
    def by_variant(self) -> Mapping[str, tuple[TrialResult, ...]]:
        """The trials of each variant."""
        found: dict[str, list[TrialResult]] = {}
        for trial in self.trials:
            found.setdefault(trial.variant, []).append(trial)
        return {variant: tuple(trials) for variant, trials in found.items()}

    @property
    def variants(self) -> tuple[str, ...]:
        return tuple(self.by_variant)

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(sorted({trial.seed for trial in self.trials if trial.seed is not None}))

    @property
    def compares(self) -> bool:
        """True if variants are compared with a baseline, instead of choosing the best one."""
        return self.baseline in self.by_variant and len(self.by_variant) > 1

    @property
    def short_name(self) -> str:
        """The last word of the experiment's name."""
        return self.experiment.removesuffix(".py").replace("/", ".").split(".")[-1]

    @property
    def short_commit(self) -> str:
        """Twelve digits of the commit, and a mark if the working tree differed from it."""
        commit, plus, changes = self.commit.partition("+")
        return commit[:12] + plus + changes

    def of(self, variant: str) -> tuple[TrialResult, ...]:
        """The trials of one variant."""
        return self.by_variant.get(variant, ())

    def direction(self, metric: str) -> Direction | None:
        """The direction of a metric; None if no task declares it, or if declarations differ."""
        if metric not in self._directions:
            found = {direction(better, metric) for better in self._declarations} - {None}
            self._directions[metric] = found.pop() if len(found) == 1 else None
        return self._directions[metric]

    @functools.cached_property
    def crossed(self) -> tuple[str, ...]:
        """The paths over which every variant is repeated: `seed`, and those with several values within a variant."""
        paths = {"seed": None}
        for trials in self.by_variant.values():
            for path in dict.fromkeys(path for trial in trials for path in trial.overrides):
                if any(not same(trial.overrides.get(path), trials[0].overrides.get(path)) for trial in trials):
                    paths[path] = None
        return tuple(paths)

    @functools.cached_property
    def varied(self) -> tuple[str, ...]:
        """The dotted paths in which variants differ, apart from repeats."""
        paths = dict.fromkeys(path for trial in self.trials for path in trial.overrides if path not in self.crossed)
        return tuple(path for path in paths if len({repr(self.value(v, path)) for v in self.by_variant}) > 1)

    def value(self, variant: str, path: str) -> Any:
        """The value at `path` for a variant: its override, or else from its resolved config, or else None."""
        for trial in self.of(variant):
            if path in trial.overrides:
                return trial.overrides[path]
        return next((lookup(trial.config, path) for trial in self.of(variant) if trial.config), None)

    @functools.cached_property
    def _declarations(self) -> tuple[Mapping[str, Direction], ...]:
        """The different declarations among the trials; usually one."""
        return tuple({repr(sorted(trial.better.items())): trial.better for trial in self.trials}.values())

    @functools.cached_property
    def _directions(self) -> dict[str, Direction | None]:
        return {}


def lookup(config: Mapping[str, Any], path: str, default: Any = None) -> Any:
    """The value at a dotted path of config.json (`"model.depth"`, `"data.transforms.0.size"`), or `default`."""
    roots = [config, config.get("experiment")] if isinstance(config, Mapping) else []
    for node in roots:
        for key in path.split("."):
            if isinstance(node, Mapping) and key in node:
                node = node[key]
            elif isinstance(node, list) and key.isdigit() and int(key) < len(node):
                node = node[int(key)]
            else:
                break
        else:
            return node
    return default


def same(a: Any, b: Any) -> bool:
    """Compares JSON values; 1 and True differ."""
    return type(a) is type(b) and a == b if isinstance(a, bool) or isinstance(b, bool) else a == b
