"""Greedy decoding and sampling: each row of the batch is continued independently until all have ended."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from research.decoding.cached import Cached, batch_axes, take_rows
from research.decoding.constraints import NEVER, allowed, among
from research.decoding.strategies import Generated, Generation, Greedy, Sample


def draw(key: jax.Array, log_probs: jax.Array, how: Sample) -> jax.Array:
    """Draws one token for each row of log_probs [rows, vocab_size]: [rows]; row i draws with fold_in(key, i)."""
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(len(log_probs)))
    logits = log_probs / how.temperature
    if how.top_k is None and how.top_p is None:
        return jax.vmap(jax.random.categorical)(keys, logits)
    logits, tokens = jax.lax.top_k(logits, min(how.top_k or logits.shape[-1], logits.shape[-1]))
    if how.top_p is not None:
        probs = jax.nn.softmax(logits)
        before = jnp.cumsum(probs, axis=-1) - probs  # 0 for the likeliest token, which any top_p keeps
        logits = jnp.where(before < how.top_p, logits, NEVER)
    choice = jax.vmap(jax.random.categorical)(keys, logits)
    return jnp.take_along_axis(tokens, choice[:, None], axis=1)[:, 0]


def one_by_one(
    decoder: Cached, prompt: jax.Array, mask: jax.Array, rng: jax.Array, how: Generation, strategy: Greedy | Sample
) -> Generated:
    """Continues each row of the prompt [batch, length], which is padded on the left, by one token per step."""
    R, N = strategy.returned, how.max_new_tokens
    logits, state = decoder.start(prompt, mask)
    if R > 1:
        repeated = jnp.repeat(jnp.arange(len(prompt)), R)
        logits, state = logits[repeated], take_rows(state, repeated, batch_axes(decoder, prompt, mask))

    def advance(carry):
        step, state, logits, (tokens, lengths, scores, ended) = carry
        log_probs = allowed(logits, step, how)
        if isinstance(strategy, Sample):
            token = draw(jax.random.fold_in(rng, step), log_probs, strategy)
        else:
            token = log_probs.argmax(axis=-1)
        log_prob = jnp.take_along_axis(log_probs, token[:, None], axis=1)[:, 0]
        token = jnp.where(ended, how.pad_token, token).astype(tokens.dtype)
        tokens = tokens.at[:, step].set(token)
        lengths, scores = lengths + ~ended, scores + jnp.where(ended, 0, log_prob)
        logits, state = decoder.step(state, token)
        return step + 1, state, logits, (tokens, lengths, scores, ended | among(token, how.stop_tokens))

    def unfinished(carry):
        step, *_, (_, _, _, ended) = carry
        return (step < N) & ~ended.all()

    B = len(logits)
    tokens = jnp.full((B, N), how.pad_token, prompt.dtype)
    nothing = (tokens, jnp.zeros(B, jnp.int32), jnp.zeros(B, logits.dtype), jnp.zeros(B, bool))
    *_, (tokens, lengths, scores, _) = jax.lax.while_loop(unfinished, advance, (jnp.int32(0), state, logits, nothing))
    return Generated(tokens.reshape(-1, R, N), lengths.reshape(-1, R), scores.reshape(-1, R))
