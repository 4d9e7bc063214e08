"""The base class of causal language models: masks, positions, the head and decoding."""

from __future__ import annotations

import abc

import jax
from flax import linen as nn

from research.layers.embeddings import looked_up, losses_of_tokens, token_embedding, token_logits
from research.layers.masks import both, padding_mask, segment_mask
from research.layers.positions import text_positions
from research.losses.cross_entropy import TokenLosses
from research.models.model import Model


class DecoderOnly(Model):
    """Maps tokens [batch, length] to logits of the next tokens, [batch, length, vocab_size].

    A subclass defines `features`, which runs between the embedding and the head, and has the fields `width`,
    `tied_head` and `dtype` besides those here.

    >>> class Bigram(DecoderOnly):
    ...     width: int = 4
    ...     tied_head: bool = False
    ...     dtype: str = "float32"
    ...
    ...     def features(self, x, **options):
    ...         return x
    >>> tokens = jnp.zeros((2, 5), int)
    >>> logits, variables = jax.eval_shape(Bigram(11, 8).init_with_output, jax.random.key(0), tokens)
    >>> logits.shape
    (2, 5, 11)

    Attributes:
      vocab_size: the number of tokens.
      context_length: the maximum number of tokens in a sequence.
    """

    vocab_size: int
    context_length: int

    # These are no fields, because they have no annotation; a subclass may declare them as such.
    init_deviation = 0.02
    """The standard deviation of the initial embeddings and of an untied head."""
    pad_token = None
    """A token whose embedding is trained only as a row of a tied head; None if there is none."""

    @nn.compact
    def __call__(
        self,
        tokens: jax.Array,
        *,
        positions: jax.Array | None = None,
        mask: jax.Array | None = None,
        segments: jax.Array | None = None,
        targets: jax.Array | None = None,
        vocab_chunks: int = 1,
        decode: bool = False,
        train: bool = False,
    ) -> jax.Array | TokenLosses:
        """Returns logits [batch, length, vocab_size], in at least float32; with `targets`, their losses instead.

        Args:
          tokens: [batch, length] integers.
          positions: [batch, length]; None counts from 0 in every segment.
          mask: [batch, length] bool, False on padding, which is never attended to.
          segments: [batch, length] integers; tokens attend only to their own segment of a packed sequence.
          targets: [batch, length] integers; asks for `TokenLosses` of them, [batch, length].
          vocab_chunks: the parts of the vocabulary for which these are computed one after another.
          decode: see the method `decode`.
          train: apply dropout, if the model has any.

        Raises:
          RequestError: more tokens than `context_length`.
        """
        if positions is None:
            positions = text_positions(tokens, segments, self.context_length)
        visible = both(
            None if mask is None else padding_mask(mask), None if segments is None else segment_mask(segments)
        )
        normal = nn.initializers.normal(self.init_deviation)
        embed = token_embedding(self.vocab_size, self.width, dtype=self.dtype, name="token_embedding", init=normal)
        x = looked_up(tokens, embed, self.pad_token)
        x = self.features(x, mask=visible, positions=positions, decode=decode, train=train)
        if targets is not None:
            return losses_of_tokens(x, embed, targets, chunks=vocab_chunks, tied=self.tied_head, init=normal)
        return token_logits(x[:, -1] if decode else x, embed, tied=self.tied_head, init=normal)

    @abc.abstractmethod
    def features(
        self, x: jax.Array, *, mask: jax.Array | None, positions: jax.Array, decode: bool, train: bool
    ) -> jax.Array:
        """Returns the normalised features [batch, length, width] for the head; called inside the compact `__call__`.

        Args:
          x: [batch, length, width], the embedded tokens.
          mask: [batch, 1, 1 or length, keys] bool, False for keys that may not be attended to, besides later tokens.
          positions: [1 or batch, length].
          decode: the keys and values of earlier tokens are in `cache`.
          train: apply dropout.
        """

    def decode(self, tokens: jax.Array, *, positions: jax.Array, mask: jax.Array) -> jax.Array:
        """Returns logits [batch, vocab_size] for the token after the last of `tokens`, and appends `tokens` to `cache`.

        Args:
          tokens: [batch, length], the prompt in the first call, then one token per call.
          positions: [batch, length].
          mask: [batch, cache length] bool, False where the cache holds padding.
        """
        return self(tokens, positions=positions, mask=mask, decode=True)
