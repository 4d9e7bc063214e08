"""Matches predictions to true boxes one to one (Carion et al., 2020), for one image and inside the compiled step.

The assignment is `optax.assignment.hungarian_algorithm`; experiments/speed/detection_parts.py times it.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from research.detection import boxes as box


class Matched(NamedTuple):
    """The prediction for each true box.

    Attributes:
      prediction: int32 [true box]; any number where nothing is matched.
      found: bool [true box], False on padding and, if there are more boxes than predictions, for the rest.
    """

    prediction: jax.Array
    found: jax.Array


def match(costs: jax.Array, valid: jax.Array) -> Matched:
    """The assignment with the lowest total cost, of as many valid boxes as possible.

    >>> match(jnp.array([[1.0, 2.0, 0.0], [0.0, 4.0, 0.0]]), jnp.array([True, True, False])).prediction.tolist()[:2]
    [1, 0]

    Args:
      costs: [prediction, true box]; not differentiated.  Costs that are not finite count as very high.
      valid: bool [true box], False on padding.
    """
    costs = jax.lax.stop_gradient(costs.astype(jnp.float32))
    # NaN, as in a diverged model, would keep the search for a shortest path from ending.
    costs = jnp.where(jnp.isfinite(costs), costs, _VERY_HIGH)
    # One price above all others fills up with padding only what no valid box is left for, and adds no rounding.
    price = jnp.max(costs, where=valid, initial=0) + 1
    prediction, column = optax.assignment.hungarian_algorithm(jnp.where(valid, costs, price))
    count = costs.shape[1]
    chosen = jnp.zeros(count, jnp.int32).at[column].set(prediction.astype(jnp.int32))
    return Matched(chosen, jnp.zeros(count, bool).at[column].set(True) & valid)


_VERY_HIGH = 1e6


def set_costs(
    logits: jax.Array,
    predicted: jax.Array,
    labels: jax.Array,
    boxes: jax.Array,
    *,
    class_cost: float = 1.0,
    l1_cost: float = 5.0,
    giou_cost: float = 2.0,
) -> jax.Array:
    """The costs of DETR, [prediction, true box]: class_cost · -p(class) + l1_cost · L1 - giou_cost · GIoU.

    Args:
      logits: [prediction, classes + 1].
      predicted: cxcywh [prediction, 4], from 0 to 1.
      labels: int [true box]; padding has -1.
      boxes: cxcywh [true box, 4], from 0 to 1.
    """
    probability = jax.nn.softmax(logits.astype(jnp.float32))[:, jnp.maximum(labels, 0)]
    a, b = box.pairs(predicted, boxes)
    l1 = jnp.abs(a - b).sum(-1)
    return l1_cost * l1 - class_cost * probability - giou_cost * box.giou(box.xyxy(a), box.xyxy(b))
