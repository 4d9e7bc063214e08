"""Max pooling as the maximum of shifted views."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp


def max_pool(x: jax.Array, size: int = 2, *, stride: int | None = None, padding: int = 0) -> jax.Array:
    """The maximum of every `size` × `size` window: [batch, height, width, channels] to [..., channels].

    The gradient of `nn.max_pool` scatters into the selected pixels, which is slow on a CPU; the gradient of a maximum
    of views does not.  As in `nn.max_pool`, the gradient goes to the first pixel, row by row, that has the maximum.

    >>> max_pool(jnp.arange(16.0).reshape(1, 4, 4, 1)).ravel().tolist()
    [5.0, 7.0, 13.0, 15.0]

    Args:
      stride: pixels between neighbouring windows; None for `size`, so that windows do not overlap.  Pixels at the end
        of rows and columns that no complete window covers are dropped.
      padding: pixels of minus infinity on every side.
    """
    for axis in (2, 1):  # along rows first, then columns: the same maximum, and the same first pixel
        x = _max_along(x, axis, size, stride or size, padding)
    return x


def _max_along(x: jax.Array, axis: int, size: int, stride: int, padding: int) -> jax.Array:
    if padding:
        widths = [(padding, padding) if i == axis else (0, 0) for i in range(x.ndim)]
        x = jnp.pad(x, widths, constant_values=-jnp.inf)
    span = (x.shape[axis] - size) // stride * stride + 1
    views = [jax.lax.slice_in_dim(x, i, i + span, stride, axis) for i in range(size)]
    return functools.reduce(_first_maximum, views)


def _first_maximum(first: jax.Array, second: jax.Array) -> jax.Array:
    """The maximum: `first` if they are equal, NaN if either is NaN; its gradient goes to only one of the two."""
    return jnp.where((first >= second) | jnp.isnan(first), first, second)
