"""Shows exhibits in TensorBoard as images, texts and small plots.

Pillow draws the plots, in about a millisecond; matplotlib would be too slow for every evaluation of every trial.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

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
    TextPairs,
)

SHOWN = 64
"""Maximum number of images in one picture, and of rows and columns in a grid."""

PIXELS = 240
"""Side of a plot in pixels, and the maximum side of a confusion matrix with fewer classes than this."""

COLORS = ((0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167), (230, 159, 0), (86, 180, 233), (136, 34, 85))
"""The palette of Okabe and Ito, as in the report."""


def add(events: Any, tag: str, exhibit: Exhibit, step: int) -> None:
    """Adds an exhibit to an event file.

    Args:
      events: tensorboardX's SummaryWriter.
      tag: TensorBoard's tag, such as "validation/confusion".
      exhibit: an exhibit of any kind.
      step: the step of training.
    """
    if isinstance(exhibit, TextPairs):
        events.add_text(tag, _markdown(exhibit), step)
        return
    events.add_image(tag, picture(exhibit), step, dataformats="HWC")


def picture(exhibit: Exhibit) -> np.ndarray:
    """An exhibit of any kind but texts as a picture, uint8 [height, width, 3]."""
    return {
        Images: _images,
        ImagePairs: _pairs,
        ImageGrid: _image_grid,
        Boxes: _boxes,
        ConfusionMatrix: _confusion,
        Curves: _curves,
        Reliability: _reliability,
    }[type(exhibit)](exhibit)


def _markdown(exhibit: TextPairs) -> str:
    """The texts as a Markdown table."""
    columns = {name: getattr(exhibit, name) for name in ("source", "reference", "written")}
    columns = {name: texts for name, texts in columns.items() if texts is not None}
    rows = [columns, ["---"] * len(columns), *zip(*columns.values(), strict=True)]
    return "\n".join("| " + " | ".join(str(text).replace("|", "\\|") for text in row) + " |" for row in rows)


def _images(exhibit: Images) -> np.ndarray:
    return _tiled(exhibit.images[:SHOWN])


def _image_grid(exhibit: ImageGrid) -> np.ndarray:
    return _grid(exhibit.images[:SHOWN, :SHOWN])


def _tiled(images: np.ndarray) -> np.ndarray:
    """Arranges images [example, height, width, channels] in a square: [height, width, 3]."""
    columns = int(np.ceil(np.sqrt(len(images)))) or 1
    rows = -(-len(images) // columns)
    whole = np.full((rows * columns, *images.shape[1:]), 255, np.uint8)
    whole[: len(images)] = images
    return _grid(whole.reshape(rows, columns, *images.shape[1:]))


def _grid(images: np.ndarray) -> np.ndarray:
    """Joins images [row, column, height, width, channels], one white pixel apart: [height, width, 3]."""
    padded = np.pad(images, [(0, 0), (0, 0), (0, 1), (0, 1), (0, 0)], constant_values=255)
    rows, columns, height, width, channels = padded.shape
    whole = padded.transpose(0, 2, 1, 3, 4).reshape(rows * height, columns * width, channels)
    return np.broadcast_to(whole, (*whole.shape[:2], 3))


def _pairs(exhibit: ImagePairs) -> np.ndarray:
    """Arranges the left images in a row and the right images below them: [height, width, 3]."""
    rows = [_grid(side[None, :8]) for side in (exhibit.left, exhibit.right)]
    width = max(row.shape[1] for row in rows)
    return np.concatenate([np.pad(r, [(0, 0), (0, width - r.shape[1]), (0, 0)], constant_values=255) for r in rows])


def _boxes(exhibit: Boxes) -> np.ndarray:
    from PIL import Image, ImageDraw

    drawn = []
    for i, image in enumerate(exhibit.images[:9]):
        picture = Image.fromarray(np.broadcast_to(image, (*image.shape[:2], 3)))
        canvas = ImageDraw.Draw(picture)
        true = () if exhibit.true_boxes is None else zip(exhibit.true_boxes[i], exhibit.true_labels[i], strict=True)
        for box, label in true:
            _rectangle(canvas, box, label, (255, 255, 255))
        for box, label in zip(exhibit.boxes[i], exhibit.labels[i], strict=True):
            _rectangle(canvas, box, label, COLORS[int(label) % len(COLORS)])
        drawn.append(np.asarray(picture))
    return _tiled(np.stack(drawn))


def _rectangle(canvas: Any, box: np.ndarray, label: int, color: tuple[int, int, int]) -> None:
    left, top, right, bottom = map(float, box)
    if label != PADDING and right >= left and bottom >= top:
        canvas.rectangle((left, top, right, bottom), outline=color)


def _confusion(exhibit: ConfusionMatrix) -> np.ndarray:
    """Draws each row's shares, from white (0) to blue (1): [height, width, 3]."""
    share = exhibit.counts / np.maximum(exhibit.counts.sum(1, keepdims=True), 1)
    cell = max(1, PIXELS // len(share))
    shade = share[..., None]
    colors = np.uint8(255 * (1 - shade) + np.asarray([8, 48, 107]) * shade)
    return colors.repeat(cell, 0).repeat(cell, 1)


def _curves(exhibit: Curves) -> np.ndarray:
    lines = list(zip(exhibit.x, exhibit.y, map(str, exhibit.names), strict=True))
    return _plot(lines, str(exhibit.x_name), str(exhibit.y_name))


def _reliability(exhibit: Reliability) -> np.ndarray:
    ends = np.asarray([0.0, 1.0])
    model = (exhibit.confidence, exhibit.accuracy, "model")
    return _plot([model, (ends, ends, "calibrated")], "confidence", "accuracy")


def _plot(lines: Sequence[tuple[np.ndarray, np.ndarray, str]], x_name: str, y_name: str) -> np.ndarray:
    """Draws lines (x, y, name) in a frame, labelled with their names and the ends of the axes."""
    from PIL import Image, ImageDraw

    picture = Image.new("RGB", (PIXELS, PIXELS), "white")
    canvas, margin = ImageDraw.Draw(picture), 28
    frame = (margin, 12, PIXELS - 8, PIXELS - margin)
    canvas.rectangle(frame, outline=(170, 170, 170))
    left, right = _ends([x for x, _, _ in lines])
    low, high = _ends([y for _, y, _ in lines])
    for i, (x, y, name) in enumerate(lines):
        kept = np.isfinite(x) & np.isfinite(y)
        across = frame[0] + (x[kept] - left) / (right - left) * (frame[2] - frame[0])
        up = frame[3] - (y[kept] - low) / (high - low) * (frame[3] - frame[1])
        color = COLORS[i % len(COLORS)]
        canvas.line(list(zip(across.tolist(), up.tolist(), strict=True)), fill=color, width=2)
        if i < 12:
            _write(canvas, (margin + 6, 16 + 12 * i), name, color)
    for at, text in (
        ((margin, PIXELS - margin + 2), f"{left:.3g}"),
        ((PIXELS - 40, PIXELS - margin + 2), f"{right:.3g}"),
        ((PIXELS // 2 - 30, PIXELS - margin + 12), x_name),
        ((1, PIXELS - margin - 10), f"{low:.3g}"),
        ((1, 12), f"{high:.3g}"),
        ((margin, 0), y_name),
    ):
        _write(canvas, at, text, (60, 60, 60))
    return np.asarray(picture)


def _write(canvas: Any, at: tuple[float, float], text: str, color: tuple[int, int, int]) -> None:
    canvas.text(at, text[:40].encode("latin-1", "replace").decode("latin-1"), fill=color)  # Pillow's font is Latin-1


def _ends(values: Sequence[np.ndarray]) -> tuple[float, float]:
    """The minimum and maximum of the finite values, moved 0.5 apart if equal; (0, 1) if there are none."""
    finite = [x[np.isfinite(x)] for x in values]
    finite = np.concatenate([np.zeros(0), *finite])
    if not finite.size:
        return 0.0, 1.0
    low, high = float(finite.min()), float(finite.max())
    return (low, high) if high > low else (low - 0.5, high + 0.5)
