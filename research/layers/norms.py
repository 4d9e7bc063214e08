"""Normalisation layers, one constructor each, with explicit epsilon and momentum."""

from __future__ import annotations

import functools
import inspect

import jax
import jax.numpy as jnp
from flax import linen as nn

from research.layers.dtypes import param_dtype


def batch_norm(
    train: bool,
    *,
    dtype: str,
    momentum: float = 0.9,
    epsilon: float = 1e-5,
    name: str | None = None,
    **kwargs,
) -> BatchNorm:
    """Batch normalisation over every axis but the last (Ioffe & Szegedy, 2015).

    `momentum` is the fraction of the old running statistic that is kept (PyTorch's 0.1 is 0.9 here); the running
    variance is biased.  An enclosing `research.layers.surroundings` sets the mapped axis, and freezes the layer.
    """
    return BatchNorm(
        use_running_average=not train,
        use_fast_variance=False,
        momentum=momentum,
        epsilon=epsilon,
        dtype=dtype,
        param_dtype=param_dtype(dtype),
        name=name,
        **kwargs,
    )


def layer_norm(*, dtype: str, epsilon: float = 1e-5, name: str | None = None, **kwargs) -> nn.LayerNorm:
    """Layer normalisation over the last axis (Ba et al., 2016); statistics are in float32 for any `dtype`."""
    return nn.LayerNorm(epsilon=epsilon, dtype=dtype, param_dtype=param_dtype(dtype), name=name, **kwargs)


def group_norm(groups: int, *, dtype: str, epsilon: float = 1e-5, name: str | None = None, **kwargs) -> nn.GroupNorm:
    """Group normalisation over the positions and the channels of each of `groups` groups (Wu & He, 2018)."""
    return nn.GroupNorm(
        num_groups=groups, epsilon=epsilon, dtype=dtype, param_dtype=param_dtype(dtype), name=name, **kwargs
    )


class FrozenBatchNorm(nn.Module):
    """Batch norm of a trained network as a fixed scale and shift: nothing of it is a parameter, nor ever updated.

    Scale, bias, mean and variance [features] are in the collection `batch_stats`.
    """

    epsilon: float = 1e-5
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        def held(name: str, init: nn.initializers.Initializer) -> jax.Array:
            make = lambda: init(jax.random.key(0), x.shape[-1:], param_dtype(self.dtype))  # noqa: E731
            return self.variable("batch_stats", name, make).value

        zeros, ones = nn.initializers.zeros, nn.initializers.ones
        scale = held("scale", ones) * jax.lax.rsqrt(held("var", ones) + self.epsilon)
        return (x * scale + (held("bias", zeros) - held("mean", zeros) * scale)).astype(self.dtype)


class BatchNorm(nn.BatchNorm):
    """Flax's batch norm over the last axis, with its own derivative in training: see `normalize`.

    A `mask` [...], True for the positions that count, has the shape of x without its last axis.
    """

    @nn.compact
    def __call__(self, x: jax.Array, use_running_average: bool | None = None, *, mask=None) -> jax.Array:
        running = nn.merge_param("use_running_average", self.use_running_average, use_running_average)
        if running or self.is_initializing():
            # Unwrapped, since through the wrapped method Linen would capture the output a second time.
            return inspect.unwrap(nn.BatchNorm.__call__)(self, x, use_running_average)
        shape = x.shape[-1:]
        means = self.variable("batch_stats", "mean", jnp.zeros, shape)
        variances = self.variable("batch_stats", "var", jnp.ones, shape)
        scale = self.param("scale", self.scale_init, shape, self.param_dtype)
        bias = self.param("bias", self.bias_init, shape, self.param_dtype)
        if mask is None:
            y, mean, variance = normalize(x, scale, bias, self.epsilon, self.axis_name)
        else:
            y, mean, variance = normalize_where(mask, x, scale, bias, self.epsilon, self.axis_name)
        means.value = self.momentum * means.value + (1 - self.momentum) * mean
        variances.value = self.momentum * variances.value + (1 - self.momentum) * variance
        return y.astype(self.dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def normalize(
    x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float, axis_name: str | None
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Computes (x - mean) / √(variance + epsilon) · scale + bias over every axis but the last; also returns mean and
    variance.

    The derivative stores only x [..., features] and reads it twice: once for the sums of dy and dy · x̂ (the gradients
    of bias and scale), once for dx.  The returned statistics have no derivative.

    Args:
      axis_name: a mapped axis to average over as well, or None.
    """
    return _normalize(x, scale, bias, epsilon, axis_name)[0]


def _normalize(x, scale, bias, epsilon, axis_name):
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    axes = tuple(range(x.ndim - 1))
    # One pass sums x and x².  If the mean is many deviations from 0, E[x²] - E[x]² is only rounding error, so the mean
    # of the first example is subtracted: it is at most about √batch deviations from the mean, for any distribution.
    near = _averaged(wide[0].mean(axes[:-1]), axis_name)
    wide = wide - near
    mean, square = _averaged((wide.mean(axes), jnp.square(wide).mean(axes)), axis_name)
    variance = jnp.maximum(square - jnp.square(mean), 0)
    inverse = jax.lax.rsqrt(variance + epsilon)
    y = (wide - mean) * (inverse * scale) + bias
    return (y, near + mean, variance), (x, scale, near + mean, inverse)


def _normalize_backward(epsilon, axis_name, saved, gradients):
    x, scale, mean, inverse = saved
    dy = gradients[0]
    axes = tuple(range(x.ndim - 1))
    centred = x.astype(dy.dtype) - mean
    count = x.size // x.shape[-1]
    dbias, dscale = dy.sum(axes), (dy * centred).sum(axes) * inverse
    mean_dy, mean_dy_x = _averaged((dbias / count, dscale / count), axis_name)
    dx = (dy - mean_dy - centred * (inverse * mean_dy_x)) * (inverse * scale)
    return dx.astype(x.dtype), dscale.astype(scale.dtype), dbias.astype(scale.dtype)


def normalize_where(
    mask: jax.Array, x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float, axis_name: str | None
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """As `normalize`, with mean and variance over the positions where `mask` [...] is True, of all devices."""
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    axes, inside = tuple(range(x.ndim - 1)), mask[..., None]

    def mean_of(values):
        total, count = jnp.where(inside, values, 0).sum(axes), inside.sum(axes).astype(values.dtype)
        if axis_name is not None:  # parts of a batch differ in how many positions count
            total, count = jax.lax.psum((total, count), axis_name)
        return total / jnp.maximum(count, 1)

    mean = mean_of(wide)
    variance = mean_of(jnp.square(wide - mean))
    y = (wide - mean) * (jax.lax.rsqrt(variance + epsilon) * scale) + bias
    return y, jax.lax.stop_gradient(mean), jax.lax.stop_gradient(variance)


def _averaged(means, axis_name):
    return means if axis_name is None else jax.lax.pmean(means, axis_name)


normalize.defvjp(_normalize, _normalize_backward)
