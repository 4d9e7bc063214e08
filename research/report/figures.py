"""The figures of a report: scores, the landscape of the sweep, and learning curves."""

from __future__ import annotations

import dataclasses
import functools
import io
import itertools
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from etils import epath

from research.errors import nearest, require
from research.report import curves, landscape, names, scores, settings, style
from research.report.runs import RunResult
from research.report.selection import Criterion
from research.report.table import Row, Table, ranked
from research.whole_files import write_whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.transforms import Bbox

HIGHLIGHTED = 10  # maximum number of variants that a reader can tell apart in a figure
VALIDATION_CURVES = 8


@dataclasses.dataclass(frozen=True)
class Picture:
    """A drawn figure: `name` is its file name without suffix, `caption` describes it and what it omits."""

    name: str
    caption: str
    figure: Figure

    def png(self) -> bytes:
        return self._bytes("png", metadata={"Software": None})

    def pdf(self) -> bytes:
        return self._bytes("pdf", metadata={"CreationDate": None, "Creator": None, "Producer": None})

    def svg(self) -> str:
        """The figure as SVG, which stays sharp at any size."""
        return self._bytes("svg", metadata={"Date": None, "Creator": None}).decode()

    def save(self, path: epath.PathLike) -> None:
        """Writes the figure to a file, in the format that its suffix names: .png, .svg, .pdf, ….

        Raises:
          RequestError: there is no such format.
        """
        kind, known = epath.Path(path).suffix.removeprefix(".").lower(), self.figure.canvas.get_supported_filetypes()
        require(
            kind in known, f"{path}: cannot be drawn as {kind or 'a file without a suffix'}; {nearest(kind, known)}"
        )
        write_whole(path, self._bytes(kind, {}))

    def _repr_svg_(self) -> str:
        return self.svg()

    def _bytes(self, kind: str, metadata: dict) -> bytes:
        file = io.BytesIO()
        with style.paper():
            self.figure.savefig(file, format=kind, bbox_inches=self._box, metadata=metadata)
        return file.getvalue()

    @functools.cached_property
    def _box(self) -> Bbox:
        """The part of the figure that is drawn on, in inches.

        It takes as long to find as the figure to draw, so it is found once for all formats, and the layout with it.
        """
        self.figure.draw_without_rendering()
        self.figure.set_layout_engine("none")
        return self.figure.get_tightbbox().padded(0.06)


def pictures(table: Table) -> list[Picture]:
    """The figures of a report, in the order of the page."""
    landscapes = landscape_pictures(table)
    # Without a baseline, a heat map already shows the scores of its variants.
    first = [] if landscapes and not table.compares(table.score) else score_pictures(table)
    return [*first, *landscapes, *curve_pictures(table)]


def inside_pictures(table: Table, *, trust: bool = False) -> tuple[list[Picture], list[str]]:
    """Draws the inside of the best model of each run; also returns one line for each run without pictures."""
    from research.report import inside

    with style.paper():
        drawn, notes = inside.draw(table, trust=trust)
    return [Picture(file_name(name), caption, figure) for name, caption, figure in drawn], notes


def score_pictures(table: Table) -> list[Picture]:
    """Draws one figure per group of runs whose scores can be ranked together."""
    by_name = {line.name: line for line in _lines(table)}
    found = []
    for group in table.groups:
        part = table.of(group)
        with style.paper():
            figure = scores.draw(part, by_name)
        if figure is not None:
            label = group[0].label if len(table.groups) > 1 else ""
            found.append(Picture(file_name("scores", label), scores.caption(part) + _abbreviations(table), figure))
    return found


def landscape_pictures(table: Table) -> list[Picture]:
    """Draws how the selecting validation score, and the stated score, vary over the sweep of each run."""
    return [picture for run in table.runs for picture in _landscape_pictures(table, run)]


def _landscape_pictures(table: Table, run: RunResult) -> list[Picture]:
    rows = table.of([run]).rows
    criterion = rows[0].criterion if rows else Criterion()
    chosen = [row.variant for row in rows if row.chosen]
    metrics = [criterion.chooser] if criterion.chooses and not run.compares else []
    found = []
    for metric in dict.fromkeys([*metrics, criterion.score]):
        split = metric.partition("/")[0] if metrics and metric not in metrics else ""
        with style.paper():
            drawn = landscape.draw(run, metric, chosen) if metric else None
        if drawn is not None:
            name, figure, caption = drawn
            label = f"{run.label}: " if run.label else ""
            found.append(Picture(file_name(name, run.label, split), f"{label}{caption}", figure))
    return found


def curve_pictures(table: Table, keys: Sequence[tuple[str, str]] | None = None) -> list[Picture]:
    """Draws metrics over the steps of training.

    Args:
      keys: the (split, metric) of each figure; None draws the training loss and the metrics of validation.
    """
    lines, found = _lines(table), []
    for split, metric in _shown_curves(table) if keys is None else keys:
        with style.paper():
            figure = curves.draw(lines, split, metric, table.direction(f"{split}/{metric}"))
        if figure is not None:
            caption = curves.caption(lines, split, metric) + _abbreviations(table)
            found.append(Picture(file_name("curve", split, metric), caption, figure))
    return found


def _shown_curves(table: Table) -> list[tuple[str, str]]:
    logged = dict.fromkeys(key for run in table.runs for trial in run.trials for key in trial.curves)
    wanted = [metric.rsplit("/", 1)[-1] for metric in table.metrics]
    validation = sorted(
        (metric for split, metric in logged if split == "validation"),
        key=lambda metric: wanted.index(metric) if metric in wanted else len(wanted),
    )
    return [("train", "loss"), *(("validation", metric) for metric in validation[:VALIDATION_CURVES])]


def _lines(table: Table) -> list[curves.Line]:
    """One line per row; only the baselines and the best are coloured if a reader cannot tell all of them apart."""
    shown = [row.name for row in _highlighted(table)]
    baselines = [row.name for row in table.rows if row.is_baseline]
    color = style.colors(shown, baselines)
    if len(shown) == len(table.rows) and not baselines and len(table.runs) == 1:
        color = _ordered_colors(table.runs[0]) or color
    labels, _ = names.shortened([row.name for row in table.rows])
    return [
        curves.Line(
            name=row.name,
            label=labels[row.name],
            trials=row.run.of(row.variant),
            color=color.get(row.name, style.FAINT),
            grey=row.name not in color,
        )
        for row in table.rows
    ]


def _abbreviations(table: Table) -> str:
    """Ends a caption with the meaning of abbreviations in the labels."""
    _, initials = names.shortened([row.name for row in table.rows])
    return f" {', '.join(f'{short}: {path}' for short, path in initials.items())}." if initials else ""


def _ordered_colors(run: RunResult) -> dict[str, str]:
    """Ordered colours if the variants are ordered, as values of one number."""
    axes = settings.axes_of(run)
    if len(axes) != 1 or not axes[0].numeric or len(axes[0].values) != len(run.variants) or len(run.variants) < 3:
        return {}
    points = sorted(settings.points_of(run, axes, ""), key=lambda point: point.at)
    return {point.variant: color for point, color in zip(points, style.sequence(len(points)), strict=True)}


def _highlighted(table: Table) -> list[Row]:
    """The rows that a figure names: all if they are few, otherwise the baselines and the best rows of every group."""
    if len(table.rows) <= HIGHLIGHTED:
        return list(table.rows)
    orders = [ranked([row for row in table.of(group).rows if not row.is_baseline]) for group in table.groups]
    turns = [row for turn in itertools.zip_longest(*orders) for row in turn if row is not None]
    scored = [row for row in turns if row.counts.get("finished")] or turns
    return [*(row for row in table.rows if row.is_baseline), *scored][: HIGHLIGHTED - 2]


def is_figure(name: str) -> bool:
    """True if a file has the name of a report's figure."""
    kinds = "scores|line|heatmap|scatter|parallel|curve|exhibit|inside"
    return re.fullmatch(rf"({kinds})(-[A-Za-z0-9._-]+)?\.(png|svg|pdf)", name) is not None


def file_name(*words: str) -> str:
    """Joins words into a file name of letters, digits, dots and dashes."""
    return "-".join(part for word in words if (part := re.sub(r"[^A-Za-z0-9._]+", "-", word).strip("-.")))
