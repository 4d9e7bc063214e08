"""Cross-entropy over a large vocabulary, without an array of all logits."""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp


class TokenLosses(NamedTuple):
    """The losses of tokens, each [...].

    Attributes:
      nats: the cross-entropy of the target.
      correct: bool, the target is the first of the tokens with the largest logit.
    """

    nats: jax.Array
    correct: jax.Array


def token_losses(x: jax.Array, table: jax.Array, targets: jax.Array, chunks: int) -> TokenLosses:
    """The cross-entropy of tokens under logits x Eᵀ, computed for a part of the vocabulary at a time.

    Neither the forward nor the backward pass holds more than the logits of one part, [..., vocab_size / chunks]; the
    backward pass computes them again.  Both pass over the parts with the maximum and the sum of exponentials so far
    (Milakov & Gimelshein, 2018).

    Args:
      x: features [..., features], in the dtype of the products, which are summed in at least float32.
      table: E, [vocab_size, features].
      targets: int [...].
      chunks: the number of parts of the vocabulary.
    """
    size = -(-len(table) // chunks)
    padded = jnp.pad(table.astype(x.dtype), ((0, size * chunks - len(table)), (0, 0)))
    return TokenLosses(*_losses(x, padded.reshape(chunks, size, -1), targets, len(table)))


def _logits(x: jax.Array, part: jax.Array, start: jax.Array, vocab_size: int) -> tuple[jax.Array, jax.Array]:
    """Logits [..., size] of a part of the vocabulary, −∞ past its end, and the tokens of the part."""
    wide = jnp.promote_types(x.dtype, jnp.float32)
    tokens = start + jnp.arange(len(part))
    logits = jnp.einsum("...d,vd->...v", x, part, preferred_element_type=wide)
    return jnp.where(tokens < vocab_size, logits, -jnp.inf), tokens


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def _losses(x: jax.Array, parts: jax.Array, targets: jax.Array, vocab_size: int) -> tuple[jax.Array, jax.Array]:
    return _forward(x, parts, targets, vocab_size)[0]


def _forward(x, parts, targets, vocab_size):
    def add(so_far, part):
        largest, total, of_target, best, start = so_far
        logits, tokens = _logits(x, part, start, vocab_size)
        here = logits.max(-1)
        best = jnp.where(here > largest, start + logits.argmax(-1), best)
        larger = jnp.maximum(largest, here)
        total = total * jnp.exp(largest - larger) + jnp.exp(logits - larger[..., None]).sum(-1)
        of_target = of_target + jnp.where(tokens == targets[..., None], logits, 0).sum(-1)
        return (larger, total, of_target, best, start + len(tokens)), None

    wide = jnp.promote_types(x.dtype, jnp.float32)
    zeros = jnp.zeros(targets.shape, wide)
    none = jnp.zeros(targets.shape, jnp.int32)
    initial = (zeros - jnp.inf, zeros, zeros, none, jnp.int32(0))
    (largest, total, of_target, best, _), _ = jax.lax.scan(add, initial, parts)
    normalizer = largest + jnp.log(total)
    return (normalizer - of_target, best == targets), (x, parts, targets, normalizer)


def _backward(vocab_size, kept, gradients):
    x, parts, targets, normalizer = kept
    nats = gradients[0]

    def add(so_far, part):
        gradient, start = so_far
        logits, tokens = _logits(x, part, start, vocab_size)
        probabilities = jnp.exp(logits - normalizer[..., None])
        error = ((probabilities - (tokens == targets[..., None])) * nats[..., None]).astype(x.dtype)
        gradient = gradient + jnp.einsum("...v,vd->...d", error, part, preferred_element_type=gradient.dtype)
        of_part = jnp.einsum("...v,...d->vd", error, x, preferred_element_type=gradient.dtype)
        return (gradient, start + len(tokens)), of_part.astype(parts.dtype)

    wide = jnp.zeros(x.shape, jnp.promote_types(x.dtype, jnp.float32))
    (gradient, _), of_parts = jax.lax.scan(add, (wide, jnp.int32(0)), parts)
    return gradient.astype(x.dtype), of_parts, None


_losses.defvjp(_forward, _backward)
