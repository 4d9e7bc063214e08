"""The scores as a figure: every seed of every variant, and paired differences with their intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from research.report import style
from research.report.curves import Line
from research.report.statistics import CONFIDENCE, that_count
from research.report.table import Row, Table, ranked

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ROWS = 24  # maximum; more would fill a page, and the table shows all
GAP = 0.45  # inches between the panels; tick labels extend into it by half their width from both sides
BOLD = 0.085  # average width of a title's letter, in inches


def shown_rows(table: Table) -> list[Row]:
    """The rows to draw, in the table's order: all with the stated score, or the baselines and the best ones."""
    rows = [row for row in table.rows if row.mean(table.score) is not None]
    if len(rows) <= ROWS:
        return rows
    order = [row for row in rows if row.is_baseline] + [row for row in ranked(rows) if not row.is_baseline]
    kept = set(order[:ROWS])
    return [row for row in rows if row in kept]


def draw(table: Table, lines: Mapping[str, Line]) -> Figure | None:
    """Draws seeds as dots and means as bars, for comparable runs; None with fewer than two variants.

    A second panel shows paired differences to the baseline or, without one, the validation score used for selection.
    `lines` gives the label and colour of every row by its name.
    """
    rows = shown_rows(table)
    if len(rows) < 2:
        return None
    panels = [(f"{table.title(metric)}{table.arrow(metric)}", metric, _draw_values) for metric in _metrics(table, rows)]
    widest = BOLD * max(len(style.text(title)) for title, _, _ in panels)
    if table.compares(table.score):
        panels.append(("difference to the baseline", table.score, _draw_differences))
    count = len(panels)
    height = 0.24 * len(rows) + 0.75
    names = 0.062 * max(len(lines[row.name].label) for row in rows)
    panel = max(4.2 - names - GAP, 2.6, 2 * (widest - GAP)) / 2 if count > 1 else max(3.9 - names, 2.2)
    figure = style.new_figure(panel * count + GAP * (count - 1), height)
    every = figure.subplots(1, count, sharey=True, squeeze=False)[0]
    figure.subplots_adjust(left=0.0, right=1.0, bottom=0.46 / height, top=1 - 0.28 / height, wspace=GAP / panel)
    for axes, (title, metric, draw_panel) in zip(every, panels, strict=True):
        draw_panel(axes, rows, metric, lines)
        axes.set_title(style.text(title))
        axes.grid(axis="y", visible=False)
        axes.spines["left"].set_visible(False)
        axes.tick_params(axis="y", length=0)
        axes.locator_params(axis="x", nbins=5 if count == 1 else 4 if panel > 1.4 else 3)
        axes.set_ylim(len(rows) - 0.4, -0.6)
    every[0].set_yticks(range(len(rows)), [style.text(lines[row.name].label) for row in rows])
    for label, row in zip(every[0].get_yticklabels(), rows, strict=True):
        label.set_fontweight("bold" if row.chosen else "normal")
    return figure


def _metrics(table: Table, rows: Sequence[Row]) -> list[str]:
    """The metric that selects among the rows, if any, and the stated one."""
    return list(dict.fromkeys([*(row.criterion.chooser for row in rows if row.chosen), table.score]))


def _draw_values(axes, rows: Sequence[Row], metric: str, lines: Mapping[str, Line]) -> None:
    for y, row in enumerate(rows):
        values = [trial.metrics[metric] for trial in that_count(row.run.of(row.variant)) if metric in trial.metrics]
        if not values:
            continue
        color = lines[row.name].color
        axes.plot(values, [y] * len(values), "o", color=color, markersize=3.4, alpha=0.45, markeredgewidth=0)
        axes.plot([row.mean(metric)], [y], "|", color=color, markersize=10, markeredgewidth=1.8)


def _draw_differences(axes, rows: Sequence[Row], metric: str, lines: Mapping[str, Line]) -> None:
    axes.axvline(0, color=style.MUTED, linewidth=0.8)
    for y, row in enumerate(rows):
        gap = row.cells[metric].difference
        color = lines[row.name].color
        if gap is None or gap.mean is None:
            continue
        if gap.low is not None:
            axes.plot([gap.low, gap.high], [y, y], color=color, linewidth=1.4)
        face = color if gap.clear else "white"
        axes.plot([gap.mean], [y], "o", color=color, markerfacecolor=face, markersize=4.5, markeredgewidth=1.2)


def caption(table: Table) -> str:
    """The caption of the figure that `draw` makes."""
    rows = shown_rows(table)
    said = [f"{table.score}: a dot per finished trial, a bar at their mean"]
    if table.compares(table.score):
        said.append(
            f"Right: paired difference to the baseline, {CONFIDENCE:.0%} t interval; filled where it excludes zero"
        )
    if any(row.chosen for row in rows):
        chooser, *_ = _metrics(table, rows)
        said.append(f"Bold: best by {chooser}")
    scored = [row for row in table.rows if row.mean(table.score) is not None]
    if len(scored) > len(rows):
        criterion = rows[0].criterion
        first = f"The best by {criterion.chooser}" if criterion.chooses else "The first"
        said.append(f"{first} of {len(scored)} variants; the table shows all")
    if len(table.rows) > len(scored):
        said.append(f"{len(table.rows) - len(scored)} without a finished trial are not drawn")
    return ". ".join(said) + "."
