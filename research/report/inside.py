"""Figures of the inside of a run's model: its first filters, its feature maps, and what its decisions depend on.

The rest of a report only reads files; this module loads the model and some examples of its data, and computes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from research.console import counted
from research.errors import RequestError, require
from research.report import style
from research.report.runs import RunResult, TrialResult
from research.report.statistics import that_count
from research.report.table import Table, ranked

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

EXAMPLES = 6  # images per figure
FILTERS = 64
CHANNELS = 8  # per feature map
DEPTHS = 6  # number of feature maps
HEADS = 6
SMOOTH = 16  # noisy copies of an image, for SmoothGrad
SIDE = 0.62  # of a small picture, in inches
LABEL = 1.15  # width of the names to the left of a row, in inches

Drawn = tuple[str, str, "Figure"]
"""A figure's name, its caption, and the figure."""


def draw(table: Table, *, trust: bool = False) -> tuple[list[Drawn], list[str]]:
    """Draws the best variant of each run; also returns one line for each run without figures.

    Uses the first trial of a variant; a figure's name consists of its kind and its run.
    """
    drawn: list[Drawn] = []
    notes: list[str] = []
    for run in table.runs:
        try:
            trial = _chosen(run, table)
            found = _of_trial(run, trial, trust)
        except RequestError as error:
            notes.append(f"{run.label or run.experiment}: no figures of the inside of its model: {error}")
            continue
        where = f"{run.label}/{trial.name}" if run.label else trial.name
        drawn += [("-".join(filter(None, (name, run.label))), f"{where}: {said}", fig) for name, said, fig in found]
    return drawn, notes


def _chosen(run: RunResult, table: Table) -> TrialResult:
    """The first finished trial of the variant with the best validation score, or else of the first finished variant."""
    rows = [row for row in ranked(table.of([run]).rows) if that_count(run.of(row.variant))]
    require(bool(rows), "no trial has finished")
    return that_count(run.of(rows[0].variant))[0]


def _of_trial(run: RunResult, trial: TrialResult, trust: bool) -> list[Drawn]:
    from research.data.labels import class_name
    from research.evaluation import interpretability
    from research.inference import load

    predictor = load(run.folder, trial=trial.name, trust=trust)
    batch, images, split = _examples(predictor.experiment)
    inputs = predictor.inputs_of(batch)
    seen = next(iter(inputs.values()))
    require(seen.ndim == 4, "its model takes no images")
    inside = (predictor.model, predictor.variables, inputs)
    labels = np.asarray(predictor.model.apply(predictor.variables, **inputs)).argmax(-1)
    known = class_name(predictor.experiment.data.class_names or (), labels)
    names = [name or f"class {label}" for name, label in zip(known.tolist(), labels, strict=True)]

    if seen.shape[1:3] != images.shape[1:3]:  # cropped or resized: show the model's own input
        images = _stretched(np.asarray(seen))

    drawn: list[Drawn] = []
    kernels = interpretability.convolution_kernels(*inside)
    if kernels and (first := next(iter(kernels))) and kernels[first].shape[2] in (1, 3):
        drawn.append(_filters(first, np.moveaxis(np.asarray(kernels[first]), -1, 0)))
    maps = {path: np.asarray(x[0]) for path, x in interpretability.feature_maps(*inside).items()}
    if _by_depth(maps):
        drawn.append(_feature_maps(images[0], maps, split))
    heat = np.asarray(interpretability.saliency(*inside, samples=SMOOTH))
    drawn.append(_saliency(images, heat, names, split))
    if hasattr(predictor.model, "patch_size") and hasattr(predictor.model, "num_heads"):
        weights = interpretability.attention_maps(*inside)
        drawn.append(_attention(images, weights, predictor.model.patch_size, split))
    return drawn


def _examples(experiment: Any) -> tuple[dict[str, np.ndarray], np.ndarray, str]:
    """Returns some examples of different classes, their images, and their split: validation, or else test."""
    from research.data.source import column, first_example, read

    field, label = getattr(experiment.task, "input", ""), getattr(experiment.task, "label", "")
    splits = experiment.load()
    split = "validation" if splits.validation is not None else "test" if splits.test is not None else "train"
    source = getattr(splits, split)
    first = first_example(source)
    require(field in first and first[field].ndim == 3, "its data hold no images")
    labels = column(source, label)
    firsts = np.zeros(0, int) if labels is None else np.unique(labels, return_index=True)[1]
    others = np.setdiff1d(np.arange(min(len(source), 2 * EXAMPLES)), firsts)
    batch = read(source, np.concatenate([firsts, others])[:EXAMPLES], first)
    return batch, batch[field], split


def _stretched(images: np.ndarray) -> np.ndarray:
    """Stretches each normalised image to the range of bytes."""
    low, high = images.min((1, 2, 3), keepdims=True), images.max((1, 2, 3), keepdims=True)
    return np.uint8(255 * (images - low) / np.maximum(high - low, 1e-6))


# Figures ------------------------------------------------------------------------------------------


def _filters(path: str, kernels: np.ndarray) -> Drawn:
    """Draws kernels [filters, height, width, channels] with 1 or 3 channels."""
    strength = np.sqrt(np.square(kernels).sum((1, 2, 3)))
    shown = kernels[np.argsort(-strength)][:FILTERS]
    columns = min(len(shown), 16)
    rows = -(-len(shown) // columns)
    figure = style.new_figure(columns * SIDE * 0.62, rows * SIDE * 0.62)
    largest = np.abs(shown).max((1, 2, 3), keepdims=True)
    shown = shown / np.where(largest > 0, largest, 1)
    for i, kernel in enumerate(shown):
        axes = _cell(figure, i // columns, i % columns, rows, columns)
        if kernel.shape[-1] == 3:
            _image(axes, (kernel + 1) / 2)
        else:
            _heat(axes, kernel[..., 0], "RdBu_r", -1, 1)
    size = f"{kernels.shape[1]}×{kernels.shape[2]}"
    some = f"the {len(shown)} strongest of {len(kernels)}" if len(shown) < len(kernels) else f"all {len(kernels)}"
    what = "grey is 0" if kernels.shape[-1] == 3 else "white is 0, red is positive, blue negative"
    caption = f"first filters ({path}, {size} pixels), {some}, strongest first, each scaled separately; {what}."
    return "inside-filters", caption, figure


def _feature_maps(image: np.ndarray, maps: Mapping[str, np.ndarray], split: str) -> Drawn:
    """Draws maps {path: [height, width, channels]} of an image [height, width, channels], in order of computation."""
    chosen = _by_depth(maps)
    figure = style.new_figure(LABEL + (CHANNELS + 1) * SIDE, len(chosen) * SIDE)
    left = LABEL / figure.get_figwidth()
    for row, path in enumerate(chosen):
        x = maps[path]
        loudest = np.argsort(-x.std((0, 1)))[:CHANNELS]
        size = f"{x.shape[0]}×{x.shape[1]}×{x.shape[2]}"
        _row_label(figure, row, len(chosen), style.text(path, 20), size)
        if row == 0:
            _image(_cell(figure, 0, 0, len(chosen), CHANNELS + 1, left), image)
        for column, channel in enumerate(loudest):
            axes = _cell(figure, row, column + 1, len(chosen), CHANNELS + 1, left)
            _heat(axes, x[..., channel], "viridis")
    caption = (
        f"feature maps of the {split} image at the top left, from the first layers to the last; "
        f"the {CHANNELS} channels of each that vary most, each scaled separately."
    )
    return "inside-features", caption, figure


def _by_depth(maps: Mapping[str, np.ndarray]) -> list[str]:
    """The maps to show: those of top-level modules, without norms and duplicates."""
    tops: list[str] = []
    for path, x in maps.items():
        seen = any(maps[other].shape == x.shape and np.array_equal(maps[other], x) for other in tops)
        if "/" not in path and "norm" not in path and min(x.shape[:2]) > 1 and not seen:
            tops.append(path)
    tops = [path for path in tops if f"{path}_out" not in tops]  # drops maps before their activation
    picked = np.unique(np.linspace(0, len(tops) - 1, min(len(tops), DEPTHS)).round().astype(int))
    return [tops[i] for i in picked]


def _saliency(images: np.ndarray, heat: np.ndarray, names: Sequence[str], split: str) -> Drawn:
    """Draws images [example, height, width, channels] with their saliency [example, height, width]."""
    side = 1.6 * SIDE
    figure = style.new_figure(len(images) * side, 2 * side + 0.2)
    top = 1 - 0.2 / figure.get_figheight()
    for i, (image, own, name) in enumerate(zip(images, heat, names, strict=True)):
        axes = _cell(figure, 0, i, 2, len(images), top=top)
        _image(axes, image)
        axes.set_title(style.text(name, 14), fontsize=7.5, fontweight="normal", loc="center", pad=3)
        _heat(_cell(figure, 1, i, 2, len(images), top=top), own, "magma", 0, np.quantile(own, 0.995) or 1)
    caption = (
        f"saliency of {counted(len(images), f'{split} image')}: the effect of each pixel on the logit of the predicted "
        f"class (SmoothGrad over {SMOOTH} noisy copies), whose name stands above; lighter means more."
    )
    return "inside-saliency", caption, figure


def _attention(images: np.ndarray, weights: Any, patch_size: int, split: str) -> Drawn:
    """Draws attention weights [layer, example, head, query, key] of images [example, height, width, channels]."""
    from research.evaluation.interpretability import attention_rollout

    rollout, last = np.asarray(attention_rollout(weights)), np.asarray(weights[-1])
    grid = (images.shape[1] // patch_size, images.shape[2] // patch_size)
    prefix = rollout.shape[-1] - math.prod(grid)

    def map_of(attention: np.ndarray) -> np.ndarray:
        """Maps [query, key] to [rows, columns] for the class token, or for the mean over tokens without one."""
        seen = attention[0] if prefix else attention.mean(0)
        return seen[prefix:].reshape(grid)

    images, heads = images[:4], min(last.shape[1], HEADS)
    side, columns = 1.2 * SIDE, 2 + heads
    figure = style.new_figure(columns * side, len(images) * side + 0.2)
    top = 1 - 0.2 / figure.get_figheight()
    titles = ["image", "rollout", *(f"head {h}" for h in range(heads))]
    for i, image in enumerate(images):
        shown = [None, map_of(rollout[i]), *(map_of(last[i, h]) for h in range(heads))]
        for column, (title, heat) in enumerate(zip(titles, shown, strict=True)):
            axes = _cell(figure, i, column, len(images), columns, top=top)
            if heat is None:
                _image(axes, image)
            else:
                _heat(axes, heat, "magma", 0)
            if i == 0:
                axes.set_title(title, fontsize=7.5, fontweight="normal", loc="center", pad=3)
    who = "the class token" if prefix else "the mean token"
    caption = (
        f"attention of {who} in {counted(len(images), f'{split} image')}: rolled out over all layers (Abnar & Zuidema, "
        f"2020), and for {counted(heads, 'head')} of the last layer; lighter means more."
    )
    return "inside-attention", caption, figure


# Parts of figures ---------------------------------------------------------------------------------


def _cell(figure: Figure, row: int, column: int, rows: int, columns: int, left: float = 0.0, top: float = 1.0) -> Axes:
    """The axes of a small picture in a grid that fills the figure right of `left` and below `top`."""
    width, height = (1 - left) / columns, top / rows
    gap_x, gap_y = 0.03 / figure.get_figwidth(), 0.03 / figure.get_figheight()
    place = (left + column * width + gap_x, top - (row + 1) * height + gap_y, width - 2 * gap_x, height - 2 * gap_y)
    axes = figure.add_axes(place)
    axes.set_axis_off()
    return axes


def _row_label(figure: Figure, row: int, rows: int, name: str, size: str) -> None:
    y, gap = 1 - (row + 0.5) / rows, 0.02 / figure.get_figheight()
    right = (LABEL - 0.08) / figure.get_figwidth()
    figure.text(right, y + gap, name, ha="right", va="bottom", fontsize=7.5)
    figure.text(right, y - gap, size, ha="right", va="top", fontsize=6.5, color=style.MUTED)


def _image(axes: Axes, image: np.ndarray) -> None:
    """Shows an image of bytes, or of numbers, which are stretched to the whole range."""
    x = image.astype(np.float32)
    low, high = (0.0, 255.0) if image.dtype == np.uint8 else (min(0.0, float(x.min())), max(1.0, float(x.max())))
    x = np.clip((x - low) / (high - low), 0, 1)
    axes.imshow(x[..., 0] if x.shape[-1] == 1 else x[..., :3], cmap="gray", vmin=0, vmax=1, interpolation="nearest")


def _heat(axes: Axes, x: np.ndarray, cmap: str, low: float | None = None, high: float | None = None) -> None:
    axes.imshow(x, cmap=cmap, vmin=low, vmax=high, interpolation="nearest", aspect="auto")
