"""Connectionist temporal classification (Graves et al., 2006): the probability of a text summed over all alignments.

An alignment assigns a token or the blank to every position; its text is obtained by merging repeats and then dropping
blanks.  `ctc_loss` is the training loss, `greedy` decodes the most likely alignment, and `prefix_beam_search` searches
for the most likely text.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

NEVER = -1e9
"""The log-probability of impossible events; finite, so that sums stay finite."""


def ctc_loss(
    logits: jax.Array, mask: jax.Array, labels: jax.Array, labels_mask: jax.Array, *, blank: int = 0
) -> jax.Array:
    """-log p(labels | logits), [batch]; 0 with zero gradient where the labels do not fit (see `fits`).

    >>> logits, mask = jnp.zeros((1, 4, 3)), jnp.ones((1, 4), bool)
    >>> loss = ctc_loss(logits, mask, jnp.array([[1, 2]]), jnp.ones((1, 2), bool))
    >>> round(float(jnp.exp(-loss[0]) * 3**4))  # the number of alignments among the 3⁴ that are all as likely
    15

    Args:
      logits: [batch, length, vocab_size].
      mask: [batch, length] bool, False on padding, which is on the right.
      labels: [batch, labels] tokens other than `blank`.
      labels_mask: [batch, labels] bool, False on padding, which is on the right.
      blank: the blank token.
    """
    loss = optax.ctc_loss(logits, 1.0 - mask, labels, 1.0 - labels_mask, blank_id=blank)
    return jnp.where(fits(mask, labels, labels_mask), loss, 0.0)


def fits(mask: jax.Array, labels: jax.Array, labels_mask: jax.Array) -> jax.Array:
    """True if there are enough positions for all labels, plus a blank between equal neighbours: bool [batch]."""
    repeats = (labels[:, 1:] == labels[:, :-1]) & labels_mask[:, 1:].astype(bool)
    return labels_mask.sum(axis=1) + repeats.sum(axis=1) <= mask.sum(axis=1)


class Decoded(NamedTuple):
    """Decoded texts.

    Attributes:
      tokens: [batch, length], 0 after the end.
      lengths: [batch], the number of tokens in each text.
      scores: [batch], the log-probability of the alignment (`greedy`) or of the text (`prefix_beam_search`).
    """

    tokens: jax.Array
    lengths: jax.Array
    scores: jax.Array


def greedy(logits: jax.Array, mask: jax.Array, *, blank: int = 0) -> Decoded:
    """Decodes the most likely alignment.

    Args:
      logits: [batch, length, vocab_size].
      mask: [batch, length] bool, False on padding.
      blank: the blank token.
    """
    mask = mask.astype(bool)
    log_probs = jax.nn.log_softmax(logits)
    best = jnp.where(mask, log_probs.argmax(axis=-1), blank)
    before = jnp.pad(best, ((0, 0), (1, 0)), constant_values=blank)[:, :-1]
    kept = (best != blank) & (best != before)
    order = jnp.argsort(~kept, axis=1, stable=True)
    lengths = kept.sum(axis=1)
    tokens = jnp.take_along_axis(best, order, axis=1)
    tokens = jnp.where(jnp.arange(tokens.shape[1]) < lengths[:, None], tokens, 0)
    return Decoded(tokens, lengths, jnp.where(mask, log_probs.max(axis=-1), 0).sum(axis=1))


@partial(jax.jit, static_argnames=("beams", "blank", "max_length"))
def prefix_beam_search(
    logits: jax.Array, mask: jax.Array, *, beams: int = 16, blank: int = 0, max_length: int | None = None
) -> Decoded:
    """Decodes the most likely text by beam search, keeping the `beams` most likely prefixes per position (Hannun,
    2014).

    Args:
      logits: [batch, length, vocab_size].
      mask: [batch, length] bool, False on padding.
      beams: the number of prefixes kept.
      blank: the blank token.
      max_length: the maximum number of tokens in a text; None for the number of positions.
    """
    search = partial(_search, beams=beams, blank=blank, max_length=max_length or logits.shape[1])
    return jax.vmap(search)(jax.nn.log_softmax(logits), mask.astype(bool))


class _Prefixes(NamedTuple):
    tokens: jax.Array  # [beams, max_length], 0 after the end
    lengths: jax.Array  # [beams]
    blank: jax.Array  # [beams], log-probability of alignments so far that end with the blank
    token: jax.Array  # [beams], of those that end with the prefix's last token

    @property
    def total(self) -> jax.Array:
        return jnp.logaddexp(self.blank, self.token)

    @property
    def last(self) -> jax.Array:
        """The last tokens, [beams]; -1 for empty prefixes."""
        last = jnp.take_along_axis(self.tokens, jnp.maximum(self.lengths - 1, 0)[:, None], axis=1)[:, 0]
        return jnp.where(self.lengths > 0, last, -1)


def _search(log_probs: jax.Array, mask: jax.Array, *, beams: int, blank: int, max_length: int) -> Decoded:
    """One example: log_probs [length, vocab_size], mask [length]."""
    V = log_probs.shape[-1]

    def advance(kept: _Prefixes, place: tuple[jax.Array, jax.Array]) -> tuple[_Prefixes, None]:
        log_prob, valid = place
        total, last = kept.total, kept.last
        # A prefix is unchanged by a blank, or by a repeat of its last token.
        blank_stays = total + log_prob[blank]
        token_stays = jnp.where(last >= 0, kept.token + log_prob[last], NEVER)
        # It grows by any other token, or by its last token after a blank.
        grown = total[:, None] + log_prob
        grown = jnp.where(jnp.arange(V) == last[:, None], (kept.blank[:, None] + log_prob), grown)
        grown = grown.at[:, blank].set(NEVER)
        grown = jnp.where(kept.lengths[:, None] < max_length, grown, NEVER)
        # If the grown prefix is already among the kept ones, the two are merged.
        becomes = _is_parent(kept)
        by_last = jnp.where(becomes, grown[:, jnp.maximum(last, 0)], NEVER)  # [parent, child]
        token_stays = jnp.logaddexp(token_stays, jax.nn.logsumexp(by_last, axis=0))
        taken = (becomes[:, :, None] & (jnp.arange(V) == last[:, None])).any(axis=1)  # [parent, token]
        grown = jnp.where(taken, NEVER, grown)

        stays = jnp.logaddexp(blank_stays, token_stays)
        _, chosen = jax.lax.top_k(jnp.concatenate([stays, grown.reshape(-1)]), beams)
        new = chosen >= beams
        parent = jnp.where(new, (chosen - beams) // V, chosen)
        token = jnp.where(new, (chosen - beams) % V, 0)
        tokens, lengths = kept.tokens[parent], kept.lengths[parent]
        place_of_token = jnp.where(new, lengths, max_length)  # out of bounds: nothing is written
        tokens = tokens.at[jnp.arange(beams), place_of_token].set(token.astype(tokens.dtype), mode="drop")
        step = _Prefixes(
            tokens,
            lengths + new,
            jnp.where(new, NEVER, blank_stays[parent]),
            jnp.where(new, grown.reshape(-1)[jnp.maximum(chosen - beams, 0)], token_stays[parent]),
        )
        return jax.tree.map(lambda a, b: jnp.where(valid, a, b), step, kept), None

    empty = jnp.where(jnp.arange(beams) == 0, 0.0, NEVER).astype(log_probs.dtype)
    nothing = jnp.full(beams, NEVER, log_probs.dtype)
    start = _Prefixes(jnp.zeros((beams, max_length), jnp.int32), jnp.zeros(beams, jnp.int32), empty, nothing)
    kept, _ = jax.lax.scan(advance, start, (log_probs, mask))
    best = kept.total.argmax()
    return Decoded(kept.tokens[best], kept.lengths[best], kept.total[best])


def _is_parent(kept: _Prefixes) -> jax.Array:
    """True if prefix i is prefix j without its last token and both are possible: bool [beams, beams]."""
    place = jnp.arange(kept.tokens.shape[1])
    without_last = jnp.where(place < kept.lengths[:, None] - 1, kept.tokens, 0)
    same = (kept.tokens[:, None] == without_last[None]).all(axis=-1)
    possible = kept.total > NEVER / 2  # while there are fewer than `beams` texts, the remaining beams are duplicates
    return same & (kept.lengths[:, None] + 1 == kept.lengths[None]) & possible[:, None] & possible[None]
