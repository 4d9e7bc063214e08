"""Where the right class stands in the order of the logits: ties fall as with argmax, and a NaN puts it last."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def rank(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """How many classes stand before the label, int32 [...], of logits [..., classes] and labels [...]."""
    return (~_not_before(logits, labels)).sum(-1)


def is_first(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Whether the label is the argmax, bool [...].

    Not `logits.argmax(-1) == labels`, which XLA does not vectorise on a CPU, and a vocabulary is long.
    """
    return _not_before(logits, labels).all(-1)


def _not_before(logits: jax.Array, labels: jax.Array) -> jax.Array:
    of_label = jnp.take_along_axis(logits, labels[..., None], axis=-1)
    later = jnp.arange(logits.shape[-1]) >= labels[..., None]
    return (logits < of_label) | ((logits == of_label) & later)
