"""Classifier-free guidance (Ho & Salimans, 2022)."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

Model = Callable[[jax.Array, jax.Array, jax.Array | None], jax.Array]
"""(x [batch, ...], time [batch], label int [batch] or None) -> a prediction, in channels that begin with those of x."""


def guided(
    model: Model, label: jax.Array | None = None, *, scale: jax.Array | float | None = None, null: int | None = None
) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """Makes a function (x, time) -> prediction, for images of the given classes.

    The prediction is that for no class, plus `scale` times the difference that the class makes; further channels of the
    model, such as a variance, are dropped.

    Args:
      label: int [batch].
      scale: of the guidance, a number or [batch]; 0 ignores the class, 1 is the model itself.  None calls the model
        once per step instead of for both.
      null: the label of no class.
    """

    def predict(x: jax.Array, time: jax.Array) -> jax.Array:
        channels = x.shape[-1]
        if scale is None:
            return model(x, time, label)[..., :channels]
        both = jnp.concatenate([label, jnp.full_like(label, null)])
        twice = model(jnp.concatenate([x, x]), jnp.concatenate([time, time]), both)[..., :channels]
        conditional, free = jnp.split(twice, 2)
        scales = jnp.broadcast_to(jnp.asarray(scale, x.dtype), label.shape)
        return free + scales.reshape(-1, *(1,) * (x.ndim - 1)) * (conditional - free)

    return predict
