"""Sums, means, maxima and softmax of values by segment: the kernel of every graph network.

    segment_sum(values, segments, count)    # [rows, values, ...] and int [rows, values] to [rows, count, ...]

Segments are numbered in each row by itself, in any order.  A value of segment `count` or higher is padding and enters
no result.  A sum is a scatter, and its derivative a gather.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from research.layers import kernels


def take(values: jax.Array, index: jax.Array) -> jax.Array:
    """The values at `index` of each row: [rows, count, ...] and int [rows, values] to [rows, values, ...].

    An index beyond the last value, as padding has, takes the last value.

    >>> take(jnp.array([[10.0, 20.0], [30.0, 40.0]]), jnp.array([[1, 1, 0], [0, 1, 2]])).tolist()
    [[20.0, 20.0, 10.0], [30.0, 40.0, 40.0]]
    """
    return _by_row(lambda x, i: x.at[i].get(mode="clip"), jnp.asarray(values), index)


def segment_sum(values: jax.Array, segments: jax.Array, count: int) -> jax.Array:
    """The sum of the values of each segment; 0 for an empty one.

    >>> segment_sum(jnp.array([[1.0, 2.0, 4.0, 8.0]]), jnp.array([[0, 2, 0, 3]]), 3).tolist()
    [[5.0, 0.0, 2.0]]
    """
    kernels.note("segment sum", "scatter")
    return _by_row(lambda x, i: jax.ops.segment_sum(x, i, count), values, segments)


def segment_mean(values: jax.Array, segments: jax.Array, count: int) -> jax.Array:
    """The mean of the values of each segment; 0 for an empty one."""
    sizes = segment_sum(jnp.ones(segments.shape, values.dtype), segments, count)
    return segment_sum(values, segments, count) / jnp.maximum(sizes, 1).reshape(*sizes.shape, *[1] * (values.ndim - 2))


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def segment_max(values: jax.Array, segments: jax.Array, count: int) -> jax.Array:
    """The largest value of each segment; 0 for an empty one.  Equal largest values share the gradient equally.

    >>> segment_max(jnp.array([[-1.0, -2.0, 4.0]]), jnp.array([[0, 0, 2]]), 3).tolist()
    [[-1.0, 0.0, 4.0]]
    """
    largest = _by_row(lambda x, i: jax.ops.segment_max(x, i, count), values, segments)
    return jnp.where(jnp.isfinite(largest), largest, 0)


def _segment_max_forward(values, segments, count):
    largest = segment_max(values, segments, count)
    return largest, (values, segments, largest)


def _segment_max_backward(count, saved, gradient):
    values, segments, largest = saved
    inside = (segments < count).reshape(*segments.shape, *[1] * (values.ndim - 2))
    first = (inside & (values == take(largest, segments))).astype(values.dtype)
    ties = jnp.maximum(segment_sum(first, segments, count), 1)
    return first * take(gradient / ties, segments), None


segment_max.defvjp(_segment_max_forward, _segment_max_backward)


def segment_softmax(logits: jax.Array, segments: jax.Array, count: int) -> jax.Array:
    """The softmax of the logits of each segment, shaped as `logits`; 0 for padding.

    >>> segment_softmax(jnp.array([[5.0, 5.0, 1.0]]), jnp.array([[0, 0, 1]]), 2).tolist()
    [[0.5, 0.5, 1.0]]
    """
    largest = segment_max(jax.lax.stop_gradient(logits), segments, count)
    inside = (segments < count).reshape(*segments.shape, *[1] * (logits.ndim - 2))
    powers = jnp.where(inside, jnp.exp(jnp.where(inside, logits - take(largest, segments), 0)), 0)
    sums = take(segment_sum(powers, segments, count), segments)
    return powers / jnp.where(inside, sums, 1)


def _by_row(function: Callable[..., jax.Array], values: jax.Array, index: jax.Array) -> jax.Array:
    """Maps a function over rows; one row needs no batched scatter."""
    if len(values) == len(index) == 1:
        return function(values[0], index[0])[None]
    return jax.vmap(function)(values, index)
