"""How the score moves with what a sweep varies: a line for one setting, a heat map for two, parallel axes for more."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from research.report import numbers, style
from research.report.read import Run
from research.report.statistics import (
    Summary,
    better,
    counted,
    crossed_paths,
    direction,
    summarize,
    value_of,
    varied_paths,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclasses.dataclass(frozen=True)
class Axis:
    """One varied setting: its path and the values it takes, numbers ascending, others in order of appearance."""

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
        """`value` as the axis writes it: 1e-2 beside 1e-4, else 0.01."""
        tiny = self.logarithmic and self.values[0] < 1e-3
        return style.text(numbers.value(float(value) if tiny else value, 0.1 if tiny else 1e-2), 24)

    def index(self, value: Any) -> int:
        return [repr(x) for x in self.values].index(repr(_native(value)))


@dataclasses.dataclass(frozen=True)
class Point:
    """One variant: its value on every axis, its score over seeds, and how its trials ended where there is no score."""

    variant: str
    at: tuple[Any, ...]
    score: Summary
    values: tuple[float, ...]
    status: str
    trials: int


def axes_of(run: Run) -> tuple[Axis, ...]:
    """The settings in which the variants of a run differ."""
    return tuple(_axis(path, [value_of(run, variant, path) for variant in run.variants]) for path in varied_paths(run))


def _axis(path: str, values: Sequence[Any]) -> Axis:
    distinct = tuple({repr(_native(x)): _native(x) for x in values}.values())
    numeric = all(isinstance(x, int | float) and not isinstance(x, bool) for x in distinct)
    return Axis(path, tuple(sorted(distinct)) if numeric else distinct, numeric)


def _native(x: Any) -> Any:
    """Whole floats as integers, so that 1 and 1.0 are one value of an axis."""
    return int(x) if isinstance(x, float) and x.is_integer() and abs(x) < 1e15 else x


def points_of(run: Run, axes: Sequence[Axis], metric: str) -> tuple[Point, ...]:
    points = []
    for variant in run.variants:
        trials = run.of(variant)
        values = tuple(trial.metrics[metric] for trial in counted(trials) if metric in trial.metrics)
        status = next(
            (s for s in ("diverged", "pruned", "failed", "unreadable") if any(t.status == s for t in trials)), "missing"
        )
        at = tuple(_native(value_of(run, variant, axis.path)) for axis in axes)
        points.append(Point(variant, at, summarize(values), values, "finished" if values else status, len(trials)))
    return tuple(points)


def kind(run: Run, axes: Sequence[Axis], points: Sequence[Point]) -> str | None:
    """Which picture suits: "line", "heatmap", "scatter" (two numbers off a grid), "parallel", or None (an ablation)."""
    if len(axes) == 1:
        return "line" if axes[0].numeric and len(axes[0].values) > 1 else None
    if len(axes) == 2:
        cells = len(axes[0].values) * len(axes[1].values)
        filled = len({repr(point.at) for point in points}) / cells
        if all(axis.numeric for axis in axes):
            return "heatmap" if filled >= 0.5 or cells <= 9 else "scatter"
        return "heatmap" if filled == 1 and max(len(axis.values) for axis in axes) <= 16 else None
    return "parallel" if len(axes) >= 3 and not _one_at_a_time(run) else None


def _one_at_a_time(run: Run) -> bool:
    """Whether all variants change one setting at most of what one of them asks for: an ablation, nothing is crossed.

    What they ask for, and not what it resolves to: a variant of `model.pool` has another `model`, too.
    """
    crossed = crossed_paths(run)
    asked = [
        {(path, repr(x)) for path, x in run.of(variant)[0].overrides.items() if path not in crossed}
        for variant in run.variants
    ]
    return any(all(len({path for path, _ in mine ^ other}) <= 1 for other in asked) for mine in asked)


def draw(run: Run, metric: str) -> tuple[str, Figure, str] | None:
    """(name, figure, caption) of the picture that suits the sweep; None if none does or nothing has a score."""
    axes = axes_of(run)
    points = points_of(run, axes, metric)
    chosen = kind(run, axes, points)
    if chosen is None or not any(point.score.n for point in points):
        return None
    figure, caption = {"line": _line, "heatmap": _heatmap, "scatter": _scatter, "parallel": _parallel}[chosen](
        axes, points, metric
    )
    return chosen, figure, caption


# One number ---------------------------------------------------------------------------------------


def _line(axes: Sequence[Axis], points: Sequence[Point], metric: str) -> tuple[Figure, str]:
    (axis,) = axes
    scored = sorted((point for point in points if point.score.n), key=lambda point: point.at[0])
    x = [point.at[0] for point in scored]
    figure = style.new_figure(3.7, 2.35)
    plot = figure.add_axes((0.0, 0.0, 1.0, 0.85))
    for point in scored:
        plot.plot(
            [point.at[0]] * point.score.n, point.values, "o", color=style.PALETTE[0], markersize=3, alpha=0.3, mew=0
        )
    std = [point.score.std or 0.0 for point in scored]
    plot.errorbar(
        x, [point.score.mean for point in scored], std, color=style.PALETTE[0], marker="o", markersize=4.5, capsize=2.5,
        elinewidth=0.9, capthick=0.9,
    )  # fmt: skip
    best = _best(scored, metric)
    plot.plot([best.at[0]], [best.score.mean], "o", mfc="none", mec=style.PALETTE[1], markersize=10, mew=1.2)
    lost = [point.at[0] for point in points if not point.score.n]
    if lost:
        plot.plot(
            lost, [0] * len(lost), "x", color=style.MUTED, transform=plot.get_xaxis_transform(), clip_on=False, mew=1.2
        )
    if axis.logarithmic:
        plot.set_xscale("log")
        style.log_ticks(plot.xaxis, axis.values[0], axis.values[-1])
    if len(axis.values) <= 8:
        plot.set_xticks(axis.values, axis.labels)
        plot.set_xticks([], minor=True)
    plot.set_xlabel(style.text(axis.path, 60))
    plot.set_title(style.text(metric))
    said = (
        f"{metric} against {axis.path}: mean ± standard deviation over seeds, a faint dot per trial; circled: the best"
    )
    return figure, said + ("; × : no trial finished." if lost else ".")


# Two ----------------------------------------------------------------------------------------------


def _heatmap(axes: Sequence[Axis], points: Sequence[Point], metric: str) -> tuple[Figure, str]:
    from matplotlib.patches import Rectangle

    rows, columns = sorted(axes[::-1], key=lambda axis: len(axis.values))
    flip = axes[0] is columns
    means = np.full((len(rows.values), len(columns.values)), np.nan)
    cells = {}
    for point in points:
        at = point.at[::-1] if flip else point.at
        cell = rows.index(at[0]), columns.index(at[1])
        cells[cell] = point
        means[cell] = np.nan if point.score.mean is None else point.score.mean
    texts = {cell: numbers.plain(point.score.mean) for cell, point in cells.items() if point.score.n}
    width = max(0.46, 0.075 * max(map(len, texts.values())) + 0.12)
    # Rows and columns up to a page; beyond, cells shrink and lose their text.
    width, height = min(width, 8.5 / len(columns.values)), min(0.36, 7.0 / len(rows.values))
    figure = style.new_figure(width * len(columns.values) + 1.6, height * len(rows.values) + 0.9)
    w, h = figure.get_size_inches()
    plot = figure.add_axes((0.9 / w, 0.5 / h, width * len(columns.values) / w, height * len(rows.values) / h))
    norm, clipped = _norm(means[np.isfinite(means)], metric)
    colormap = _colormap(metric)
    image = plot.imshow(means, cmap=colormap, norm=norm, aspect="auto", origin="lower")
    best = _best(list(cells.values()), metric)
    for (i, j), point in cells.items():
        if not point.score.n:
            mark = {"diverged": "×", "missing": "·"}.get(point.status, point.status[0])
            plot.text(j, i, mark, ha="center", va="center", color=style.MUTED, fontsize=9)
            plot.add_patch(
                Rectangle((j - 0.45, i - 0.43), 0.9, 0.86, fill=False, ec=style.FAINT, lw=0.6, ls=(0, (3, 2)))
            )
            continue
        if width >= 0.4 and height >= 0.2:
            dark = np.dot(colormap(norm(means[i, j]))[:3], (0.299, 0.587, 0.114)) < 0.55
            short = "" if point.score.n == point.trials else f"\n{point.score.n} of {point.trials}"
            plot.text(
                j,
                i,
                texts[i, j] + short,
                color="white" if dark else style.INK,
                fontweight="bold" if point.score.mean == best.score.mean else "normal",
                fontsize=5.8 if short else 7,
                linespacing=0.95,
                ha="center",
                va="center",
            )
        if point.score.mean == best.score.mean:
            plot.add_patch(
                Rectangle((j - 0.5, i - 0.5), 1, 1, fill=False, ec=style.PALETTE[1], lw=1.6, clip_on=False, zorder=3)
            )
    plot.set_xticks(range(len(columns.values)), columns.labels, rotation=0 if len(columns.values) <= 8 else 45)
    plot.set_yticks(range(len(rows.values)), rows.labels)
    _grid_between_cells(plot, means.shape)
    plot.set_xlabel(style.text(columns.path, 60))
    plot.set_ylabel(style.text(rows.path, 60))
    plot.set_title(style.text(metric))
    bar = figure.add_axes(
        ((0.9 + width * len(columns.values) + 0.12) / w, 0.5 / h, 0.09 / w, height * len(rows.values) / h)
    )
    _colorbar(figure, image, bar, clipped, metric)
    counts = sorted({point.trials for point in cells.values()})
    n = f"n = {counts[0]}" if len(counts) == 1 else f"n = {counts[0]} to {counts[-1]}"
    said = [f"{metric} by {columns.path} and {rows.path}: mean over seeds ({n}); framed: the best"]
    if any(0 < point.score.n < point.trials for point in cells.values()):
        said.append("“2 of 3”: trials that finished")
    if any(not point.score.n for point in cells.values()):
        marks = {"diverged": "× diverged", "missing": "· not run", "pruned": "p pruned", "failed": "f failed"}
        marks["unreadable"] = "u unreadable"
        present = dict.fromkeys(point.status for point in cells.values() if not point.score.n)
        said.append(", ".join(marks[status] for status in present))
    if clipped:
        said.append("Scores beyond the colour bar have the colour of its end")
    return figure, ". ".join(said) + "."


def _grid_between_cells(plot, shape: tuple[int, int]) -> None:
    plot.grid(visible=False)
    plot.set_xticks(np.arange(-0.5, shape[1]), minor=True)
    plot.set_yticks(np.arange(-0.5, shape[0]), minor=True)
    plot.grid(which="minor", color="white", linewidth=1.4)
    plot.tick_params(which="both", length=0)
    for spine in plot.spines.values():
        spine.set_visible(False)


def _scatter(axes: Sequence[Axis], points: Sequence[Point], metric: str) -> tuple[Figure, str]:
    figure = style.new_figure(3.2, 2.5)
    plot = figure.add_axes((0.0, 0.0, 0.94, 0.88))
    scored = sorted(
        (point for point in points if point.score.n), key=lambda p: p.score.mean, reverse=not better(1, 0, metric)
    )
    scores = np.asarray([point.score.mean for point in scored])
    norm, clipped = _norm(scores, metric)
    lost = [point.at for point in points if not point.score.n]
    if lost:
        plot.scatter(*zip(*lost, strict=True), marker="x", s=16, color=style.FAINT, linewidths=1)
    image = plot.scatter(
        *zip(*(point.at for point in scored), strict=True), c=scores, cmap=_colormap(metric), norm=norm, s=30,
        edgecolors="#7d8896", linewidths=0.4,
    )  # fmt: skip
    best = _best(scored, metric)
    plot.plot(*([x] for x in best.at), "o", mfc="none", mec=style.PALETTE[1], markersize=10, mew=1.3)
    for axis, name in zip(axes, "xy", strict=True):
        if axis.logarithmic:
            plot.set(**{f"{name}scale": "log"})
            style.log_ticks(getattr(plot, f"{name}axis"), axis.values[0], axis.values[-1])
        plot.set(**{f"{name}label": style.text(axis.path, 60)})
    plot.set_title(style.text(metric))
    _colorbar(figure, image, figure.add_axes((0.97, 0.0, 0.028, 0.88)), clipped, metric)
    said = f"{metric} by {axes[0].path} and {axes[1].path}: a point per variant, mean over seeds; circled: the best"
    said += "; × : no trial finished" if lost else ""
    return figure, said + ("; scores beyond the colour bar have the colour of its end." if clipped else ".")


# Three and more -----------------------------------------------------------------------------------


def _parallel(axes: Sequence[Axis], points: Sequence[Point], metric: str) -> tuple[Figure, str]:
    scored = sorted(
        (point for point in points if point.score.n), key=lambda p: p.score.mean, reverse=not better(1, 0, metric)
    )
    scores = np.asarray([point.score.mean for point in scored])
    norm, clipped = _norm(scores, metric)
    colormap = _colormap(metric, palest=1)
    last = Axis(metric, tuple(sorted({float(score) for score in scores})), True)
    figure = style.new_figure(min(1.15 * (len(axes) + 1), 9.0), 2.9)
    plot = figure.add_axes((0.03, 0.08, 0.9, 0.74))
    for point in (point for point in points if not point.score.n):
        heights = [_height(axis, x) for axis, x in zip(axes, point.at, strict=True)]
        plot.plot(*_smooth(heights), color=style.FAINT, linewidth=0.6, dashes=(3, 2), zorder=1)
    best = _best(scored, metric)
    for point in scored:
        heights = [_height(axis, x) for axis, x in zip(axes, point.at, strict=True)] + [_height(last, point.score.mean)]
        chosen = point.score.mean == best.score.mean
        plot.plot(
            *_smooth(heights),
            color=style.PALETTE[1] if chosen else colormap(norm(point.score.mean)),
            linewidth=2.0 if chosen else 0.9,
            alpha=1.0 if chosen else 0.8,
            zorder=4 if chosen else 2,
        )
    for x, axis in enumerate([*axes, last]):
        _draw_axis(plot, x, axis, rounded=axis is last)
    plot.set_xlim(-0.1, len(axes) + 0.1)
    plot.set_ylim(-0.03, 1.03)
    plot.axis("off")
    said = [f"{metric}: a line per variant, mean over seeds, coloured by the score on the last axis; thick: the best"]
    if len(scored) < len(points):
        said.append(f"Grey and dashed: {len(points) - len(scored)} without a finished trial")
    if clipped:
        said.append("The colour ends before the worst scores")
    return figure, ". ".join(said) + "."


def _height(axis: Axis, value: Any) -> float:
    """Where a value stands on its axis, from 0 to 1."""
    value = _native(value)
    if not axis.numeric:
        return 0.5 if len(axis.values) < 2 else axis.index(value) / (len(axis.values) - 1)
    low, high = axis.values[0], axis.values[-1]
    if axis.logarithmic:
        value, low, high = np.log([value, low, high])
    return 0.5 if high == low else float((value - low) / (high - low))


def _smooth(heights: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """A curve through the axes that is level at each one, so that lines can be told apart where they cross."""
    t = np.linspace(0, 1, 33)
    ease = t * t * (3 - 2 * t)
    x = np.concatenate([i + t for i in range(len(heights) - 1)])
    y = np.concatenate([a + (b - a) * ease for a, b in zip(heights[:-1], heights[1:], strict=True)])
    return x, y


def _draw_axis(plot, x: int, axis: Axis, rounded: bool) -> None:
    import matplotlib.patheffects as effects

    plot.plot([x, x], [0, 1], color=style.MUTED, linewidth=0.8, zorder=5)
    halo = [effects.withStroke(linewidth=2.2, foreground="white")]
    for value, label in _ticks(axis, rounded):
        y = _height(axis, value)
        plot.plot([x, x + 0.03], [y, y], color=style.MUTED, linewidth=0.8, zorder=5)
        plot.text(x + 0.045, y, label, fontsize=6.8, va="center", ha="left", zorder=6, path_effects=halo)
    words = axis.path.split(".")
    name = words[-1] if len(words[-1]) > 3 or len(words) == 1 else ".".join(words[-2:])
    plot.text(x, 1.085, style.text(name, 18), ha="center", va="bottom", fontsize=7.5, fontweight="bold", rotation=0)


def _ticks(axis: Axis, rounded: bool) -> list[tuple[Any, str]]:
    """Where an axis is labelled: at its values if they are few, else (or if `rounded`) at round numbers."""
    whole = all(isinstance(x, int) for x in axis.values)
    few = 10 if whole and not axis.logarithmic else 6
    if not axis.numeric or (len(axis.values) <= few and not rounded):
        return list(zip(axis.values, axis.labels, strict=True))
    from matplotlib.ticker import LogLocator, MaxNLocator

    low, high = axis.values[0], axis.values[-1]
    locator = LogLocator(numticks=6) if axis.logarithmic else MaxNLocator(5, integer=whole)
    ticks = [float(tick) for tick in locator.tick_values(low, high) if low <= tick <= high]
    return [(tick, axis.label(tick)) for tick in ticks]


# Colour -------------------------------------------------------------------------------------------


def _best(points: Sequence[Point], metric: str) -> Point:
    scored = [point for point in points if point.score.n]
    best = scored[0]
    for point in scored[1:]:
        if better(point.score.mean, best.score.mean, metric):
            best = point
    return best


def _colormap(metric: str, palest: int = 0):
    """Pale to deep blue, better scores deeper: the eye goes to what is dark on white.  `palest` shades are left out."""
    from matplotlib.colors import LinearSegmentedColormap

    shades = ["#e6ebf2", "#b3cbe1", "#6fa1cb", "#3572ad", "#174a85", "#0a2a57"]
    shades = shades[palest:]
    return LinearSegmentedColormap.from_list("score", shades[::-1] if direction(metric) == "down" else shades)


def _norm(scores: np.ndarray, metric: str):
    """(norm, whether it was cut): colours over the scores; a few very bad ones do not take them from the others."""
    from matplotlib.colors import LogNorm, Normalize

    low, high = float(scores.min()), float(scores.max())
    down = direction(metric) == "down"
    if down and low > 0 and high / low > 20:
        return LogNorm(low, high), False
    quarter, three_quarters = np.quantile(scores, [0.25, 0.75])
    reach = 3 * (three_quarters - quarter)
    cut_low = not down and reach > 0 and low < quarter - reach
    cut_high = down and reach > 0 and high > three_quarters + reach
    low = float(scores[scores >= quarter - reach].min()) if cut_low else low
    high = float(scores[scores <= three_quarters + reach].max()) if cut_high else high
    return Normalize(low, high), bool(cut_low or cut_high)


def _colorbar(figure: Figure, image, axes, clipped: bool, metric: str) -> None:
    if image.norm.vmin == image.norm.vmax:  # one score only: nothing for a scale to say
        axes.remove()
        return
    extend = "neither" if not clipped else "max" if direction(metric) == "down" else "min"
    bar = figure.colorbar(image, cax=axes, extend=extend)
    bar.outline.set_visible(False)
    bar.ax.grid(visible=False)
    bar.ax.tick_params(length=2, width=0.5, labelsize=7)
    if "Log" not in type(image.norm).__name__:
        bar.ax.locator_params(nbins=5)
