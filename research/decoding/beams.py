"""Beam search: keeps the likeliest unfinished continuations of every prompt, and the best finished ones."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from research.decoding.cached import Cached, batch_axes, take_rows
from research.decoding.constraints import NEVER, allowed, among
from research.decoding.strategies import Beam, Generated, Generation


class _Beams(NamedTuple):
    tokens: jax.Array  # [batch, beams, max_new_tokens]
    scores: jax.Array  # [batch, beams], best first: log-probabilities, with a length penalty if finished
    lengths: jax.Array  # [batch, beams]; 0 for a place that no finished continuation has taken yet

    def best(self, count: int) -> tuple[_Beams, jax.Array]:
        """The `count` best continuations of every example, best first, and their places [batch, count]."""
        _, order = jax.lax.top_k(self.scores, count)
        return self.take(order), order

    def take(self, order: jax.Array) -> _Beams:
        """The continuations at the places `order` [batch, count]."""
        return _Beams(*(jnp.take_along_axis(x, order.reshape(order.shape + (1,) * (x.ndim - 2)), 1) for x in self))


def beam_search(decoder: Cached, prompt: jax.Array, mask: jax.Array, how: Generation, beam: Beam) -> Generated:
    """Continues the prompt [batch, length], which is padded on the left, by beam search.

    Each step finds the likeliest extensions of the running beams by one token.  Extensions that end compete with the
    finished continuations; the best of the others become the running beams.
    """
    B, K, N = len(prompt), beam.beams, how.max_new_tokens
    logits, state = decoder.start(prompt, mask)
    V = logits.shape[-1]
    candidates = min(max(2, 1 + len(how.stop_tokens)) * K, K * V)  # enough for at least K that do not end
    repeated = jnp.repeat(jnp.arange(B), K)
    axes = batch_axes(decoder, prompt, mask)
    logits, state = logits[repeated], take_rows(state, repeated, axes)

    tokens = jnp.full((B, K, N), how.pad_token, prompt.dtype)
    only_first = jnp.where(jnp.arange(K) == 0, 0.0, NEVER)  # all beams start equal, so only one may be extended
    running = _Beams(tokens, jnp.broadcast_to(only_first, (B, K)).astype(logits.dtype), jnp.zeros((B, K), jnp.int32))
    finished = running._replace(scores=jnp.full((B, K), NEVER, logits.dtype))

    def advance(carry):
        step, state, logits, running, finished, hopeful = carry
        length = step + 1
        log_probs = allowed(logits, step, how).reshape(B, K, V) + running.scores[:, :, None]
        scores, flat = jax.lax.top_k(log_probs.reshape(B, K * V), candidates)
        origin, token = flat // V, (flat % V).astype(prompt.dtype)
        tokens = running.take(origin).tokens.at[:, :, step].set(token)
        extended = _Beams(tokens, scores, jnp.full((B, candidates), length, jnp.int32))
        ends = among(token, how.stop_tokens) | (length == N)

        # Only extensions among the K best can finish, because K better ones outrank the rest.
        closed = ends & (jnp.arange(candidates) < K) & hopeful[:, None]
        penalised = jnp.where(closed, scores / length**beam.length_penalty, NEVER)
        newly = extended._replace(scores=penalised, lengths=jnp.where(closed, length, 0))
        finished, _ = _Beams(*(jnp.concatenate(pair, axis=1) for pair in zip(finished, newly, strict=True))).best(K)
        running, order = extended._replace(scores=jnp.where(ends, scores + NEVER, scores)).best(K)

        # An example that cannot improve stops, so that its result does not depend on the rest of the batch.
        full = (finished.lengths > 0).all(axis=1)
        reach = N if beam.early_stopping == "never" and beam.length_penalty > 0 else length
        attainable = running.scores[:, 0] / reach**beam.length_penalty
        hopeful &= ~full | ((beam.early_stopping != "full") & (attainable > finished.scores.min(axis=1)))

        origin = jnp.take_along_axis(origin, order, axis=1)
        state = take_rows(state, (jnp.arange(B)[:, None] * K + origin).reshape(-1), axes)
        logits, state = decoder.step(state, running.tokens[:, :, step].reshape(-1))
        return length, state, logits, running, finished, hopeful

    def unfinished(carry):
        return (carry[0] < N) & carry[-1].any()

    carry = (jnp.int32(0), state, logits, running, finished, jnp.ones(B, bool))
    *_, finished, _ = jax.lax.while_loop(unfinished, advance, carry)
    R = beam.returned
    return Generated(finished.tokens[:, :R], finished.lengths[:, :R], finished.scores[:, :R])
