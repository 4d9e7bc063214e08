"""The varied settings of a sweep as axes, its variants as points, and the kind of figure that suits them."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Collection, Sequence
from typing import Any

from research.metrics.directions import Direction
from research.report import numbers, style
from research.report.runs import RunResult
from research.report.statistics import Summary, summarize, that_count


@dataclasses.dataclass(frozen=True)
class Axis:
    """A varied setting: its path and its values, numbers in ascending order, others in order of appearance."""

    path: str
    values: tuple[Any, ...]
    numeric: bool

    @property
    def logarithmic(self) -> bool:
        return self.numeric and style.spans(self.values)

    @property
    def labels(self) -> list[str]:
        return [self.label(x) for x in self.values]

    def label(self, value: Any) -> str:
        """Formats `value` for the axis: 1e-2 next to 1e-4, otherwise 0.01."""
        tiny = self.logarithmic and self.values[0] < 1e-3
        return style.text(numbers.value(float(value) if tiny else value, 0.1 if tiny else 1e-2), 24)

    def index(self, value: Any) -> int:
        return self._places[repr(native(value))]

    @functools.cached_property
    def _places(self) -> dict[str, int]:
        return {repr(x): i for i, x in enumerate(self.values)}


@dataclasses.dataclass(frozen=True)
class Point:
    """A variant: its value on every axis, its score over seeds, and the outcome of its trials if it has no score."""

    variant: str
    at: tuple[Any, ...]
    score: Summary
    values: tuple[float, ...]
    status: str
    trials: int


@dataclasses.dataclass(frozen=True)
class Landscape:
    """The scores of a sweep over its varied settings.

    Attributes:
      metric: the metric of the points' scores.
      direction: the direction of `metric`; None if unknown.
      chosen: the variants chosen by a validation score, which are marked.
    """

    axes: tuple[Axis, ...]
    points: tuple[Point, ...]
    metric: str
    direction: Direction | None = None
    chosen: Collection[str] = ()

    @property
    def scored(self) -> list[Point]:
        """The points with a score; the best comes last, so that it is drawn on top."""
        found = [point for point in self.points if point.score.n]
        return sorted(found, key=lambda point: point.score.mean, reverse=self.direction == "min")

    @property
    def marked(self) -> list[Point]:
        return [point for point in self.points if point.variant in self.chosen and point.score.n]

    def mark(self, word: str) -> str:
        """Ends a caption with the meaning of the marks, `; circled: the best`; empty if there are none."""
        validation = self.metric.startswith("validation/")
        return f"; {word}: {'the best' if validation else 'the best by its validation score'}" if self.marked else ""


def axes_of(run: RunResult) -> tuple[Axis, ...]:
    """The settings in which the variants of a run differ."""
    return tuple(_axis(path, [run.value(variant, path) for variant in run.variants]) for path in run.varied)


def _axis(path: str, values: Sequence[Any]) -> Axis:
    distinct = tuple({repr(native(x)): native(x) for x in values}.values())
    numeric = all(isinstance(x, int | float) and not isinstance(x, bool) for x in distinct)
    return Axis(path, tuple(sorted(distinct)) if numeric else distinct, numeric)


def native(x: Any) -> Any:
    """Converts whole floats to integers, so that 1 and 1.0 are one value of an axis."""
    return int(x) if isinstance(x, float) and x.is_integer() and abs(x) < 1e15 else x


def points_of(run: RunResult, axes: Sequence[Axis], metric: str) -> tuple[Point, ...]:
    points = []
    for variant in run.variants:
        trials = run.of(variant)
        values = tuple(trial.metrics[metric] for trial in that_count(trials) if metric in trial.metrics)
        status = next(
            (s for s in ("diverged", "pruned", "failed", "unreadable") if any(t.status == s for t in trials)), "missing"
        )
        at = tuple(native(run.value(variant, axis.path)) for axis in axes)
        points.append(Point(variant, at, summarize(values), values, "finished" if values else status, len(trials)))
    return tuple(points)


def kind(run: RunResult, axes: Sequence[Axis], points: Sequence[Point]) -> str | None:
    """The suitable figure: "line", "heatmap", "scatter" (two numbers, no grid), "parallel", or None (an ablation)."""
    if len(axes) == 1:
        return "line" if axes[0].numeric and len(axes[0].values) > 1 else None
    if len(axes) == 2:
        cells = len(axes[0].values) * len(axes[1].values)
        filled = len({repr(point.at) for point in points}) / cells
        if all(axis.numeric for axis in axes):
            return "heatmap" if filled >= 0.5 or cells <= 9 else "scatter"
        return "heatmap" if filled == 1 and max(len(axis.values) for axis in axes) <= 16 else None
    return "parallel" if len(axes) >= 3 and not _one_at_a_time(run) else None


def _one_at_a_time(run: RunResult) -> bool:
    """True if every variant changes at most one setting of some variant, as in an ablation without crossed settings.

    Compares requested overrides, not resolved settings: a variant of `model.pool` also has another `model`.
    """
    asked = [
        {(path, repr(x)) for path, x in run.of(variant)[0].overrides.items() if path not in run.crossed}
        for variant in run.variants
    ]
    return any(all(len({path for path, _ in mine ^ other}) <= 1 for other in asked) for mine in asked)
