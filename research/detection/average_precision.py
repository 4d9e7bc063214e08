"""COCO's average precision (Lin et al., 2014) by pycocotools, from the arrays of an evaluation."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from research.config.extras import from_extra

ORDINARY, CROWD, DIFFICULT = range(3)
"""Kinds of true boxes, as their format's evaluation treats them.

No detection has to find a crowd or a difficult box, and one that does counts neither as right nor as wrong.  It finds a
crowd (COCO) if enough of the detection lies in it, and a difficult box (VOC) by IoU.
"""

RECALLS = np.linspace(0, 1, 101)
"""At which the precision is averaged."""


class Scores(NamedTuple):
    """Average precision of a split.

    Attributes:
      metrics: "ap" (over IoU from 0.5 to 0.95), "ap50", "ap75", "ar" (recall), "ap_small", "ap_medium" and "ap_large"
        (below 32², up to 96² and above, in pixels), and "ap_NAME" for each class.  Sizes and classes that no true box
        has are left out; "ap" is NaN without any.
      precision: [class, 101], at IoU 0.5 and the recalls `RECALLS`; NaN for classes without a true box.
    """

    metrics: dict[str, float]
    precision: np.ndarray


def average_precision(
    outputs: Mapping[str, np.ndarray], classes: int, names: Sequence[str] | None = None, *, most: int = 100
) -> Scores:
    """Scores detections of all images of a split.

    Args:
      outputs: "boxes" [image, found, 4] in xyxy, "scores" and "labels" [image, found]; "true_boxes" [image, box, 4],
        "true_labels" and "kinds" [image, box], and "areas" [image, box] if they are not those of the boxes.  Labels -1
        are padding.
      classes: the number of classes.
      names: of the classes.
      most: detections that count per image.

    Raises:
      RequestError: pycocotools is not installed.
    """
    coco = from_extra("pycocotools.coco", "detection", "average precision")
    count = len(outputs["boxes"])
    true = _annotations(outputs["true_boxes"], outputs["true_labels"])
    kinds = outputs["kinds"][true.image, true.place]
    areas = outputs.get("areas")
    given = true.areas if areas is None else areas[true.image, true.place]
    found = _annotations(outputs["boxes"], outputs["labels"])
    scores = outputs["scores"][found.image, found.place]
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its progress
        truth = _coco(coco.COCO(), true, count, classes, area=given, iscrowd=kinds != ORDINARY, kind=kinds)
        detections = _coco(coco.COCO(), found, count, classes, area=found.areas, score=scores)
        judge = _judge()(truth, detections, "bbox")
        judge.params.maxDets = [1, 10, most]
        judge.evaluate()
        judge.accumulate()
    precision, recall = judge.eval["precision"], judge.eval["recall"]  # [IoU, recall, class, size, most], [IoU, class…]
    metrics = {
        "ap": _mean(precision[:, :, :, 0, -1]),
        "ap50": _mean(precision[0, :, :, 0, -1]),
        "ap75": _mean(precision[5, :, :, 0, -1]),
        "ar": _mean(recall[:, :, 0, -1]),
    }
    more = {f"ap_{size}": precision[:, :, :, i, -1] for i, size in enumerate(("small", "medium", "large"), 1)}
    for i in range(classes):
        more[f"ap_{names[i] if names else i}".replace("/", "_")] = precision[:, :, i, 0, -1]
    metrics |= {name: mean for name, x in more.items() if not np.isnan(mean := _mean(x))}
    at_half = precision[0, :, :, 0, -1].T
    return Scores(metrics, np.where(at_half < 0, np.nan, at_half))


class _Annotations(NamedTuple):
    """Boxes without padding: the image and place in it of each, x, y, width, height, its class and its area."""

    image: np.ndarray
    place: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    areas: np.ndarray


def _annotations(boxes: np.ndarray, labels: np.ndarray) -> _Annotations:
    image, place = np.nonzero(labels >= 0)
    corners = boxes[image, place].astype(np.float64)
    size = np.maximum(corners[:, 2:] - corners[:, :2], 0)
    return _Annotations(image, place, np.concatenate([corners[:, :2], size], 1), labels[image, place], size.prod(1))


def _coco(coco: Any, of: _Annotations, images: int, classes: int, **columns: np.ndarray) -> Any:
    """Fills a pycocotools data set; ids count from 1, because it takes a match with id 0 for none."""
    columns = {name: x.tolist() for name, x in columns.items()}
    coco.dataset = {
        "images": [{"id": i} for i in range(images)],
        "categories": [{"id": i} for i in range(classes)],
        "annotations": [
            {"id": i + 1, "image_id": image, "category_id": label, "bbox": box}
            | {name: x[i] for name, x in columns.items()}
            for i, (image, label, box) in enumerate(
                zip(of.image.tolist(), of.labels.tolist(), of.boxes.tolist(), strict=True)
            )
        ],
    }
    coco.createIndex()
    return coco


def _judge() -> Any:
    """pycocotools' evaluation, which measures overlaps with difficult boxes by IoU."""
    from pycocotools import mask
    from pycocotools.cocoeval import COCOeval

    class Judge(COCOeval):
        def computeIoU(self, image: int, label: int) -> Any:  # noqa: N802  (pycocotools calls it)
            true, found = self._gts[image, label], self._dts[image, label]
            if not true or not found:
                return []
            found = sorted(found, key=lambda one: -one["score"])[: self.params.maxDets[-1]]
            crowds = [int(one["kind"] == CROWD) for one in true]
            return mask.iou([one["bbox"] for one in found], [one["bbox"] for one in true], crowds)

    return Judge


def _mean(x: np.ndarray) -> float:
    """The mean of the entries that pycocotools could compute; NaN if there are none."""
    known = x[x > -1]
    return float(known.mean()) if known.size else float("nan")
