"""Masks of attention: True where a query may look at a key."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def causal_mask(queries: int, keys: int, start: int | jax.Array = 0) -> jax.Array:
    """[1, 1, queries, keys]: query i, which stands at position start + i, looks at keys 0 ... start + i."""
    return (jnp.arange(keys) <= start + jnp.arange(queries)[:, None])[None, None]


def padding_mask(valid: jax.Array) -> jax.Array:
    """[batch, 1, 1, keys] from [batch, keys]: every query looks at the keys that are not padding."""
    return valid.astype(bool)[:, None, None, :]


def visible(mask: jax.Array) -> jax.Array:
    """A mask [batch, 1, queries, keys]: the one given, or one made from a padding mask [batch, keys]."""
    return padding_mask(mask) if mask.ndim == 2 else mask


def segment_mask(query_segments: jax.Array, key_segments: jax.Array | None = None) -> jax.Array:
    """[batch, 1, queries, keys] from [batch, length]: tokens look only at their own segment of a packed sequence."""
    key_segments = query_segments if key_segments is None else key_segments
    return (query_segments[:, :, None] == key_segments[:, None, :])[:, None]


def both(*masks: jax.Array | None) -> jax.Array | None:
    """Where every mask allows it; None stands for a mask that allows everything."""
    given = [mask.astype(bool) for mask in masks if mask is not None]
    combined = given[0] if given else None
    for mask in given[1:]:
        combined = combined & mask
    return combined
