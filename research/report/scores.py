"""The table as a picture: every seed of every variant, and the paired differences with their intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from research.report import style
from research.report.curves import Line
from research.report.statistics import CONFIDENCE, better, counted
from research.report.table import Row, Table, arrow

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ROWS = 24  # more would be a page; the table has them all
GAP = 0.45  # inches between the panels: a tick's number reaches half its width into it from either side
BOLD = 0.085  # inches of a title's letter, on average


def shown_rows(table: Table, metric: str) -> list[Row]:
    """The rows to draw, in the table's order: all of them, or the baselines and the best."""
    rows = [row for row in table.rows if metric in row.cells and row.cells[metric].summary.n]
    if len(rows) <= ROWS:
        return rows
    baselines = [row for row in rows if row.is_baseline]
    ranked = sorted(
        (row for row in rows if not row.is_baseline),
        key=lambda row: row.cells[metric].summary.mean,
        reverse=better(1.0, 0.0, metric),
    )
    kept = {id(row) for row in [*baselines, *ranked][:ROWS]}
    return [row for row in rows if id(row) in kept]


def draw(table: Table, metric: str, lines: Mapping[str, Line]) -> Figure | None:
    """Seeds as dots and their mean as a bar, the paired differences beside them; None with fewer than two variants.

    `lines` gives the label and colour of every row by its name.
    """
    rows = shown_rows(table, metric)
    if len(rows) < 2:
        return None
    compares = any(row.cells[metric].difference is not None for row in rows)
    height = 0.24 * len(rows) + 0.75
    names = 0.062 * max(len(lines[row.name].label) for row in rows)
    title = style.text(f"{metric}{arrow(metric)}")
    panel = max(4.2 - names - GAP, 2.6, 2 * (BOLD * len(title) - GAP)) / 2 if compares else max(3.9 - names, 2.2)
    count = 1 + compares
    figure = style.new_figure(panel * count + GAP * compares, height)
    panels = figure.subplots(1, count, sharey=True, squeeze=False)[0]
    figure.subplots_adjust(left=0.0, right=1.0, bottom=0.46 / height, top=1 - 0.28 / height, wspace=GAP / panel)
    _draw_values(panels[0], rows, metric, lines)
    if compares:
        _draw_differences(panels[1], rows, metric, lines)
    for axes in panels:
        axes.grid(axis="y", visible=False)
        axes.spines["left"].set_visible(False)
        axes.tick_params(axis="y", length=0)
        axes.locator_params(axis="x", nbins=5 if not compares else 4 if panel > 1.4 else 3)
        axes.set_ylim(len(rows) - 0.4, -0.6)
    panels[0].set_title(title)
    panels[0].set_yticks(range(len(rows)), [style.text(lines[row.name].label) for row in rows])
    return figure


def _draw_values(axes, rows: Sequence[Row], metric: str, lines: Mapping[str, Line]) -> None:
    for y, row in enumerate(rows):
        values = [trial.metrics[metric] for trial in counted(row.run.of(row.variant)) if metric in trial.metrics]
        color = lines[row.name].color
        axes.plot(values, [y] * len(values), "o", color=color, markersize=3.4, alpha=0.45, markeredgewidth=0)
        axes.plot([row.cells[metric].summary.mean], [y], "|", color=color, markersize=10, markeredgewidth=1.8)


def _draw_differences(axes, rows: Sequence[Row], metric: str, lines: Mapping[str, Line]) -> None:
    axes.axvline(0, color=style.MUTED, linewidth=0.8)
    for y, row in enumerate(rows):
        gap = row.cells[metric].difference
        color = lines[row.name].color
        if gap is None or gap.mean is None:
            continue
        if gap.low is not None:
            axes.plot([gap.low, gap.high], [y, y], color=color, linewidth=1.4)
        face = color if gap.excludes_zero else "white"
        axes.plot([gap.mean], [y], "o", color=color, markerfacecolor=face, markersize=4.5, markeredgewidth=1.2)
    axes.set_title("difference to the baseline")


def caption(table: Table, metric: str) -> str:
    """What the figure of `draw` shows."""
    rows = shown_rows(table, metric)
    said = [f"{metric}: a dot per finished trial, a bar at their mean"]
    if any(row.cells[metric].difference is not None for row in rows):
        said.append(
            f"Right: paired difference to the baseline, {CONFIDENCE:.0%} t interval; filled where it excludes zero"
        )
    scored = [row for row in table.rows if metric in row.cells and row.cells[metric].summary.n]
    if len(scored) > len(rows):
        said.append(f"The best of {len(scored)} variants; the table has all")
    if len(table.rows) > len(scored):
        said.append(f"{len(table.rows) - len(scored)} without a finished trial are not drawn")
    return ". ".join(said) + "."
