"""Formats of boxes and their overlaps; float arrays [..., 4].

xyxy is (left, top, right, bottom), cxcywh is (centre x, centre y, width, height).  Padding boxes are zeros.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

PADDING = -1
"""The label of padding boxes, which fill up the boxes of an image to a fixed number."""


def xyxy(boxes: jax.Array) -> jax.Array:
    """Converts cxcywh to xyxy.

    >>> xyxy(jnp.array([5.0, 5.0, 4.0, 2.0])).tolist()
    [3.0, 4.0, 7.0, 6.0]
    """
    centre, half = boxes[..., :2], boxes[..., 2:] / 2
    return jnp.concatenate([centre - half, centre + half], -1)


def cxcywh(boxes: jax.Array) -> jax.Array:
    """Converts xyxy to cxcywh."""
    low, high = boxes[..., :2], boxes[..., 2:]
    return jnp.concatenate([(low + high) / 2, high - low], -1)


def area(boxes: jax.Array) -> jax.Array:
    """The area of xyxy boxes, [...]; 0 for inverted corners."""
    return jnp.maximum(boxes[..., 2:] - boxes[..., :2], 0).prod(-1)


def pairs(a: jax.Array, b: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Broadcasts [n, 4] and [m, 4] to [n, m, 4], to compare all pairs: `iou(*pairs(a, b))`."""
    return jnp.broadcast_arrays(a[:, None], b[None])


def iou(a: jax.Array, b: jax.Array) -> jax.Array:
    """Intersection over union of xyxy boxes [..., 4], elementwise: [...]; 0 if both have no area.

    >>> round(float(iou(jnp.array([0.0, 0, 2, 2]), jnp.array([1.0, 0, 3, 2]))), 3)
    0.333
    """
    return _ratio(*_overlap(a, b))


def giou(a: jax.Array, b: jax.Array) -> jax.Array:
    """Generalised IoU (Rezatofighi et al., 2019): IoU minus the share of the enclosing box that neither covers.

    From -1 to 1, with a gradient for boxes that do not touch.
    """
    shared, union = _overlap(a, b)
    corners = jnp.concatenate([jnp.minimum(a[..., :2], b[..., :2]), jnp.maximum(a[..., 2:], b[..., 2:])], -1)
    around = area(corners)
    return _ratio(shared, union) - _ratio(around - union, around)


def _overlap(a: jax.Array, b: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Areas of the intersection and of the union."""
    corners = jnp.concatenate([jnp.maximum(a[..., :2], b[..., :2]), jnp.minimum(a[..., 2:], b[..., 2:])], -1)
    shared = area(corners)
    return shared, area(a) + area(b) - shared


def _ratio(part: jax.Array, whole: jax.Array) -> jax.Array:
    there = whole > 0
    return jnp.where(there, part / jnp.where(there, whole, 1), 0)
