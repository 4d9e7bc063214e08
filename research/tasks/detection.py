"""Detection: what all detectors share, which is true boxes, average precision and pictures.

A batch has boxes in pixels of the image as the model sees it, filled up to a fixed number with label -1:

    image   [batch, height, width, channels]
    boxes   float32 [batch, box, 4]: left, top, right, bottom
    labels  int32 [batch, box]
    kinds   uint8 [batch, box]: 0; 1 for a crowd, which nothing learns; 2 for a difficult box (optional)
    scale   float32 [batch]: pixels of the image per pixel of the original, in which boxes are scored (optional)
    areas   float32 [batch, box]: of the objects, in pixels of the original (optional)
    content int32 [batch, 2]: height and width of the part of the image that is no padding (optional)
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from research.config.checks import check_counts
from research.data.source import Source, first_example
from research.detection import boxes as box
from research.detection.average_precision import CROWD, RECALLS, Scores, average_precision
from research.detection.nms import Kept
from research.errors import RequestError, require
from research.evaluation.exhibits import Boxes, Curves
from research.tasks.task import Apply, Batch, Direction, Task, require_columns, whole_column

CONFIDENT = 0.3
"""The least score of boxes in pictures."""

PICTURES = 12


@dataclasses.dataclass(frozen=True, kw_only=True)
class Detection(Task, abc.ABC):
    """The base of detection; a subclass defines `loss` and `detect`.

    >>> from research.metrics.directions import direction
    >>> direction(Detection.better, "test/ap_cat")
    'max'

    Metrics: "ap", "ap50", "ap75", "ar", by size and by class (`research.detection.average_precision`).

    Attributes:
      classes: the number of classes.
      input, boxes, labels: the columns of images, of boxes and of their classes.
      class_names: the names of the classes, in metrics and pictures.
      most: detections per image.
      picture: the longest side of images in exhibits, in pixels; 0 shows none.
    """

    better: ClassVar[Mapping[str, Direction]] = {"loss": "min", "ap*": "max", "ar": "max"}
    headline: ClassVar[tuple[str, ...]] = ("ap", "ap50", "ap75", "ar")

    classes: int
    input: str = "image"
    boxes: str = "boxes"
    labels: str = "labels"
    class_names: tuple[str, ...] | None = None
    most: int = 100
    picture: int = 256

    @abc.abstractmethod
    def detect(self, apply: Apply, batch: Batch) -> Kept:
        """Returns the boxes found in each image, best first: [batch, found, ...]."""

    def check(self) -> None:
        check_counts(self, "classes", "most")
        check_counts(self, "picture", least=0)
        names = self.class_names
        fits = names is None or len(names) == self.classes
        require(fits, f"class_names={names}: expected {self.classes}, one for each class")

    def check_model(self, model: Any) -> None:
        known = getattr(model, "classes", self.classes)
        given = f"task.classes={self.classes} and model.classes={known}"
        require(known == self.classes, f"{given}: expected the same number")

    def check_examples(self, source: Source, split: str) -> None:
        require_columns(source, split, input=self.input, boxes=self.boxes, labels=self.labels)
        shape = np.shape(first_example(source)[self.boxes])
        require(len(shape) == 2 and shape[1] == 4, f"task.boxes={self.boxes!r}: {list(shape)}; expected [box, 4]")
        labels = whole_column(source, self.labels)
        wrong = (labels < box.PADDING) | (labels >= self.classes)
        if wrong.any():
            row, place = np.argwhere(wrong)[0]
            raise RequestError(
                f"task.classes={self.classes}: label {labels[row, place]} of box {place} in example {row} of the "
                f"{split} split; expected 0 to {self.classes - 1}, or -1 for padding"
            )

    def inputs(self, batch: Batch) -> dict[str, jax.Array]:
        return {"x": batch[self.input]}

    def truth(self, batch: Batch) -> tuple[jax.Array, jax.Array]:
        """True boxes [batch, box, 4] to learn and their labels, without crowds."""
        labels = batch[self.labels]
        kinds = batch.get("kinds")
        return batch[self.boxes], labels if kinds is None else jnp.where(kinds == CROWD, box.PADDING, labels)

    def eval_outputs(self, apply: Apply, batch: Batch) -> dict[str, jax.Array]:
        """Returns what is found and what is true, in pixels of the original, and a small picture."""
        found, labels = self.predict(apply, batch), batch[self.labels]
        scale = self._scale(batch)
        outputs = {
            "boxes": found["boxes"],
            "scores": found["score"],
            "labels": found["label"],
            "true_boxes": batch[self.boxes] / scale[:, None, None],
            "true_labels": labels,
            "kinds": batch.get("kinds", jnp.zeros_like(labels)),
        }
        outputs |= {"areas": batch["areas"]} if "areas" in batch else {}
        if not self.picture:
            return outputs
        image = batch[self.input]
        step = -(-max(image.shape[1:3]) // self.picture)
        return outputs | {"picture": image[:, ::step, ::step], "picture_scale": scale / step}

    def finalize(self, outputs: Mapping[str, np.ndarray]) -> dict[str, float]:
        return self._scores(outputs).metrics

    def exhibits(self, outputs: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """Returns "detections" over images, "misses" of the images with most of them, and "precision_recall"."""
        precision = self._scores(outputs).precision
        there = np.flatnonzero(~np.isnan(precision).any(1))
        names = [self.class_names[i] if self.class_names else f"class {i}" for i in there]
        shown: dict[str, Any] = {}
        if len(there):
            recalls = np.broadcast_to(RECALLS, (len(there), len(RECALLS)))
            shown["precision_recall"] = Curves(
                recalls, precision[there], names=names, x_name="recall", y_name="precision at IoU 0.5"
            )
        if "picture" in outputs:
            missed = _missed(outputs)
            shown["detections"] = self._pictures(outputs, np.arange(len(missed))[:PICTURES])
            worst = np.argsort(-missed, kind="stable")[:PICTURES]
            if missed.any():
                shown["misses"] = self._pictures(outputs, worst[missed[worst] > 0])
        return shown

    def predict(self, apply: Apply, batch: Batch) -> dict[str, jax.Array]:
        """Returns {"boxes": [batch, found, 4], "score", "label": [batch, found]}, in pixels of the original if the
        batch has its scale; label -1 and score 0 fill up.
        """
        found = self.detect(apply, batch)
        return {
            "boxes": found.boxes / self._scale(batch)[:, None, None],
            "score": found.scores,
            "label": found.labels,
        }

    def _scale(self, batch: Batch) -> jax.Array:
        return batch["scale"] if "scale" in batch else jnp.ones(len(batch[self.input]))

    def _scores(self, outputs: Mapping[str, np.ndarray]) -> Scores:
        return average_precision(outputs, self.classes, self.class_names, most=self.most)

    def _pictures(self, outputs: Mapping[str, np.ndarray], rows: np.ndarray) -> Boxes:
        images = outputs["picture"][rows].astype(np.float32)
        low, high = images.min(initial=np.inf), images.max(initial=-np.inf)  # preprocessing may have moved the range
        images = (images - low) / max(high - low, 1e-6)
        scale = outputs["picture_scale"][rows][:, None, None]
        confident = outputs["scores"][rows] >= CONFIDENT
        most = max(int(confident.sum(1).max(initial=0)), 1)
        return Boxes(
            images if images.shape[-1] in (1, 3) else images[..., :1],
            boxes=(outputs["boxes"][rows] * scale)[:, :most],
            labels=np.where(confident, outputs["labels"][rows], box.PADDING)[:, :most],
            scores=np.clip(outputs["scores"][rows], 0, 1)[:, :most],
            true_boxes=outputs["true_boxes"][rows] * scale,
            true_labels=outputs["true_labels"][rows],
            class_names=None if self.class_names is None else list(self.class_names),
        )


def _missed(outputs: Mapping[str, np.ndarray]) -> np.ndarray:
    """The number of ordinary true boxes of each image that no confident box of their class overlaps by half."""
    counts = []
    for i in range(len(outputs["boxes"])):
        true = (outputs["true_labels"][i] >= 0) & (outputs["kinds"][i] == 0)
        found = outputs["scores"][i] >= CONFIDENT
        overlaps = _overlaps(outputs["true_boxes"][i][true], outputs["boxes"][i][found])
        same = outputs["true_labels"][i][true][:, None] == outputs["labels"][i][found][None]
        counts.append(int((~((overlaps >= 0.5) & same).any(1)).sum()))
    return np.array(counts, int)


def _overlaps(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """IoU of all pairs, in NumPy, since the numbers of boxes differ from image to image."""
    low, high = np.maximum(a[:, None, :2], b[None, :, :2]), np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = np.maximum(high - low, 0).prod(-1)
    areas = [(x[:, 2:] - x[:, :2]).prod(-1) for x in (a, b)]
    return shared / np.maximum(areas[0][:, None] + areas[1][None] - shared, 1e-9)
