"""Predictions of detectors, and the cells of a dense detector's maps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from research.detection import boxes as box


class SetPredictions(NamedTuple):
    """Predictions of a set detector after each layer of its decoder; the last layer's are the result.

    Attributes:
      logits: [layer, batch, query, classes + 1]; the last class is "no object".
      boxes: cxcywh [layer, batch, query, 4], from 0 to 1 of the image.
    """

    logits: jax.Array
    boxes: jax.Array


class CellPredictions(NamedTuple):
    """Predictions of a dense detector, one per cell of its maps.

    Attributes:
      raw: [batch, cell, 4]: the centre's distance from the cell's corner in strides, the logarithm of the size in
        strides.
      objectness: logits [batch, cell].
      logits: [batch, cell, classes].
      cells: [cell, 3], see `cells`.
    """

    raw: jax.Array
    objectness: jax.Array
    logits: jax.Array
    cells: np.ndarray

    @property
    def boxes(self) -> jax.Array:
        """xyxy [batch, cell, 4] in pixels."""
        stride = self.cells[:, 2:]
        centre = self.raw[..., :2] * stride + self.cells[:, :2] - stride / 2
        return box.xyxy(jnp.concatenate([centre, jnp.exp(self.raw[..., 2:]) * stride], -1))


def cells(height: int, width: int, strides: Sequence[int]) -> np.ndarray:
    """The cells of maps over an image of that size, [cell, 3]: centre x, centre y and stride in pixels.

    Map by map, row by row.

    >>> cells(8, 16, (8,)).tolist()
    [[4.0, 4.0, 8.0], [12.0, 4.0, 8.0]]
    """
    parts = []
    for stride in strides:
        y, x = np.meshgrid(np.arange(height // stride), np.arange(width // stride), indexing="ij")
        centre = (np.stack([x.ravel(), y.ravel()], -1) + 0.5) * stride
        parts.append(np.concatenate([centre, np.full((len(centre), 1), stride)], -1))
    return np.concatenate(parts).astype(np.float32)
