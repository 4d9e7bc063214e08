"""Attention masks: True where a query may attend to a key."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def causal_mask(queries: int, keys: int, start: int | jax.Array = 0) -> jax.Array:
    """Returns [1, 1, queries, keys]: query i, at position start + i, attends to keys 0 ... start + i.

    >>> causal_mask(2, 3, start=1)[0, 0].astype(int).tolist()
    [[1, 1, 0], [1, 1, 1]]
    """
    return (jnp.arange(keys) <= start + jnp.arange(queries)[:, None])[None, None]


def padding_mask(valid: jax.Array) -> jax.Array:
    """Converts [batch, keys] to [batch, 1, 1, keys]: every query attends to all keys that are not padding."""
    return valid.astype(bool)[:, None, None, :]


def visible(mask: jax.Array) -> jax.Array:
    """Converts a padding mask [batch, keys] to [batch, 1, 1, keys]; other masks pass through."""
    return padding_mask(mask) if mask.ndim == 2 else mask


def segment_mask(query_segments: jax.Array, key_segments: jax.Array | None = None) -> jax.Array:
    """Returns [batch, 1, queries, keys] from segments [batch, length]: tokens attend only to their own segment."""
    key_segments = query_segments if key_segments is None else key_segments
    return (query_segments[:, :, None] == key_segments[:, None, :])[:, None]


def both(*masks: jax.Array | None) -> jax.Array | None:
    """Combines masks by "and"; None allows everything."""
    given = [mask.astype(bool) for mask in masks if mask is not None]
    combined = given[0] if given else None
    for mask in given[1:]:
        combined = combined & mask
    return combined
