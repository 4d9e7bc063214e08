"""Detection as a set of boxes: DETR's loss (Carion et al., 2020), for DETR and YOLOS."""

from __future__ import annotations

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
import optax

from research.config.checks import check_factors
from research.detection import boxes as box
from research.detection.matching import Matched, match, set_costs
from research.detection.nms import Kept
from research.detection.predictions import SetPredictions
from research.errors import require
from research.tasks.detection import Detection
from research.tasks.task import Apply, Batch, Terms, weighted


@dataclasses.dataclass(frozen=True, kw_only=True)
class SetDetection(Detection):
    """Matches each true box to one prediction, which learns its class and box; all others learn "no object".

    >>> task = SetDetection(classes=3, content="content")
    >>> batch = {"image": jnp.zeros((2, 8, 8, 3)), "content": jnp.array([[8, 4], [8, 8]])}
    >>> {name: x.shape for name, x in task.inputs(batch).items()}
    {'x': (2, 8, 8, 3), 'mask': (2, 8, 8)}

    Training terms: "loss/class", "loss/l1" and "loss/giou" of the last layer of the decoder, and "loss/class_0" and so
    on of those before.

    Attributes:
      classes, input, boxes, labels, class_names, most, picture: as of `Detection`.
      content: the column with height and width of the part of each image that is no padding: the model gets it as a
        mask, and boxes are relative to it.  None if all images fill their arrays, and for YOLOS, which has no mask.
      auxiliary: every layer of the decoder learns, not only the last one.
      no_object: the weight of the class "no object".
      l1: the weight of the distance |box - true box|, of boxes from 0 to 1; in the matching too.
      giou: the weight of 1 - GIoU; in the matching too.
      matching: "hungarian" minimises the total cost; "in_order" gives the i-th box of an image to the i-th query.
    """

    content: str | None = None
    auxiliary: bool = True
    no_object: float = 0.1
    l1: float = 5.0
    giou: float = 2.0
    matching: Literal["hungarian", "in_order"] = "hungarian"

    def check(self) -> None:
        super().check()
        check_factors(self, "no_object")
        for name in ("l1", "giou"):
            require(getattr(self, name) >= 0, f"{name}={getattr(self, name)}: expected at least 0")
        require(self.l1 + self.giou > 0, "l1=0.0 and giou=0.0: expected at least one above 0, to learn boxes")

    def inputs(self, batch: Batch) -> dict[str, jax.Array]:
        x = batch[self.input]
        if self.content is None or self.content not in batch:
            return {"x": x}
        size = batch[self.content]
        rows = jnp.arange(x.shape[1])[None, :, None] < size[:, :1, None]
        return {"x": x, "mask": rows & (jnp.arange(x.shape[2])[None, None] < size[:, 1:, None])}

    def loss(self, apply: Apply, batch: Batch) -> Terms:
        found: SetPredictions = apply(**self.inputs(batch), train=True)
        true, labels = self.truth(batch)
        true = box.cxcywh(true) / self._extent(batch)[:, None]
        layers, terms = len(found.logits), {}
        for i in range(layers) if self.auxiliary else (layers - 1,):
            name = "" if i == layers - 1 else f"_{i}"
            own = SetPredictions(found.logits[i], found.boxes[i])
            terms |= {f"{term}{name}": x for term, x in self._layer(own, true, labels, batch["weight"]).items()}
        return terms

    def _layer(self, found: SetPredictions, true: jax.Array, labels: jax.Array, weight: jax.Array) -> Terms:
        matched = jax.vmap(self._match)(found, true, labels)
        queries = found.logits.shape[1]
        index = jnp.where(matched.found, matched.prediction, queries)  # beyond the last one: dropped
        own = jax.vmap(lambda index, label: jnp.full(queries, self.classes).at[index].set(label, mode="drop"))
        target = own(index, labels)
        entropy = optax.softmax_cross_entropy_with_integer_labels(found.logits, target)
        of_class = jnp.where(target == self.classes, self.no_object, 1.0) * weight[:, None]

        boxes = jnp.take_along_axis(found.boxes, matched.prediction[..., None], 1)
        count = (labels != box.PADDING) * weight[:, None]  # boxes beyond the queries count, but teach nothing
        l1 = jnp.where(matched.found, jnp.abs(boxes - true).sum(-1), 0)
        giou = jnp.where(matched.found, 1 - box.giou(box.xyxy(boxes), box.xyxy(true)), 0)
        terms = {"loss/class": weighted(entropy, of_class)}
        terms |= {"loss/l1": weighted(self.l1 * l1, count)} if self.l1 else {}
        return terms | ({"loss/giou": weighted(self.giou * giou, count)} if self.giou else {})

    def _match(self, found: SetPredictions, true: jax.Array, labels: jax.Array) -> Matched:
        valid = labels != box.PADDING
        if self.matching == "in_order":
            place = jnp.cumsum(valid) - 1
            return Matched(jnp.maximum(place, 0), valid & (place < len(found.boxes)))
        costs = set_costs(found.logits, found.boxes, labels, true, l1_cost=self.l1, giou_cost=self.giou)
        return match(costs, valid)

    def detect(self, apply: Apply, batch: Batch) -> Kept:
        found: SetPredictions = apply(**self.inputs(batch))
        probability = jax.nn.softmax(found.logits[-1])[..., :-1]
        boxes = box.xyxy(found.boxes[-1]) * self._extent(batch)[:, None]
        scores, best = jax.lax.top_k(probability.max(-1), min(self.most, probability.shape[1]))
        labels = jnp.take_along_axis(probability.argmax(-1), best, 1).astype(jnp.int32)
        return Kept(jnp.take_along_axis(boxes, best[..., None], 1), scores, labels)

    def _extent(self, batch: Batch) -> jax.Array:
        """Width, height, width, height of each image without its padding, [batch, 4]."""
        x = batch[self.input]
        size = jnp.broadcast_to(jnp.array(x.shape[1:3]), (len(x), 2))
        if self.content is not None and self.content in batch:
            size = batch[self.content]
        return jnp.concatenate([size[:, ::-1]] * 2, -1).astype(jnp.float32)
