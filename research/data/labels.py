"""Class labels: integers [batch], or probabilities [batch, classes] after mixing."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from research.errors import require


def is_soft(labels: jax.Array) -> bool:
    """True if labels are probabilities rather than integers."""
    return jnp.issubdtype(labels.dtype, jnp.floating)


def probabilities(labels: jax.Array, classes: int) -> jax.Array:
    """Converts labels to probabilities, floating [batch, classes].

    Raises:
      RequestError: the labels are probabilities over another number of classes.
    """
    if not is_soft(labels):
        return jax.nn.one_hot(labels, classes)
    given = labels.shape[1:]
    require(given == (classes,), f"labels are probabilities {list(given)} per example; expected [{classes}]")
    return labels
