"""Selects the metrics of a table, and those that may choose the best variant.

A validation score chooses; the test score is shown next to it.  A sweep with a baseline compares its variants and
chooses none.  Runs with different examples are never ranked together.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from research.metrics.directions import Direction
from research.report import numbers
from research.report.runs import RunResult, lookup
from research.report.statistics import that_count


@dataclasses.dataclass(frozen=True)
class Criterion:
    """The metrics that judge the variants of a run.

    Attributes:
      score: the stated metric, on the test split if it was scored; empty if nothing was scored.
      chooser: the validation metric that ranks variants; None if there is none.
      direction: the direction of `chooser`; without one, nothing is chosen.
    """

    score: str = ""
    chooser: str | None = None
    direction: Direction | None = None

    @property
    def chooses(self) -> bool:
        return self.chooser is not None and self.direction is not None


def criterion(run: RunResult) -> Criterion:
    """The metric that the run itself selected by, or else a score, an error or the loss; with its validation metric."""
    shown = _stated(run)
    if not shown:
        return Criterion()
    names = _names(run)
    wanted = run.metric.rpartition("/")[2]
    first = [name for name in shown if _evaluation(name) == _evaluation(shown[0])]
    same = [name for name in first if name.rpartition("/")[2] == wanted]
    score = same[0] if same else run.metric if run.metric in shown else _main(run, first)
    twin = f"validation/{score.rpartition('/')[2]}"
    chooser = next((name for name in (run.metric, twin) if name in names and _evaluation(name) != "test"), None)
    return Criterion(score, chooser, None if chooser is None else run.direction(chooser))


def columns(run: RunResult, several: bool) -> tuple[str, ...]:
    """The metrics of a run's table: the stated ones; the ranking metric comes first if there are `several` rows."""
    found = criterion(run)
    ranks = [found.chooser] if several and found.chooser is not None else []
    first = [found.score, *ranks] if run.compares else [*ranks, found.score]
    return tuple(dict.fromkeys(name for name in (*first, *_stated(run)) if name))


def scored(run: RunResult) -> tuple[str, ...]:
    """All metrics of evaluations, those of `columns` and those of validation beside them."""
    return tuple(name for name in _names(run) if _evaluation(name) not in ("train", ""))


def headline(run: RunResult, metrics: Sequence[str], found: Criterion) -> list[str]:
    """The metrics that the table shows unless the author chooses others: those that the task calls its headline."""
    if not run.headline:
        return list(metrics)
    judged = (found.score, found.chooser)
    return [name for name in metrics if name in judged or matches_any(name.rpartition("/")[2], run.headline)]


def matches_any(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _names(run: RunResult) -> list[str]:
    return list(dict.fromkeys(name for trial in that_count(run.trials) or run.trials for name in trial.metrics))


def _stated(run: RunResult) -> list[str]:
    """The metrics of the test split and of other evaluations, test first; or else those of validation."""
    names = _names(run)
    stated = [name for name in names if _evaluation(name) not in ("train", "validation", "")]
    return sorted(stated, key=lambda name: _evaluation(name) != "test") or [
        name for name in names if _evaluation(name) == "validation"
    ]


def _evaluation(metric: str) -> str:
    return metric.rpartition("/")[0]


def _main(run: RunResult, names: Sequence[str]) -> str:
    """The first score among `names`, or else the first error, or else the loss, if every scored variant has it."""
    variants = [[trial.metrics for trial in that_count(run.of(variant))] for variant in run.variants]
    shared = [name for name in names if all(any(name in found for found in own) for own in variants if any(own))]

    def rank(name: str) -> int:
        objective = name.endswith("/loss")  # the training objective, the last resort to judge a task by
        return {"max": 0, "min": 2 if objective else 1, None: 3}[run.direction(name)]

    return min(shared or names, key=rank)


# Runs side by side --------------------------------------------------------------------------------

_SAME_EXAMPLES = frozenset({"storage", "workers", "train_examples", "class_names"})
"""Fields of data specs that do not change the examples of validation and test."""


def comparable(runs: Sequence[RunResult]) -> list[list[RunResult]]:
    """Groups the runs whose scores can be ranked together: the same validation and test examples, and the same metric.

    If a run's config.json does not describe its data, the experiment's name is compared instead.
    """
    groups: dict[tuple, list[RunResult]] = {}
    for run in runs:
        found = criterion(run)
        groups.setdefault((_examples(run) or run.experiment, found.chooser, found.direction), []).append(run)
    return list(groups.values())


def differing_data(runs: Iterable[RunResult]) -> str:
    """Describes how the data of runs differ: `data.name: digits, wine`; empty if equal or unknown."""
    found = {}
    for run in runs:
        data = next((lookup(trial.config, "data") for trial in run.trials if trial.config), None)
        if isinstance(data, Mapping):
            found.setdefault(_examples(run), dict(_leaves(_evaluated(data), "data")))
    several = list(found.values())
    for path in dict.fromkeys(path for data in several for path in data):
        values = dict.fromkeys(numbers.value(data.get(path)) for data in several)
        if len(values) > 1:
            kind = path.endswith("._type")
            shown = [value.rpartition(":")[2] if kind else value for value in values]
            return f"{path.removesuffix('._type')}: {', '.join(shown)}"
    return ""


def varied_data(run: RunResult) -> str:
    """Describes how the data of the variants of a run differ, `data.name: digits, wine`; empty if they do not."""
    for path in run.varied:
        if path.partition(".")[0] == "data" and path.rpartition(".")[2] not in _SAME_EXAMPLES:
            values = dict.fromkeys(numbers.value(run.value(variant, path)) for variant in run.variants)
            return f"{path}: {', '.join(values)}"
    return ""


def _examples(run: RunResult) -> str:
    """Canonical JSON that identifies the evaluated examples of a run: one line for each data spec of its trials, with
    the evaluations that replace validation and test.
    """
    specs = ((lookup(trial.config, "data"), _replaced(trial.config)) for trial in run.trials)
    lines = {json.dumps([_evaluated(x), *more], sort_keys=True) for x, more in specs if isinstance(x, Mapping)}
    return "\n".join(sorted(lines))


def _replaced(config: Mapping[str, Any]) -> list[list[Any]]:
    """The [name, split, number of examples] of the evaluations called validation and test that a config lists."""
    listed = lookup(config, "evaluations") or []
    own = [x for x in listed if isinstance(x, Mapping) and x.get("name") in ("validation", "test")]
    return [[x["name"], x.get("split"), x.get("examples")] for x in own]


def _evaluated(data: Any) -> Any:
    if isinstance(data, Mapping):
        return {key: _evaluated(x) for key, x in data.items() if key not in _SAME_EXAMPLES}
    return [_evaluated(x) for x in data] if isinstance(data, list) else data


def _leaves(data: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(data, Mapping):
        for key, x in data.items():
            yield from _leaves(x, f"{path}.{key}")
    else:
        yield path, data
