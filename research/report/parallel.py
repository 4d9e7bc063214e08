"""Scores over three or more settings: one axis per setting, one line per variant."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from research.report import shades, style
from research.report.settings import Axis, Landscape, native

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw(shown: Landscape) -> tuple[Figure, str]:
    axes, metric, scored = shown.axes, shown.metric, shown.scored
    scores = np.asarray([point.score.mean for point in scored])
    norm, clipped = shades.norm(scores, shown.direction)
    colormap = shades.colormap(shown.direction, palest=1)
    last = Axis(metric, tuple(sorted({float(score) for score in scores})), True)
    figure = style.new_figure(min(1.15 * (len(axes) + 1), 9.0), 2.9)
    plot = figure.add_axes((0.03, 0.08, 0.9, 0.74))
    for point in (point for point in shown.points if not point.score.n):
        heights = [_height(axis, x) for axis, x in zip(axes, point.at, strict=True)]
        plot.plot(*_smooth(heights), color=style.FAINT, linewidth=0.6, dashes=(3, 2), zorder=1)
    for point in scored:
        heights = [_height(axis, x) for axis, x in zip(axes, point.at, strict=True)] + [_height(last, point.score.mean)]
        chosen = point.variant in shown.chosen
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
    said = [f"{metric}: a line per variant, mean over seeds, coloured by the score on the last axis"]
    said[0] += shown.mark("thick")
    if len(scored) < len(shown.points):
        said.append(f"Grey and dashed: {len(shown.points) - len(scored)} without a finished trial")
    if clipped:
        said.append("The worst scores have the colour at the end of the bar")
    return figure, ". ".join(said) + "."


def _height(axis: Axis, value: Any) -> float:
    """The position of a value on its axis, from 0 to 1."""
    value = native(value)
    if not axis.numeric:
        return 0.5 if len(axis.values) < 2 else axis.index(value) / (len(axis.values) - 1)
    low, high = axis.values[0], axis.values[-1]
    if axis.logarithmic:
        value, low, high = np.log([value, low, high])
    return 0.5 if high == low else float((value - low) / (high - low))


def _smooth(heights: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """A curve through the axes that is level at each of them, so that crossing lines can be told apart."""
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
    """The labels of an axis: its values if they are few, otherwise (or if `rounded`) round numbers."""
    whole = all(isinstance(x, int) for x in axis.values)
    few = 10 if whole and not axis.logarithmic else 6
    if not axis.numeric or (len(axis.values) <= few and not rounded):
        return list(zip(axis.values, axis.labels, strict=True))
    from matplotlib.ticker import LogLocator, MaxNLocator

    low, high = axis.values[0], axis.values[-1]
    locator = LogLocator(numticks=6) if axis.logarithmic else MaxNLocator(5, integer=whole)
    ticks = [float(tick) for tick in locator.tick_values(low, high) if low <= tick <= high]
    return [(tick, axis.label(tick)) for tick in ticks]
