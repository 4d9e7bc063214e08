"""Scores over the settings of a sweep: a line for one setting, a heat map for two, parallel axes for more."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

import numpy as np

from research.report import maps, parallel, style
from research.report.runs import RunResult
from research.report.settings import Landscape, axes_of, kind, points_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw(run: RunResult, metric: str, chosen: Collection[str] = ()) -> tuple[str, Figure, str] | None:
    """Returns (name, figure, caption) of the figure that suits the sweep; None if there is none or nothing has a score.

    The `chosen` variants are marked.
    """
    axes = axes_of(run)
    points = points_of(run, axes, metric)
    suits = kind(run, axes, points)
    if suits is None or not any(point.score.n for point in points):
        return None
    drawing = {"line": _line, "heatmap": maps.heatmap, "scatter": maps.scatter, "parallel": parallel.draw}[suits]
    figure, caption = drawing(Landscape(axes, points, metric, run.direction(metric), frozenset(chosen)))
    return suits, figure, caption


def _line(shown: Landscape) -> tuple[Figure, str]:
    (axis,), metric = shown.axes, shown.metric
    scored = sorted(shown.scored, key=lambda point: point.at[0])
    x = [point.at[0] for point in scored]
    figure = style.new_figure(3.7, 2.35)
    plot = figure.add_axes((0.0, 0.0, 1.0, 0.85))
    each = np.repeat(x, [len(point.values) for point in scored])
    values = np.concatenate([point.values for point in scored])
    plot.plot(each, values, "o", color=style.PALETTE[0], markersize=3, alpha=0.3, mew=0)
    std = [point.score.std or 0.0 for point in scored]
    plot.errorbar(
        x, [point.score.mean for point in scored], std, color=style.PALETTE[0], marker="o", markersize=4.5, capsize=2.5,
        elinewidth=0.9, capthick=0.9,
    )  # fmt: skip
    if best := [(point.at[0], point.score.mean) for point in shown.marked]:
        plot.plot(*zip(*best, strict=True), "o", mfc="none", mec=style.PALETTE[1], markersize=10, mew=1.2)
    lost = [point.at[0] for point in shown.points if not point.score.n]
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
    said = f"{metric} against {axis.path}: mean ± standard deviation over seeds, a faint dot per trial"
    return figure, said + shown.mark("circled") + ("; × : no finished trial." if lost else ".")
