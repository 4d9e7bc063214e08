"""Scores over two settings: a heat map if they form a grid, otherwise a scatter plot."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from research.report import numbers, shades, style
from research.report.settings import Landscape

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def heatmap(shown: Landscape) -> tuple[Figure, str]:
    from matplotlib.patches import Rectangle

    axes, metric = shown.axes, shown.metric
    rows, columns = sorted(axes[::-1], key=lambda axis: len(axis.values))
    flip = axes[0] is columns
    means = np.full((len(rows.values), len(columns.values)), np.nan)
    cells = {}
    for point in shown.points:
        at = point.at[::-1] if flip else point.at
        cell = rows.index(at[0]), columns.index(at[1])
        cells[cell] = point
        means[cell] = np.nan if point.score.mean is None else point.score.mean
    texts = {cell: numbers.plain(point.score.mean) for cell, point in cells.items() if point.score.n}
    width = max(0.46, 0.075 * max(map(len, texts.values())) + 0.12)
    # Cells have a fixed size up to a page; beyond that they shrink and lose their text.
    width, height = min(width, 8.5 / len(columns.values)), min(0.36, 7.0 / len(rows.values))
    figure = style.new_figure(width * len(columns.values) + 1.6, height * len(rows.values) + 0.9)
    w, h = figure.get_size_inches()
    plot = figure.add_axes((0.9 / w, 0.5 / h, width * len(columns.values) / w, height * len(rows.values) / h))
    norm, clipped = shades.norm(means[np.isfinite(means)], shown.direction)
    colormap = shades.colormap(shown.direction)
    image = plot.imshow(means, cmap=colormap, norm=norm, aspect="auto", origin="lower")
    marked = {point.variant for point in shown.marked}
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
                fontweight="bold" if point.variant in marked else "normal",
                fontsize=5.8 if short else 7,
                linespacing=0.95,
                ha="center",
                va="center",
            )
        if point.variant in marked:
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
    shades.colorbar(figure, image, bar, clipped, shown.direction)
    counts = sorted({point.trials for point in cells.values()})
    n = f"n = {counts[0]}" if len(counts) == 1 else f"n = {counts[0]} to {counts[-1]}"
    said = [f"{metric} by {columns.path} and {rows.path}: mean over seeds ({n}){shown.mark('framed')}"]
    if any(0 < point.score.n < point.trials for point in cells.values()):
        said.append("“2 of 3”: finished trials")
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


def scatter(shown: Landscape) -> tuple[Figure, str]:
    figure = style.new_figure(3.2, 2.5)
    plot = figure.add_axes((0.0, 0.0, 0.94, 0.88))
    scored = shown.scored
    means = np.asarray([point.score.mean for point in scored])
    norm, clipped = shades.norm(means, shown.direction)
    lost = [point.at for point in shown.points if not point.score.n]
    if lost:
        plot.scatter(*zip(*lost, strict=True), marker="x", s=16, color=style.FAINT, linewidths=1)
    image = plot.scatter(
        *zip(*(point.at for point in scored), strict=True),
        c=means,
        cmap=shades.colormap(shown.direction),
        norm=norm,
        s=30,
        edgecolors="#7d8896",
        linewidths=0.4,
    )
    for point in shown.marked:
        plot.plot(*([x] for x in point.at), "o", mfc="none", mec=style.PALETTE[1], markersize=10, mew=1.3)
    for axis, name in zip(shown.axes, "xy", strict=True):
        if axis.logarithmic:
            plot.set(**{f"{name}scale": "log"})
            style.log_ticks(getattr(plot, f"{name}axis"), axis.values[0], axis.values[-1])
        plot.set(**{f"{name}label": style.text(axis.path, 60)})
    plot.set_title(style.text(shown.metric))
    shades.colorbar(figure, image, figure.add_axes((0.97, 0.0, 0.028, 0.88)), clipped, shown.direction)
    said = f"{shown.metric} by {shown.axes[0].path} and {shown.axes[1].path}: a point per variant, mean over seeds"
    said += shown.mark("circled")
    said += "; × : no finished trial" if lost else ""
    return figure, said + ("; scores beyond the colour bar have the colour of its end." if clipped else ".")
