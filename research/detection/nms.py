"""Non-maximum suppression with a fixed number of results, for use inside a compiled program."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from research.detection.boxes import PADDING, iou


class Kept(NamedTuple):
    """The boxes that were kept, best first; those that fill up the number have label -1 and score 0.

    Attributes:
      boxes: [number, 4].
      scores: [number].
      labels: int32 [number].
    """

    boxes: jax.Array
    scores: jax.Array
    labels: jax.Array


def nms(
    boxes: jax.Array, scores: jax.Array, labels: jax.Array, *, number: int, threshold: float, least: float = 0.0
) -> Kept:
    """Keeps the best box, drops those of its class that overlap it by more than `threshold`, and so on.

    Exact and greedy, for one image; `vmap` it over a batch.  Each of the `number` rounds reads all boxes once.

    >>> boxes = jnp.array([[0.0, 0, 9, 9], [0, 0, 9, 8], [0, 0, 9, 8]])
    >>> nms(boxes, jnp.array([0.9, 0.8, 0.7]), jnp.array([0, 0, 1]), number=3, threshold=0.5).labels.tolist()
    [0, 1, -1]

    Args:
      boxes: xyxy [box, 4].
      scores: [box], above 0.
      labels: int [box]; boxes of different classes do not suppress each other.
      number: of boxes that are kept at most.
      threshold: the largest IoU of two kept boxes of one class.
      least: boxes with a lower score are dropped.
    """
    boxes, labels = jnp.asarray(boxes), jnp.asarray(labels, jnp.int32)
    scores = jnp.asarray(scores)
    left = jnp.where((scores >= least) & (labels != PADDING), scores, 0)

    def one(left: jax.Array, _: None) -> tuple[jax.Array, jax.Array]:
        best = jnp.argmax(left)
        overlaps = iou(boxes[best], boxes) > threshold
        found = jnp.where(left[best] > 0, best, -1)
        left = jnp.where(overlaps & (labels == labels[best]), 0, left)
        return left.at[best].set(0), found

    _, found = jax.lax.scan(one, left, None, length=number)
    there = found >= 0
    return Kept(
        jnp.where(there[:, None], boxes[found], 0),
        jnp.where(there, scores[found], 0),
        jnp.where(there, labels[found], PADDING),
    )
