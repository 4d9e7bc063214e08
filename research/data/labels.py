"""Labels of one class per example: integers [batch], or probabilities [batch, classes] where examples were mixed."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from research.errors import require


def is_soft(labels: jax.Array) -> bool:
    """Whether labels are probabilities rather than integers."""
    return jnp.issubdtype(labels.dtype, jnp.floating)


def probabilities(labels: jax.Array, classes: int) -> jax.Array:
    """Labels as probabilities, floating [batch, classes].

    Raises:
      RequestError: probabilities of another number of classes.
    """
    if not is_soft(labels):
        return jax.nn.one_hot(labels, classes)
    given = labels.shape[1:]
    require(given == (classes,), f"labels are probabilities {list(given)} per example; expected [{classes}]")
    return labels
