"""Draws exhibits as figures, by kind; text pairs become a table instead (research/report/exhibits.py)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from research.console import counted
from research.evaluation.exhibits import (
    PADDING,
    Boxes,
    ConfusionMatrix,
    Curves,
    Exhibit,
    ImageGrid,
    ImagePairs,
    Images,
    Reliability,
)
from research.report import numbers, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SHOWN = 64  # maximum number of images in a figure
WIDE = 8  # images per row
PAGE = 6.4  # width in inches
GAP = 0.06  # between images, as a fraction of their side
DOTS = 1600  # maximum pixels in a row of images; print cannot resolve more
FOOT = 0.02  # height of a caption, as a fraction of the figure's width
NUMBERED = 12  # maximum number of classes for numbers in the cells of a confusion matrix
NAMED = 40  # maximum number of classes for class names next to it
BOXED = 6  # maximum number of images with boxes

Drawn = tuple["Figure", str]
"""A figure, and a text for its caption."""


def draw(exhibit: Exhibit) -> Drawn | None:
    """The figure of an exhibit; None for text."""
    drawing = {
        Images: _images,
        ImagePairs: _pairs,
        ImageGrid: _grid,
        Boxes: _boxes,
        ConfusionMatrix: _confusion,
        Curves: _curves,
        Reliability: _reliability,
    }.get(type(exhibit))
    return None if drawing is None else drawing(exhibit)


def over_steps(exhibits: Mapping[int, Exhibit]) -> Drawn | None:
    """Draws the same images at several steps, one row per step; None for exhibits without images."""
    rows = {step: images for step, exhibit in exhibits.items() if (images := _made(exhibit)) is not None}
    if len(rows) < 2 or len({images.shape[1:] for images in rows.values()}) > 1:
        return None
    count = min(WIDE, *(len(images) for images in rows.values()))
    figure = _mosaic(
        np.stack([_colored(images[:count]) for images in rows.values()]), [f"step {step:,}" for step in rows]
    )
    return figure, "the same examples over training"


def _made(exhibit: Exhibit) -> np.ndarray | None:
    """The images of an exhibit that change during training, [example, height, width, channels]."""
    if isinstance(exhibit, ImageGrid):
        return exhibit.images.reshape(-1, *exhibit.images.shape[2:])
    return exhibit.images if isinstance(exhibit, Images) else exhibit.right if isinstance(exhibit, ImagePairs) else None


# Images -------------------------------------------------------------------------------------------


def _images(exhibit: Images) -> Drawn:
    images = _colored(exhibit.images[:SHOWN])
    columns = min(WIDE, len(images))
    rows = -(-len(images) // columns)
    whole = np.full((rows * columns, *images.shape[1:]), 255, np.uint8)
    whole[: len(images)] = images
    captions = () if exhibit.captions is None else exhibit.captions[:SHOWN]
    figure = _mosaic(whole.reshape(rows, columns, *images.shape[1:]), captions=captions)
    return figure, _of(len(images), len(exhibit.images), "image")


def _pairs(exhibit: ImagePairs) -> Drawn:
    count = min(WIDE, len(exhibit.left))
    size = tuple(max(a, b) for a, b in zip(exhibit.left.shape[1:3], exhibit.right.shape[1:3], strict=True))
    rows = np.stack([_sized(_colored(side[:count]), size) for side in (exhibit.left, exhibit.right)])
    captions = () if exhibit.captions is None else [*[""] * count, *exhibit.captions[:count]]
    return _mosaic(rows, list(exhibit.names), captions=captions), _of(count, len(exhibit.left), "pair")


def _grid(exhibit: ImageGrid) -> Drawn:
    images = exhibit.images[:SHOWN, : 2 * WIDE]
    rows = None if exhibit.row_names is None else list(exhibit.row_names[:SHOWN])
    columns = None if exhibit.column_names is None else list(exhibit.column_names[: 2 * WIDE])
    figure = _mosaic(_colored(images), rows, columns)
    return figure, _of(images.shape[0] * images.shape[1], exhibit.images.shape[0] * exhibit.images.shape[1], "image")


def _mosaic(
    images: np.ndarray,
    rows: Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
    captions: Sequence[str] = (),
) -> Figure:
    """Arranges images [row, column, height, width, 3] in one picture with gaps.

    The names in `rows` and `columns` stand on the left and above, `captions` below the images in reading order.
    """
    stride = max(1, images.shape[1] * images.shape[3] // DOTS)
    images = images[:, :, ::stride, ::stride]
    high, wide, height, width, _ = images.shape
    gap = max(1, round(GAP * max(height, width)))
    foot = round(FOOT * wide * (width + gap)) if len(captions) else 0
    down, across = height + gap + foot, width + gap
    whole = np.full((high * down - gap, wide * across - gap, 3), 255, np.uint8)
    for i, j in np.ndindex(high, wide):
        whole[i * down : i * down + height, j * across : j * across + width] = images[i, j]
    side = min(PAGE, max(0.8 * wide, 2.0))
    figure = style.new_figure(side, side * whole.shape[0] / whole.shape[1])
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(whole, interpolation="nearest", aspect="auto", extent=(0, whole.shape[1], whole.shape[0], 0))
    axes.grid(visible=False)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    centres = [i * down + height / 2 for i in range(high)]
    axes.set_yticks(centres if rows else [], [style.text(str(name), 24) for name in rows or []])
    axes.xaxis.tick_top()
    centres = [j * across + width / 2 for j in range(wide)]
    axes.set_xticks(centres if columns else [], [style.text(str(name), 14) for name in columns or []])
    for k, caption in enumerate(captions):
        i, j = divmod(k, wide)
        place = (centres[j], i * down + height)
        axes.annotate(
            style.text(str(caption), 16), place, (0, -2), textcoords="offset points", ha="center", va="top", fontsize=6
        )
    return figure


def _colored(images: np.ndarray) -> np.ndarray:
    """Converts images to three channels."""
    return np.repeat(images, 3, axis=-1) if images.shape[-1] == 1 else images


def _sized(images: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resizes images [example, height, width, 3] with nearest neighbours."""
    rows, columns = (np.arange(n) * m // n for n, m in zip(size, images.shape[1:3], strict=True))
    return images[:, rows][:, :, columns]


def _boxes(exhibit: Boxes) -> Drawn:
    count = min(BOXED, len(exhibit.images))
    columns = min(3, count)
    rows = -(-count // columns)
    height, width = exhibit.images.shape[1:3]
    side = PAGE / 3
    figure = style.new_figure(columns * side, rows * side * height / width)
    for i in range(count):
        place = ((i % columns) / columns, 1 - (i // columns + 1) / rows, 0.98 / columns, 0.98 / rows)
        axes = figure.add_axes(place)
        axes.imshow(_colored(exhibit.images[i]), interpolation="nearest", aspect="auto")
        axes.set_axis_off()
        if exhibit.true_boxes is not None:
            for box, label in zip(exhibit.true_boxes[i], exhibit.true_labels[i], strict=True):
                _box(axes, box, label, None, exhibit.class_names, true=True)
        scores = [None] * len(exhibit.boxes[i]) if exhibit.scores is None else exhibit.scores[i]
        for box, label, score in zip(exhibit.boxes[i], exhibit.labels[i], scores, strict=True):
            _box(axes, box, label, score, exhibit.class_names, true=False)
    dashed = "; true boxes are white and dashed" if exhibit.true_boxes is not None else ""
    return figure, f"{_of(count, len(exhibit.images), 'image')} with detected boxes{dashed}"


def _box(axes: Axes, box: np.ndarray, label: int, score: float | None, names: np.ndarray | None, true: bool) -> None:
    from matplotlib.patches import Rectangle

    if label == PADDING:
        return
    left, top, right, bottom = map(float, box)
    color = "white" if true else style.PALETTE[int(label) % len(style.PALETTE)]
    dashes = (0, (3, 2)) if true else "-"
    axes.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, ec=color, lw=1.3, ls=dashes))
    if not true:
        name = str(names[label]) if names is not None and label < len(names) else str(label)
        said = style.text(name, 14) + ("" if score is None else f" {score:.2f}")
        paper = {"facecolor": color, "edgecolor": "none", "alpha": 0.85, "pad": 0.6}
        axes.text(left, top, said, color="white", fontsize=5.5, va="bottom", bbox=paper, clip_on=True)


# Numbers ------------------------------------------------------------------------------------------


def _confusion(exhibit: ConfusionMatrix) -> Drawn:
    counts = exhibit.counts.astype(np.float64)
    classes = len(counts)
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    names = [str(i) for i in range(classes)] if exhibit.class_names is None else [str(x) for x in exhibit.class_names]
    cell = min(0.32, 4.6 / classes)
    figure = style.new_figure(cell * classes, cell * classes)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
    if classes <= NUMBERED:
        for i, j in np.argwhere(counts > 0):
            color = "white" if share[i, j] > 0.55 else style.INK
            axes.text(j, i, f"{exhibit.counts[i, j]:,}", ha="center", va="center", fontsize=6.5, color=color)
    axes.grid(visible=False)
    axes.tick_params(length=0)
    ticks = range(classes) if classes <= NAMED else []
    labels = [style.text(names[i], 16) for i in ticks]
    long = max(map(len, labels), default=0) > 3 or classes > NUMBERED
    axes.set_yticks(list(ticks), labels, fontsize=7 if classes <= 20 else 5.5)
    axes.set_xticks(list(ticks), labels, rotation=90 if long else 0, fontsize=7 if classes <= 20 else 5.5)
    axes.set_xlabel("predicted")
    axes.set_ylabel("label")
    return figure, f"colour: fraction of the examples with each label{_most_confused(share, names)}"


def _most_confused(share: np.ndarray, names: Sequence[str], most: int = 3) -> str:
    """Ends a caption with the largest fractions off the diagonal."""
    off = np.where(np.eye(len(share), dtype=bool), 0, share)
    order = np.argsort(-off, axis=None)[:most]
    pairs = [(i, j) for i, j in zip(*np.unravel_index(order, off.shape), strict=True) if off[i, j] > 0]
    said = ", ".join(f"{names[i]} as {names[j]} ({off[i, j]:.0%})" for i, j in pairs)
    return f"; most often confused: {said}" if said else "; none confused"


def _curves(exhibit: Curves) -> Drawn:
    names = [str(name) for name in exhibit.names]
    figure = style.new_figure(3.2, 2.6)
    axes = figure.add_axes((0, 0, 1, 1))
    for i, (x, y, name) in enumerate(zip(exhibit.x, exhibit.y, names, strict=True)):
        color = style.PALETTE[i % len(style.PALETTE)]
        kept = np.isfinite(x) & np.isfinite(y)
        axes.plot(x[kept], y[kept], color=color, label=style.text(name))
    axes.set_xlabel(style.text(str(exhibit.x_name), 60))
    axes.set_ylabel(style.text(str(exhibit.y_name), 60))
    if 1 < len(names) <= len(style.PALETTE):
        axes.legend(frameon=False, fontsize=7)
    return figure, f"{exhibit.y_name} over {exhibit.x_name}"


def _reliability(exhibit: Reliability) -> Drawn:
    bins = len(exhibit.count)
    edges = np.linspace(0, 1, bins + 1)
    centres, width = (edges[:-1] + edges[1:]) / 2, 1 / bins
    figure = style.new_figure(2.6, 3.2)
    upper = figure.add_axes((0, 0.3, 1, 0.7))
    lower = figure.add_axes((0, 0, 1, 0.22))
    filled = exhibit.count > 0
    upper.plot([0, 1], [0, 1], color=style.MUTED, linewidth=0.8, dashes=(4, 2))
    upper.bar(centres[filled], exhibit.accuracy[filled], 0.94 * width, color=style.PALETTE[0], alpha=0.75)
    upper.plot(exhibit.confidence[filled], exhibit.accuracy[filled], "o", color=style.INK, markersize=2.5)
    lower.bar(centres, exhibit.count / max(exhibit.count.sum(), 1), 0.94 * width, color=style.FAINT)
    upper.set(xlim=(0, 1), ylim=(0, 1), ylabel="accuracy")
    upper.tick_params(labelbottom=False)
    lower.set(xlim=(0, 1), xlabel="confidence", ylabel="share")
    lower.locator_params(axis="y", nbins=3)
    gap = np.sum(exhibit.count * np.abs(exhibit.confidence - exhibit.accuracy), where=filled)
    error = numbers.plain(float(gap / max(exhibit.count.sum(), 1)))
    said = f"accuracy (above) and fraction of examples (below) in each bin of confidence; calibration error {error}"
    return figure, f"{said}. Below the dashed line, the model is overconfident"


def _of(shown: int, count: int, what: str) -> str:
    return counted(count, what) if shown == count else f"{shown:,} of {counted(count, what)}"
