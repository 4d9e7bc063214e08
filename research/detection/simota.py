"""SimOTA: assigns cells of a dense detector to true boxes (Ge et al., 2021), for one image and inside the step."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from research.detection import boxes as box


class Assigned(NamedTuple):
    """The true box of each cell.

    Attributes:
      target: int32 [cell], the number of the true box; any number on background.
      foreground: bool [cell].
      iou: [cell], the overlap of the cell's prediction with its true box; 0 on background.
    """

    target: jax.Array
    foreground: jax.Array
    iou: jax.Array


def simota(
    predicted: jax.Array,
    objectness: jax.Array,
    logits: jax.Array,
    cells: jax.Array,
    boxes: jax.Array,
    labels: jax.Array,
    *,
    radius: float = 2.5,
    candidates: int = 10,
) -> Assigned:
    """Gives each box its k cheapest cells, where k is the sum of its `candidates` best overlaps.

    Cells in a box or near its centre are candidates of all boxes; those that are not both in a box and near its centre
    cost much more.  A cell that several boxes want goes to the one with the lowest cost, which is the classes'
    cross-entropy minus 3 log(IoU).  Nothing is differentiated.

    Args:
      predicted: xyxy [cell, 4] in pixels.
      objectness: logits [cell].
      logits: [cell, classes].
      cells: [cell, 3]: centre x, centre y and stride in pixels.
      boxes: xyxy [true box, 4] in pixels.
      labels: int [true box]; padding has -1.
      radius: of the centre, in strides.
      candidates: the number of overlaps that are summed.
    """
    predicted, objectness, logits = jax.lax.stop_gradient((predicted, objectness, logits))
    valid = labels != box.PADDING
    near = _near(boxes, cells, radius) & valid[:, None]
    low, high = cells[None, :, :2] - boxes[:, None, :2], boxes[:, None, 2:] - cells[None, :, :2]
    inside = (jnp.minimum(low, high).min(-1) > 0) & valid[:, None]
    anywhere = (near | inside).any(0)

    overlaps = jnp.where(anywhere & valid[:, None], box.iou(*box.pairs(boxes, predicted)), 0)
    probability = jnp.sqrt(jax.nn.sigmoid(logits) * jax.nn.sigmoid(objectness)[:, None])
    cost = _cross_entropy(probability, labels) - 3 * jnp.log(overlaps + 1e-8) + jnp.where(near & inside, 0, _FAR)
    cost = jnp.where(anywhere & valid[:, None], cost, jnp.inf)

    count = min(candidates, cost.shape[1])
    wanted = jnp.maximum(jax.lax.top_k(overlaps, count)[0].sum(-1).astype(jnp.int32), 1)
    best, places = jax.lax.top_k(-cost, count)
    taken = (jnp.arange(count) < wanted[:, None]) & jnp.isfinite(best)
    chosen = jnp.zeros(cost.shape, bool).at[jnp.arange(len(cost))[:, None], places].max(taken)

    target = jnp.where(chosen.sum(0) > 1, jnp.argmin(cost, 0), jnp.argmax(chosen, 0)).astype(jnp.int32)
    foreground = chosen.any(0)
    own = jnp.take_along_axis(overlaps, target[None], 0)[0]
    return Assigned(target, foreground, jnp.where(foreground, own, 0))


_FAR = 1e5


def _near(boxes: jax.Array, cells: jax.Array, radius: float) -> jax.Array:
    """True where a cell's centre is within `radius` strides of a box's, in both directions, [true box, cell]."""
    distance = jnp.abs(cells[None, :, :2] - box.cxcywh(boxes)[:, None, :2]).max(-1)
    return distance < radius * cells[:, 2]


def _cross_entropy(probability: jax.Array, labels: jax.Array) -> jax.Array:
    """The binary cross-entropy of all classes, summed, [true box, cell]; logarithms end at -100, as in PyTorch."""
    yes, no = (jnp.maximum(jnp.log(p), -100) for p in (probability, 1 - probability))
    return -no.sum(-1)[None] - (yes - no).T[jnp.maximum(labels, 0)]


def central(
    predicted: jax.Array,
    objectness: jax.Array,
    logits: jax.Array,
    cells: jax.Array,
    boxes: jax.Array,
    labels: jax.Array,
    *,
    radius: float = 1.5,
) -> Assigned:
    """Gives each box all cells near its centre, whatever they predict; of several boxes, the smallest one gets a cell.

    The assignment before SimOTA in the paper's table 2; arguments as there.
    """
    valid = labels != box.PADDING
    near = _near(boxes, cells, radius) & valid[:, None]
    target = jnp.argmin(jnp.where(near, box.area(boxes)[:, None], jnp.inf), 0).astype(jnp.int32)
    own = box.iou(boxes[target], jax.lax.stop_gradient(predicted))
    return Assigned(target, near.any(0), jnp.where(near.any(0), own, 0))
