"""Constraints on the tokens of a step, for every strategy."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from research.decoding.strategies import Generation

NEVER = -1e9
"""Log-probability of a forbidden token; finite, so that sums of it still compare."""


def allowed(logits: jax.Array, step: jax.Array, how: Generation) -> jax.Array:
    """Log-probabilities [rows, vocab_size] of the tokens at a step; `NEVER` for those that `how` forbids there."""
    V = logits.shape[-1]
    log_probs = jax.nn.log_softmax(logits)
    never = np.zeros(V, bool)
    never[list(how.suppress)] = True
    first = np.zeros(V, bool)
    first[list(how.suppress_first)] = True
    log_probs = jnp.where(never | (first & (step == 0)), NEVER, log_probs)
    log_probs = jax.nn.log_softmax(log_probs) if how.renormalize else log_probs
    if how.last_token is None:
        return log_probs
    last = jnp.where(jnp.arange(V) == how.last_token, 0.0, NEVER)
    return jnp.where(step == how.max_new_tokens - 1, last, log_probs)


def among(tokens: jax.Array, some: tuple[int, ...]) -> jax.Array:
    """True for each token that is one of `some`: bool, with the shape of `tokens`."""
    return jnp.isin(tokens, jnp.asarray(some, tokens.dtype)) if some else jnp.zeros(tokens.shape, bool)
