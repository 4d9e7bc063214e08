"""Reference convolutions, and the quantities that tests compare with them."""

import jax
import jax.numpy as jnp


def xla(x, weights, strides, padding):
    """XLA's own convolution, with the number of groups inferred from the shapes."""
    return jax.lax.conv_general_dilated(
        x,
        weights,
        strides,
        padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[-1] // weights.shape[2],
    )


def with_gradients(f, x, weights):
    """Returns (f's output, the gradients of its input and weights) for an output gradient that is exact in bfloat16."""
    y, gradients = jax.vjp(f, x, weights)
    seed = jnp.cos(jnp.arange(y.size)).reshape(y.shape).astype(jnp.bfloat16)
    return y, *gradients(seed.astype(y.dtype))
