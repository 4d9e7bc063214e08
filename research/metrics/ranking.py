"""The rank of the correct class among the logits; ties are resolved as by argmax, and NaN ranks last."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def rank(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """The number of classes ranked before the label, int32 [...], for logits [..., classes] and labels [...].

    >>> rank(jnp.array([[0.1, 0.7, 0.2]]), jnp.array([2])).tolist()
    [1]
    """
    return (~_not_before(logits, labels)).sum(-1)


def is_first(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """True if the label is the argmax, bool [...].

    Avoids `logits.argmax(-1) == labels`, which XLA does not vectorise on a CPU; vocabularies are large.
    """
    return _not_before(logits, labels).all(-1)


def _not_before(logits: jax.Array, labels: jax.Array) -> jax.Array:
    of_label = jnp.take_along_axis(logits, labels[..., None], axis=-1)
    later = jnp.arange(logits.shape[-1]) >= labels[..., None]
    return (logits < of_label) | ((logits == of_label) & later)
