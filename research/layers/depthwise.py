"""Depthwise convolution as a sum of shifted maps, each multiplied by one pixel of the kernel.

It needs no matrix products.  On a CPU it is usually at least ten times faster than XLA's convolution (measured in
experiments/speed/convolution_kernels.py).  Both gradients are written by hand, because the transposes derived by JAX
pad and add a whole map for every pixel of the kernel.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jax import lax

from research.layers.window import Window, output_size, shifted

EXAMPLES = 8
"""The number of examples that the weight gradient adds elementwise before reducing."""


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def depthwise(x: jax.Array, weights: jax.Array, window: Window) -> jax.Array:
    """Convolves x [batch, height, width, channels] with weights [rows, columns, 1, channels] to [..., channels].

    Sums are in at least float32.
    """
    dtype = jnp.promote_types(x.dtype, jnp.float32)
    taps = weights.reshape(-1, weights.shape[-1]).astype(dtype)
    views = shifted(x.astype(dtype), weights.shape, window)
    return functools.reduce(jnp.add, (view * tap for view, tap in zip(views, taps, strict=True))).astype(x.dtype)


def _forward(x, weights, window):
    return depthwise(x, weights, window), (x, weights)


def _backward(window, saved, gradient):
    x, weights = saved
    by_weights = _weight_gradient(x, gradient, weights.shape, window)
    return _input_gradient(gradient, weights, x.shape, window), by_weights.astype(weights.dtype)


depthwise.defvjp(_forward, _backward)


def _input_gradient(gradient: jax.Array, weights: jax.Array, shape: tuple[int, ...], window: Window) -> jax.Array:
    """Convolves the gradient, dilated by the strides, with the flipped kernel."""
    pads = []
    for axis in range(2):
        stride, reach = window.strides[axis], weights.shape[axis] - 1
        low = reach - window.padding[axis][0]
        length = stride * (gradient.shape[1 + axis] - 1) + 1
        pads.append((low, shape[1 + axis] + reach - low - length, stride - 1))
    padded = lax.pad(gradient, jnp.zeros((), gradient.dtype), ((0, 0, 0), *pads, (0, 0, 0)))
    return depthwise(padded, weights[::-1, ::-1], Window((1, 1), ((0, 0), (0, 0)), window.groups))


def _weight_gradient(x: jax.Array, gradient: jax.Array, weights: tuple[int, ...], window: Window) -> jax.Array:
    """For each kernel pixel, the sum of input times gradient over examples and positions: [..., channels].

    Reducing over all but the last axis is slow on a CPU, one number after another.  So examples are first added
    elementwise, and a product with ones sums the rest.
    """
    dtype = jnp.promote_types(x.dtype, jnp.float32)
    rows, columns, _, channels = weights
    height, width = output_size(x.shape, weights, window)
    down, right = window.strides
    together = max(n for n in range(1, EXAMPLES + 1) if len(x) % n == 0)
    apart = len(x) // together
    padded = jnp.pad(x.astype(dtype), ((0, 0), *window.padding, (0, 0)))
    padded = padded.reshape(apart, together, *padded.shape[1:])
    gradient = gradient.astype(dtype).reshape(apart, together, *gradient.shape[1:])
    seen = (apart, down * (height - 1) + 1, right * (width - 1) + 1, channels)

    def tap(place: jax.Array) -> jax.Array:
        views = (lax.dynamic_slice(padded[:, i], (0, *place, 0), seen)[:, ::down, ::right] for i in range(together))
        product = functools.reduce(jnp.add, (view * gradient[:, i] for i, view in enumerate(views)))
        return jnp.ones(product.size // channels, dtype) @ product.reshape(-1, channels)

    places = jnp.stack(jnp.unravel_index(jnp.arange(rows * columns), (rows, columns)), axis=-1)
    return lax.map(tap, places).reshape(weights)
