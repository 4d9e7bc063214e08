"""The style of all figures: one font, thin spines, a light grid, and colours for colour-blind readers."""

from __future__ import annotations

import contextlib
import math
import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from research.report import numbers
from research.whole_files import written_aside

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK = "#222222"
MUTED = "#6b6b6b"
FAINT = "#c4c4c4"
GRID = "#e9e9e9"
BASELINE = "#222222"

# Okabe and Ito's palette (Color Universal Design, 2008) without yellow, which is invisible on white, then three of Paul
# Tol's "muted" colours.
PALETTE = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
    "#882255",
    "#332288",
    "#999933",
)

_SETTINGS = {
    "figure.dpi": 150,
    "savefig.dpi": 200,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # bundled with matplotlib, so equal on every machine
    "font.size": 8,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 8,
    "axes.labelsize": 8,
    "axes.edgecolor": MUTED,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.formatter.useoffset": False,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 3,
    "ytick.major.size": 3,
    "xtick.minor.visible": False,
    "ytick.minor.visible": False,
    "lines.linewidth": 1.4,
    "lines.solid_capstyle": "round",
    "svg.fonttype": "path",
    "svg.hashsalt": "espalier",  # equal figures have equal bytes
}


@contextlib.contextmanager
def paper() -> Iterator[None]:
    """Applies Matplotlib settings for a report's figures; the caller's settings stay unchanged."""
    import matplotlib

    with matplotlib.rc_context(_SETTINGS):
        yield


def save(figure: Figure, path: os.PathLike, **options: Any) -> None:
    """Writes a figure, or nothing if that fails; the suffix of the path is the format, by default PNG.

    Raises:
      ValueError: matplotlib has no such format.
    """
    kind = pathlib.PurePath(path).suffix.lstrip(".") or "png"
    written_aside(path, lambda aside: figure.savefig(aside, format=kind, **options))


def new_figure(width: float, height: float) -> Figure:
    """Makes a figure of `width` by `height` inches without pyplot, so without windows or global state."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    return figure


def colors(names: Sequence[str], baselines: Sequence[str] = ()) -> dict[str, str]:
    """One colour per name: dark ink for baselines, the palette in turn for the others."""
    others = [name for name in names if name not in baselines]
    return {name: BASELINE for name in names if name in baselines} | {
        name: PALETTE[i % len(PALETTE)] for i, name in enumerate(others)
    }


def text(words: str, limit: int = 30) -> str:
    """Formats `words` as a label: one line of at most `limit` characters, without mathtext."""
    words = " ".join(words.split())
    words = words if len(words) <= limit else f"{words[: limit - 1]}…"
    return words.replace("$", r"\$")


def spread(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Positions close to `wanted` in the same order, within [low, high], at least `gap` apart if there is room."""
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    gap = min(gap, (high - low) / max(len(wanted) - 1, 1))
    groups: list[list[int]] = []
    for i in order:
        groups.append([i])
        while len(groups) > 1 and _start(groups[-2], wanted, gap, low, high) + gap * len(groups[-2]) > _start(
            groups[-1], wanted, gap, low, high
        ):
            groups[-2:] = [groups[-2] + groups[-1]]
    placed = [0.0] * len(wanted)
    for group in groups:
        start = _start(group, wanted, gap, low, high)
        for rank, i in enumerate(group):
            placed[i] = start + rank * gap
    return placed


def _start(group: Sequence[int], wanted: Sequence[float], gap: float, low: float, high: float) -> float:
    """The position of the lowest label in a group of touching labels, such that the group is centred on its lines."""
    extent = gap * (len(group) - 1)
    centre = sum(wanted[i] for i in group) / len(group)
    return min(max(centre - extent / 2, low), high - extent)


def label_lines(axes: Axes, ends: Sequence[tuple[float, float, str, str]]) -> None:
    """Names lines at the right edge of `axes`; `ends` are (x, y, name, colour) in data coordinates."""
    if not ends:
        return
    transform = axes.transData + axes.transAxes.inverted()
    points = [transform.transform((x, y)) for x, y, _, _ in ends]
    height = axes.get_window_extent().height / axes.figure.dpi * 72
    placed = spread([min(max(y, 0.0), 1.0) for _, y in points], 10.5 / height, 0.0, 1.0)
    for (x, y), (_, _, name, color), at in zip(points, ends, placed, strict=True):
        y = min(max(y, 0.0), 1.0)
        axes.plot(
            [min(x + 0.005, 1.0), max(x, 1.0) + 0.012, 1.03],
            [y, y, at],
            transform=axes.transAxes,
            color=color,
            linewidth=0.5,
            alpha=0.6,
            linestyle="-" if x > 0.97 else (0, (1, 2.5)),  # dotted, so that a line that ends early does not seem longer
            clip_on=False,
        )
        axes.text(
            1.036,
            at,
            text(name),
            transform=axes.transAxes,
            color=color,
            fontsize=7.5,
            va="center",
            ha="left",
            clip_on=False,
        )


def sequence(n: int) -> list[str]:
    """`n` colours from light to dark for ordered things; all are dark enough on white."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    return [to_hex(colormaps["viridis"](0.82 * (1 - i / max(n - 1, 1)))) for i in range(n)]


def log_ticks(axis, low: float, high: float) -> None:
    """Ticks of a logarithmic axis as plain numbers: decades, and also 2 and 5 between them if there are few."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    decades = math.log10(high / low)
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if decades < 2 else (1,), numticks=8))
    axis.set_major_formatter(
        FuncFormatter(lambda x, _: text(numbers.value(float(f"{x:.6g}"), 0.1 if low < 1e-3 else 1e-2)))
    )
    axis.set_minor_locator(NullLocator())


def spans(values: Sequence[float], factor: float = 10.0) -> bool:
    """True if positive `values` span more than `factor`, so that a logarithmic axis suits them."""
    return bool(len(values)) and min(values) > 0 and max(values) / min(values) > factor
