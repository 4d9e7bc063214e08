"""Finds objects in pictures with a run trained by one of the detection tasks, or with published weights.

from research.inference import detect, load

found = detect(load("runs/bccd_yolox/base"), ["slide.jpg"])
found[0].names, found[0].boxes, found[0].scores
"""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import linen as nn

from research.data.images import ImageShape, read_image
from research.errors import require
from research.inference.predictor import Predictor
from research.inference.writing import check_predictor
from research.models.yolox import YOLOX
from research.pretrained.fitting import FitWithin
from research.pretrained.load import Pretrained
from research.tasks.dense_detection import DenseDetection
from research.tasks.detection import Detection
from research.tasks.set_detection import SetDetection
from research.training.step import bound_apply


class Found(NamedTuple):
    """The objects in a picture, best first.

    Attributes:
      boxes: [object, 4]: left, top, right, bottom in pixels of the picture as it is shown.
      scores: [object], from 0 to 1.
      labels: int [object].
      names: the class of each object by name; by number if the data name none.
    """

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    names: list[str]


def detect(
    predictor: Predictor | Pretrained, pictures: Sequence[Any] | np.ndarray, *, least: float = 0.3
) -> list[Found]:
    """Finds objects in pictures of any size.

    Args:
      predictor: a run trained by `DenseDetection` or `SetDetection`; or published weights of YOLOX, DETR or YOLOS,
        which compile once for each size of a prepared picture.
      pictures: a list of paths, Pillow images and uint8 arrays [height, width, channels], or one array of them all.
      least: objects with a lower score are left out.

    Raises:
      RequestError: the run is no detector, or a picture cannot be read.
    """
    published = isinstance(predictor, Pretrained)
    if published:
        known = isinstance(predictor.preprocessing, FitWithin)
        require(known, f"detect: {type(predictor.model).__name__} finds no objects; expected YOLOX, DETR or YOLOS")
    else:
        check_predictor(predictor, "detect", Detection)
    single = isinstance(pictures, str | bytes | os.PathLike)
    require(not single, f"pictures: {type(pictures).__name__} given; expected a list of them")
    require(0 <= least <= 1, f"least={least}: expected 0 to 1")
    if published:
        names, found = predictor.class_names, [_of_published(predictor, one, i) for i, one in enumerate(pictures)]
    else:
        found = predictor.predict(pictures)
        names, found = predictor.experiment.data.class_names, zip(*map(found.get, ("boxes", "score", "label")))  # noqa: B905
    results = []
    for boxes, scores, labels in found:
        kept = (labels >= 0) & (scores >= least)
        own = [names[i] if names else str(i) for i in labels[kept]]
        results.append(Found(boxes[kept], scores[kept], labels[kept], own))
    return results


def _of_published(pretrained: Pretrained, picture: Any, i: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Boxes in pixels of a picture, scores and labels."""
    name = f"image {i}"
    shown = read_image(picture, ImageShape(None, len(pretrained.preprocessing.mean), convert=True), name)
    x = pretrained.preprocessing(shown, name)
    found = jax.device_get(_found(pretrained.model, pretrained.variables, x[None]))
    rows, columns = pretrained.preprocessing.factors(*shown.shape[:2])
    height, width = shown.shape[:2]
    boxes = found["boxes"][0] * np.array([columns, rows] * 2)
    return np.clip(boxes, 0, [width, height, width, height]), found["score"][0], found["label"][0]


@functools.partial(jax.jit, static_argnums=0)
def _found(model: nn.Module, variables: Any, images: jax.Array) -> dict[str, jax.Array]:
    task = DenseDetection if isinstance(model, YOLOX) else SetDetection
    return task(classes=model.classes).predict(bound_apply(model, variables), {"image": images})


def draw_boxes(picture: Any, found: Found, *, width: int = 2) -> np.ndarray:
    """Draws what was found over a picture: uint8 [height, width, 3].

    >>> found = Found(np.array([[1.0, 1, 6, 6]]), np.array([0.9]), np.array([0]), ["cat"])
    >>> draw_boxes(np.zeros((8, 8, 3), np.uint8), found).any()
    np.True_

    Args:
      picture: a path, Pillow image, or uint8 array [height, width] or [height, width, channels].
      width: of the lines, in pixels.
    """
    from PIL import Image, ImageDraw

    image = Image.fromarray(read_image(picture, ImageShape(None, 3, convert=True), "picture"))
    pen = ImageDraw.Draw(image)
    for box, score, label, name in zip(*found, strict=True):
        colour = COLOURS[int(label) % len(COLOURS)]
        pen.rectangle([float(x) for x in box], outline=colour, width=width)
        pen.text((float(box[0]) + width + 1, float(box[1]) + width), f"{name} {score:.2f}", fill=colour)
    return np.asarray(image)


COLOURS = ("#e6550d", "#3182bd", "#31a354", "#756bb1", "#d6c616", "#de4597", "#17becf", "#8c564b")
