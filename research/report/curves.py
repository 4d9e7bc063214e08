"""Learning curves: one line per variant, averaged over seeds, a band for their range, and marks for diverged trials."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from research.metrics.directions import Direction
from research.report import style
from research.report.runs import Curve, TrialResult
from research.report.statistics import that_count

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LETTER = 0.062  # mean width in inches of a letter in a line's name
POINTS = 300  # longer curves are averaged over neighbouring points; print cannot resolve more

# Markers at the end of trials outside the mean, by status.
_ENDS = {
    "diverged": ("x", 5.0),
    "pruned": ("|", 6.0),
    "failed": ("o", 3.0),
    "missing": (".", 3.0),
    "unreadable": (".", 3.0),
}


@dataclasses.dataclass(frozen=True)
class Line:
    """A variant in the figure: name, label, trials and colour; grey lines are in the background and have no label."""

    name: str
    label: str
    trials: tuple[TrialResult, ...]
    color: str
    grey: bool = False


def over_seeds(curves: Sequence[Curve]) -> tuple[np.ndarray, np.ndarray]:
    """Interpolates curves of several seeds to common steps: `(steps [points], values [seeds, points])`.

    Values are NaN before a seed's first logged step and after its last.
    """
    curves = [curve for curve in curves if curve.steps.size]
    steps = np.unique(np.concatenate([curve.steps for curve in curves])) if curves else np.zeros(0)
    values = [np.interp(steps, curve.steps, curve.values, left=np.nan, right=np.nan) for curve in curves]
    return steps, np.asarray(values).reshape(len(curves), steps.size)


def thinned(curve: Curve, points: int = POINTS) -> Curve:
    """Averages neighbouring points until the curve has at most `points`."""
    width = -(-curve.steps.size // points)
    if width <= 1:
        return curve
    starts = np.arange(0, curve.steps.size, width)
    count = np.diff(np.append(starts, curve.steps.size))
    return Curve(np.add.reduceat(curve.steps, starts) / count, np.add.reduceat(curve.values, starts) / count)


def draw(lines: Sequence[Line], split: str, metric: str, way: Direction | None = None) -> Figure | None:
    """The figure of one metric on one split, or None if no trial logged it; `way` is the metric's direction."""
    from matplotlib.ticker import MaxNLocator

    key = (split, metric)
    logged = {line.name: {t.name: thinned(t.curves[key]) for t in line.trials if key in t.curves} for line in lines}
    if not any(curve.steps.size for curves in logged.values() for curve in curves.values()):
        return None
    named = max((len(line.label) for line in lines if not line.grey), default=0)
    figure = style.new_figure(min(max(3.7 - LETTER * named, 2.5), 3.4), 2.35)  # with the names: about 4.3 inches
    axes = figure.add_axes((0.0, 0.0, 1.0, 0.85))
    _scale(axes, _settled(lines, logged), way)
    _draw_grey(axes, [line for line in lines if line.grey], logged)
    ends = []
    for line in lines:
        end = None if line.grey else _draw_line(axes, line, logged[line.name])
        if end is not None:
            ends.append((*end, line.label, line.color))
    axes.set_title(style.text(f"{split} {metric}"))
    axes.set_xlabel("step")
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10], integer=True))
    axes.xaxis.set_major_formatter(_thousands())
    axes.margins(x=0)
    left = 0.0 if axes.dataLim.x0 > 0 else axes.dataLim.x0
    last = max(t.curves[key].steps[-1] for line in lines for t in line.trials if key in t.curves)
    axes.set_xlim(left, max(float(last), left + 1))
    style.label_lines(axes, ends)
    if hidden := [line for line in lines if line.grey and logged[line.name]]:
        others = f"{len(hidden)} other{'s' * (len(hidden) > 1)} in grey"
        axes.annotate(
            others, (1, 0), (0, -21), "axes fraction", "offset points", ha="right", va="top",
            color=style.MUTED, fontsize=7,
        )  # fmt: skip
    return figure


def _settled(lines: Sequence[Line], logged: Mapping[str, Mapping[str, Curve]]) -> list[Curve]:
    """The curves that determine the axis limits: those of finished or pruned trials, or all if there are none."""
    curves = [(trial, logged[line.name].get(trial.name)) for line in lines for trial in line.trials]
    curves = [(trial, curve) for trial, curve in curves if curve is not None]
    return [curve for trial, curve in curves if trial.status in ("finished", "pruned")] or [
        curve for _, curve in curves
    ]


def _scale(axes: Axes, curves: Sequence[Curve], way: Direction | None) -> None:
    """Sets axis limits that ignore outliers; errors that fall by more than a factor of 10 get a logarithmic axis."""
    values = np.concatenate([curve.values for curve in curves])
    values = values[np.isfinite(values)]
    if values.size == 0:
        return
    low, high = float(values.min()), float(values.max())
    usual = np.quantile(values, [0.02, 0.98])
    if way == "min" and low > 0 and usual[1] / usual[0] > 10:
        axes.set_yscale("log")
        margin = (high / low) ** 0.04
        axes.set_ylim(low / margin, high * margin)
        style.log_ticks(axes.yaxis, low, high)
        return
    if way == "min":  # the first steps may be far above the others
        high = min(high, float(usual[1] + 1.0 * (usual[1] - usual[0])) or high)
    if way == "max":
        low = max(low, float(usual[0] - 1.0 * (usual[1] - usual[0])))
    margin = 0.04 * (high - low) or 0.05 * abs(high) or 0.5
    axes.set_ylim(low - margin, high + margin)


def _draw_grey(axes: Axes, lines: Sequence[Line], logged: Mapping[str, Mapping[str, Curve]]) -> None:
    """Draws variants without names, all strokes of a kind at once: one by one, thousands would take minutes."""
    strokes: dict[str, list[_Stroke]] = {}
    for line in lines:
        for stroke in _strokes(line, logged[line.name], axes.get_ylim()):
            strokes.setdefault(stroke.kind, []).append(stroke)
    for kind, some in strokes.items():
        gap = np.full(1, np.nan)
        x = np.concatenate([part for stroke in some for part in (stroke.steps, gap)])
        y = np.concatenate([part for stroke in some for part in (stroke.values, gap)])
        axes.plot(x, y, color=style.FAINT, **_look(kind, grey=True))


def _draw_line(axes: Axes, line: Line, curves: Mapping[str, Curve]) -> tuple[float, float] | None:
    """Draws a variant; returns the position for its name."""
    place = None
    for stroke in _strokes(line, curves, axes.get_ylim()):
        axes.plot(stroke.steps, stroke.values, color=line.color, **_look(stroke.kind, grey=False))
        shown = np.flatnonzero(np.isfinite(stroke.values))
        if shown.size and place is None and stroke.kind not in ("rest", "unfinished"):
            place = float(stroke.steps[shown[-1]]), float(stroke.values[shown[-1]])
    finished = [curves[trial.name] for trial in that_count(line.trials) if trial.name in curves]
    if len(finished) > 1:
        steps, values = over_seeds(finished)
        shared = np.isfinite(values).all(axis=0)
        low, high = (np.where(shared, f(values, axis=0), np.nan) for f in (np.min, np.max))
        axes.fill_between(steps, low, high, color=line.color, alpha=0.14, linewidth=0, zorder=2)
    return place


class _Stroke(NamedTuple):
    """A part of a variant: the mean over seeds ("mean", or "point" if it is one), the rest of seeds that continued
    after the first one stopped ("rest"), a trial outside the mean ("unfinished"), and its end (its status)."""

    kind: str
    steps: np.ndarray
    values: np.ndarray


def _strokes(line: Line, curves: Mapping[str, Curve], limits: tuple[float, float]) -> Iterator[_Stroke]:
    finished = [curves[trial.name] for trial in that_count(line.trials) if trial.name in curves]
    if finished:
        steps, values = over_seeds(finished)
        shared = np.isfinite(values).all(axis=0)
        yield _Stroke("point" if shared.sum() == 1 else "mean", steps, np.where(shared, values.mean(axis=0), np.nan))
        if shared.any():
            for row in values:
                rest = np.where(np.arange(steps.size) >= np.flatnonzero(shared)[-1], row, np.nan)
                if np.isfinite(rest).sum() > 1:
                    yield _Stroke("rest", steps, rest)
    for trial in line.trials:
        if trial.status == "finished" or trial.name not in curves:
            continue
        curve = curves[trial.name]
        kept = np.isfinite(curve.values)
        if kept.any():
            yield _Stroke("unfinished", curve.steps, curve.values)
            end = np.clip(curve.values[kept][-1:], *limits)
            yield _Stroke(trial.status, curve.steps[kept][-1:], end)


def _look(kind: str, *, grey: bool) -> dict[str, Any]:
    """The options with which matplotlib draws a stroke."""
    strong = {"linewidth": 0.7 if grey else 1.4, "zorder": 2 if grey else 4}
    thin = {"linewidth": 0.5 if grey else 0.8, "zorder": 2 if grey else 3}
    if kind in _ENDS:
        marker, size = _ENDS[kind]
        mark = {"linestyle": "none", "marker": marker, "markersize": size, "markeredgewidth": 1.2}
        return {**mark, "clip_on": False, "zorder": 5}
    return {
        "mean": strong,
        "point": {**strong, "marker": "o", "markersize": 2.5},
        "rest": {**thin, "alpha": 0.6},
        "unfinished": {**thin, "alpha": 0.75, "dashes": (4, 1.5)},
    }[kind]


def _thousands():
    from matplotlib.ticker import FuncFormatter

    def short(step: float, _) -> str:
        for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
            if abs(step) >= 10 * size or (abs(step) >= size and step % (size / 10) == 0):
                return f"{step / size:g}{letter}"
        return f"{step:g}"

    return FuncFormatter(short)


def caption(lines: Sequence[Line], split: str, metric: str) -> str:
    """The caption of the figure that `draw` makes, including what it omits."""
    key = (split, metric)
    trials = [trial for line in lines for trial in line.trials if key in trial.curves]
    counts = sorted({len([t for t in that_count(line.trials) if key in t.curves]) for line in lines} - {0})
    if not counts:
        said = [f"{split} {metric}: one line per trial, since none has finished"]
    else:
        n = f"n = {counts[0]}" if len(counts) == 1 else f"n = {counts[0]} to {counts[-1]}"
        said = [f"{split} {metric}: mean over the finished trials of each variant ({n})"]
        said[0] += "; the band is their minimum and maximum" if counts[-1] > 1 else ""
    ends = {"diverged": "× (diverged)", "pruned": "| (pruned)", "failed": "○ (failed)", "missing": "• (not finished)"}
    others = [mark for status, mark in ends.items() if any(trial.status == status for trial in trials)]
    if others:
        said.append(f"Dashed lines are trials outside the mean; they end in {' or '.join(others)}")
    longest = max((trial.curves[key].steps.size for trial in trials), default=0)
    if longest > POINTS:
        said.append(f"Averaged over {-(-longest // POINTS)} neighbouring log steps")
    if grey := [line for line in lines if line.grey]:
        grey_ones = f"{len(grey)} of {len(lines)} variants {'is' if len(grey) == 1 else 'are'} grey"
        said.append(f"{grey_ones}; those with the best validation scores are named")
    return ". ".join(said) + "."
