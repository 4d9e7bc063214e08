"""Detection by a prediction for every cell: YOLOX' loss (Ge et al., 2021)."""

from __future__ import annotations

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
import optax

from research.config.checks import check_factors, check_shares
from research.detection import boxes as box
from research.detection.nms import Kept, nms
from research.detection.predictions import CellPredictions
from research.detection.simota import central, simota
from research.errors import require
from research.tasks.detection import Detection
from research.tasks.task import Apply, Batch, Terms


@dataclasses.dataclass(frozen=True, kw_only=True)
class DenseDetection(Detection):
    """Assigns some cells to each true box, which learn its class and box; whether there is an object, all cells learn.

    >>> DenseDetection(classes=3, l1=1.0).check()

    Training terms: "loss/box", "loss/objectness", "loss/class" and, with `l1`, "loss/l1", all per assigned cell of the
    batch; "cells", how many a box has.  A batch without a single box teaches nothing.

    Attributes:
      classes, input, boxes, labels, class_names, most, picture: as of `Detection`.
      assignment: "simota", by cost, or "central", all cells near the centre of a box.
      box_loss: "iou" for 1 - IoU², or "giou" for 1 - GIoU.
      box_weight: multiplies it.
      l1: the weight of the distance between raw predictions and theirs of the true box; 0 leaves it out.  The paper
        uses 1 for the last epochs, without augmentation.
      overlap: the largest IoU of two boxes of one class that are both kept.
      least: boxes with a lower score are dropped.
    """

    assignment: Literal["simota", "central"] = "simota"
    box_loss: Literal["iou", "giou"] = "iou"
    box_weight: float = 5.0
    l1: float = 0.0
    overlap: float = 0.65
    least: float = 0.01

    def check(self) -> None:
        super().check()
        check_factors(self, "box_weight")
        check_shares(self, "overlap", "least")
        require(self.l1 >= 0, f"l1={self.l1}: expected at least 0")

    def loss(self, apply: Apply, batch: Batch) -> Terms:
        found: CellPredictions = apply(**self.inputs(batch), train=True)
        true, labels = self.truth(batch)
        assign = {"simota": simota, "central": central}[self.assignment]
        predicted, cells = found.boxes, jnp.asarray(found.cells)
        given = jax.vmap(lambda *x: assign(*x[:3], cells, *x[3:]))(
            predicted, found.objectness, found.logits, true, labels
        )
        front = given.foreground
        target = jnp.take_along_axis(true, given.target[..., None], 1)
        label = jnp.take_along_axis(labels, given.target, 1)

        overlap = box.iou(predicted, target)
        loss = 1 - overlap**2 if self.box_loss == "iou" else 1 - box.giou(predicted, target)
        classes = jax.nn.one_hot(label, self.classes) * given.iou[..., None]
        values = {
            "loss/box": self.box_weight * jnp.where(front, loss, 0),
            "loss/objectness": optax.sigmoid_binary_cross_entropy(found.objectness, front.astype(jnp.float32)),
            "loss/class": jnp.where(front, optax.sigmoid_binary_cross_entropy(found.logits, classes).sum(-1), 0),
        }
        if self.l1:
            stride = cells[:, 2:]
            sides = box.cxcywh(target)
            corner = (sides[..., :2] - cells[:, :2]) / stride + 0.5
            raw = jnp.concatenate([corner, jnp.log(sides[..., 2:] / stride + 1e-8)], -1)
            distance = jnp.where(front[..., None], jnp.abs(found.raw - raw), 0).sum(-1)
            values["loss/l1"] = self.l1 * distance
        weight = batch["weight"]
        count = jax.lax.stop_gradient((front.sum(-1) * weight).sum())
        terms = {name: ((x.sum(-1) * weight).sum(), count) for name, x in values.items()}
        return terms | {"cells": (count, ((labels != box.PADDING).sum(-1) * weight).sum())}

    def detect(self, apply: Apply, batch: Batch) -> Kept:
        found: CellPredictions = apply(**self.inputs(batch))
        probability = jax.nn.sigmoid(found.logits)
        scores = jax.nn.sigmoid(found.objectness) * probability.max(-1)

        def one(boxes: jax.Array, scores: jax.Array, labels: jax.Array) -> Kept:
            return nms(boxes, scores, labels, number=self.most, threshold=self.overlap, least=self.least)

        return jax.vmap(one)(found.boxes, scores, probability.argmax(-1))
