"""Runs as values: what was asked of each trial, and what its folder holds."""

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
    """One metric of one trial on one split: `values[i]` was logged at `steps[i]`; both `[points]`, steps ascending."""

    steps: np.ndarray
    values: np.ndarray


@dataclasses.dataclass(frozen=True)
class Trial:
    """One training: what was asked of it and what its folder holds.

    Attributes:
      status: `result.json`'s, except that a finished trial which the sweep stopped early is `pruned`, one without
        `result.json` is `missing`, and one whose `result.json` cannot be understood is `unreadable`.
      metrics: finite numbers only, as `"test/accuracy"`; a NaN is left out, so that n shows it.  Where a best
        checkpoint was kept, the validation metrics are those at its step.
      better: which way each metric is better, by name or pattern, as the task declares it.
      curves: by `(split, metric)`.
      starved_seconds: the part of `seconds` in which the device waited for a batch.
      cut_lines: lines of metrics.jsonl that were skipped because they are not whole.
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
    starved_seconds: float | None = None
    stacked: int | None = None
    parameters: int | None = None
    pruned_at_step: int | None = None
    best_step: int | None = None
    error: str = ""
    config: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    better: Mapping[str, Direction] = dataclasses.field(default_factory=dict)
    curves: Mapping[tuple[str, str], Curve] = dataclasses.field(default_factory=dict)
    cut_lines: int = 0


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
    """A folder that `launch run` wrote: sweep.json and the trials, in the order in which they were asked for.

    Attributes:
      metric: the one that the run itself chose by, trials or checkpoints, if it did.
      command: asks for the same run again.
      date: day on which it was asked for.
      label: tells this run from the others in the same report; empty if it is alone.
    """

    folder: str
    experiment: str
    sweep: str
    trials: tuple[Trial, ...]
    baseline: str | None = None
    commit: str = ""
    hash: str = ""
    versions: Mapping[str, str] = dataclasses.field(default_factory=dict)
    protocol: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    command: str = ""
    metric: str = ""
    date: str = ""
    label: str = ""

    @functools.cached_property
    def by_variant(self) -> Mapping[str, tuple[Trial, ...]]:
        """The trials of each variant."""
        found: dict[str, list[Trial]] = {}
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
        """Whether the variants are compared with a baseline, rather than chosen from."""
        return self.baseline in self.by_variant and len(self.by_variant) > 1

    @property
    def short_name(self) -> str:
        """The experiment's last word."""
        return self.experiment.removesuffix(".py").replace("/", ".").split(".")[-1]

    @property
    def short_commit(self) -> str:
        """Twelve digits of the commit, and whether the working tree differed from it."""
        commit, plus, changes = self.commit.partition("+")
        return commit[:12] + plus + changes

    def of(self, variant: str) -> tuple[Trial, ...]:
        """The trials of one variant."""
        return self.by_variant.get(variant, ())

    def direction(self, metric: str) -> Direction | None:
        """Which way a metric is better; None where no task declares it, or two of them differ."""
        if metric not in self._directions:
            found = {direction(better, metric) for better in self._declarations} - {None}
            self._directions[metric] = found.pop() if len(found) == 1 else None
        return self._directions[metric]

    @functools.cached_property
    def crossed(self) -> tuple[str, ...]:
        """The paths that every variant is repeated over: `seed`, and those with several values within one variant."""
        paths = {"seed": None}
        for trials in self.by_variant.values():
            for path in dict.fromkeys(path for trial in trials for path in trial.overrides):
                if any(not same(trial.overrides.get(path), trials[0].overrides.get(path)) for trial in trials):
                    paths[path] = None
        return tuple(paths)

    @functools.cached_property
    def varied(self) -> tuple[str, ...]:
        """The dotted paths in which variants differ, apart from what all of them are repeated over."""
        paths = dict.fromkeys(path for trial in self.trials for path in trial.overrides if path not in self.crossed)
        return tuple(path for path in paths if len({repr(self.value(v, path)) for v in self.by_variant}) > 1)

    def value(self, variant: str, path: str) -> Any:
        """The value of `path` in a variant: what it overrides, else what its resolved config says, else None."""
        for trial in self.of(variant):
            if path in trial.overrides:
                return trial.overrides[path]
        return next((lookup(trial.config, path) for trial in self.of(variant) if trial.config), None)

    @functools.cached_property
    def _declarations(self) -> tuple[Mapping[str, Direction], ...]:
        """The different declarations among the trials: one, as a rule."""
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
    """Equality of JSON values that keeps 1 and True apart."""
    return type(a) is type(b) and a == b if isinstance(a, bool) or isinstance(b, bool) else a == b
