"""Connectionist temporal classification (Graves et al., 2006): a text as the sum over all its alignments.

An alignment names a token or the blank for every place; the text is what is left when repeats are merged and then
blanks dropped.  `ctc_loss` trains on it; `greedy` reads off the likeliest alignment, `prefix_beam_search` the likeliest
text as far as it can see.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

NEVER = -1e9
"""The log-probability of what cannot be; finite, so that it can be added to."""


def ctc_loss(
    logits: jax.Array, mask: jax.Array, labels: jax.Array, labels_mask: jax.Array, *, blank: int = 0
) -> jax.Array:
    """-log p(labels | logits), [batch]; 0, without a gradient, where the labels do not fit (see `fits`).

    Args:
      logits: [batch, length, vocab_size].
      mask: [batch, length] bool, False on padding, which stands on the right.
      labels: [batch, labels] tokens other than `blank`.
      labels_mask: [batch, labels] bool, False on padding, which stands on the right.
      blank: the token that stands for none.
    """
    loss = optax.ctc_loss(logits, 1.0 - mask, labels, 1.0 - labels_mask, blank_id=blank)
    return jnp.where(fits(mask, labels, labels_mask), loss, 0.0)


def fits(mask: jax.Array, labels: jax.Array, labels_mask: jax.Array) -> jax.Array:
    """[batch] bool: whether there is a place for every label, and for the blank between two that are the same."""
    repeats = (labels[:, 1:] == labels[:, :-1]) & labels_mask[:, 1:].astype(bool)
    return labels_mask.sum(axis=1) + repeats.sum(axis=1) <= mask.sum(axis=1)


class Decoded(NamedTuple):
    """Texts read off logits.

    Attributes:
      tokens: [batch, length], 0 after the end.
      lengths: [batch], how many of them count.
      scores: [batch], the log-probability of the alignment (`greedy`) or of the text (`prefix_beam_search`).
    """

    tokens: jax.Array
    lengths: jax.Array
    scores: jax.Array


def greedy(logits: jax.Array, mask: jax.Array, *, blank: int = 0) -> Decoded:
    """The text of the likeliest alignment.

    Args:
      logits: [batch, length, vocab_size].
      mask: [batch, length] bool, False on padding.
      blank: the token that stands for none.
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
    """The likeliest text among those whose beginnings were among the `beams` likeliest at every place (Hannun, 2014).

    Args:
      logits: [batch, length, vocab_size].
      mask: [batch, length] bool, False on padding.
      beams: beginnings of texts that are kept.
      blank: the token that stands for none.
      max_length: tokens that a text may have; None is as many as there are places.
    """
    search = partial(_search, beams=beams, blank=blank, max_length=max_length or logits.shape[1])
    return jax.vmap(search)(jax.nn.log_softmax(logits), mask.astype(bool))


class _Prefixes(NamedTuple):
    tokens: jax.Array  # [beams, max_length], 0 after the end
    lengths: jax.Array  # [beams]
    blank: jax.Array  # [beams], log-probability of the alignments so far that end with the blank
    token: jax.Array  # [beams], of those that end with the prefix's last token

    @property
    def total(self) -> jax.Array:
        return jnp.logaddexp(self.blank, self.token)

    @property
    def last(self) -> jax.Array:
        """[beams] the last tokens; -1 where there is none."""
        last = jnp.take_along_axis(self.tokens, jnp.maximum(self.lengths - 1, 0)[:, None], axis=1)[:, 0]
        return jnp.where(self.lengths > 0, last, -1)


def _search(log_probs: jax.Array, mask: jax.Array, *, beams: int, blank: int, max_length: int) -> Decoded:
    """One example: log_probs [length, vocab_size], mask [length]."""
    V = log_probs.shape[-1]

    def advance(kept: _Prefixes, place: tuple[jax.Array, jax.Array]) -> tuple[_Prefixes, None]:
        log_prob, valid = place
        total, last = kept.total, kept.last
        # A prefix stays what it is by a blank, or by its last token once more.
        blank_stays = total + log_prob[blank]
        token_stays = jnp.where(last >= 0, kept.token + log_prob[last], NEVER)
        # It grows by any other token, and by its last one after a blank.
        grown = total[:, None] + log_prob
        grown = jnp.where(jnp.arange(V) == last[:, None], (kept.blank[:, None] + log_prob), grown)
        grown = grown.at[:, blank].set(NEVER)
        grown = jnp.where(kept.lengths[:, None] < max_length, grown, NEVER)
        # What a prefix grows into may be kept already: then the two are one.
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
        place_of_token = jnp.where(new, lengths, max_length)  # beyond the end, nothing is written
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
    """[beams, beams] bool: whether prefix i is prefix j without its last token; both must be possible."""
    place = jnp.arange(kept.tokens.shape[1])
    without_last = jnp.where(place < kept.lengths[:, None] - 1, kept.tokens, 0)
    same = (kept.tokens[:, None] == without_last[None]).all(axis=-1)
    possible = kept.total > NEVER / 2  # while there are fewer than `beams` texts, the rest of the places repeat some
    return same & (kept.lengths[:, None] + 1 == kept.lengths[None]) & possible[:, None] & possible[None]
