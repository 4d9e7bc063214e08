"""Pooling as maxima of shifted views of the map."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp


def max_pool(x: jax.Array, size: int = 2, *, stride: int | None = None, padding: int = 0) -> jax.Array:
    """The maximum of every window of `size` × `size` pixels: [batch, height, width, channels] to [..., channels].

    The gradient of `nn.max_pool` scatters into selected pixels, which is slow on a CPU; that of maxima of views does
    not.  Here too it goes to the first pixel, row by row, that has the maximum.

    Args:
      stride: pixels from one window to the next; None is `size`: windows side by side.  What no window reaches at the
        end of rows and columns is dropped.
      padding: pixels of minus infinity on every side.
    """
    for axis in (2, 1):  # along each row, then over the rows: the same maximum, and the same first pixel
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
    """The maximum, `first` where they are equal, NaN where either is; its gradient goes to one of the two."""
    return jnp.where((first >= second) | jnp.isnan(first), first, second)
