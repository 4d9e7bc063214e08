"""Recurrent networks with a head: one that predicts the next token, one that says what a sequence is."""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from research.config.checks import check_counts, check_rates
from research.errors import RequestError
from research.layers.activations import Activation
from research.layers.dtypes import DType
from research.layers.embeddings import tied_logits, token_embedding, untied_logits
from research.layers.recurrent import Cell, Recurrent, State
from research.models.model import Model


class RNNLanguageModel(Model):
    """Tokens [batch, length] to the logits of the tokens that follow, [batch, length, vocab_size] (Mikolov, 2010).

    Attributes:
      vocab_size: tokens that there are.
      cell: "elman", "lstm" or "gru".
      width: features of the state.
      depth: layers.
      embed_width: features of an embedded token; None is `width`.
      tied_head: whether the logits use the embedding table; needs `embed_width` = `width`.
      dropout: of embeddings, between layers, and before the head.
      activation: the non-linearity of an Elman step.
      forget_bias: added to the initial bias of an LSTM's forget gate.
    """

    vocab_size: int
    cell: Cell = "lstm"
    width: int = 256
    depth: int = 1
    embed_width: int | None = None
    tied_head: bool = False
    dropout: float = 0.0
    activation: Activation = "tanh"
    forget_bias: float = 0.0
    dtype: DType = "float32"

    def check(self) -> None:
        super().check()
        check_counts(self, "vocab_size", "width", "depth", "embed_width")
        check_rates(self, "dropout")
        if self.tied_head and self.embed_width not in (None, self.width):
            raise RequestError(f"embed_width={self.embed_width}: expected width={self.width} for a tied head")

    @nn.compact
    def __call__(
        self,
        tokens: jax.Array,
        *,
        positions: jax.Array | None = None,
        mask: jax.Array | None = None,
        segments: jax.Array | None = None,
        state: State | None = None,
        decode: bool = False,
        train: bool = False,
    ) -> jax.Array:
        """Logits [batch, length, vocab_size], in float32 at least.

        Args:
          tokens: [batch, length] integers.
          positions: not looked at: a recurrent network counts by itself.
          mask: [batch, length] bool, False on padding, which leaves the state alone.
          segments: [batch, length] integers; the state is zero again where the number changes (packed sequences).
          state: before the first token, as `Recurrent` takes it; None is zeros.
          decode: see the method of that name.
        """
        embed_width = self.embed_width or self.width
        embed = token_embedding(
            self.vocab_size, embed_width, dtype=self.dtype, name="token_embedding", init=nn.initializers.normal(1.0)
        )
        drop = nn.Dropout(self.dropout, deterministic=not train)
        recurrent = Recurrent(
            self.cell, self.width, self.depth, dropout=self.dropout, activation=self.activation,
            forget_bias=self.forget_bias, dtype=self.dtype, name="rnn",
        )  # fmt: skip
        begins = None if segments is None else segments != jnp.roll(segments, 1, axis=1)
        if decode:
            start = self.variable("cache", "index", jnp.zeros, (), jnp.int32)
            mask = jax.lax.dynamic_slice_in_dim(mask, start.value, tokens.shape[1], axis=1)
            start.value += tokens.shape[1]
            state = self.get_variable("cache", "state", state)
        y, state = recurrent(drop(embed(tokens)), state, mask=mask, begins=begins, train=train)
        if decode:
            self.put_variable("cache", "state", state)
            y = y[:, -1]
        y = drop(y)
        if self.tied_head:
            logits = tied_logits(y, embed)
            return logits + self.param("head_bias", nn.initializers.zeros, (self.vocab_size,), logits.dtype)
        return untied_logits(y, self.vocab_size, name="head", use_bias=True, init=nn.initializers.lecun_normal())

    def decode(self, tokens: jax.Array, *, positions: jax.Array, mask: jax.Array) -> jax.Array:
        """Logits [batch, vocab_size] of what follows the last of these tokens, which follow those whose state the
        collection `cache` holds.

        Args:
          tokens: [batch, length], the prompt in the first call, then one at a time.
          positions: not looked at.
          mask: [batch, cache length] bool: which tokens, of all that are to come, are not padding.
        """
        return self(tokens, positions=positions, mask=mask, decode=True)


class RNNClassifier(Model):
    """A sequence of tokens or of feature vectors to logits: one row a sequence, or one a token.

    Attributes:
      classes: logits.
      vocab_size: tokens that there are, where the input is integers; None where it is feature vectors.
      cell: "elman", "lstm" or "gru".
      width: features of the state.
      depth: layers.
      bidirectional: whether to read from both ends.
      pool: what of a sequence the head sees: the states after its last token (and before its first, read from the
        end), the mean or the maximum over its tokens, or "none": every token by itself.
      embed_width: features of an embedded token; None is `width`.
      input_width: features of the input vectors; None takes them as they come.
      dropout: of the input, between layers, and before the head.
      activation: the non-linearity of an Elman step.
      forget_bias: added to the initial bias of an LSTM's forget gate.
    """

    classes: int
    vocab_size: int | None = None
    cell: Cell = "lstm"
    width: int = 256
    depth: int = 1
    bidirectional: bool = False
    pool: Literal["last", "mean", "max", "none"] = "last"
    embed_width: int | None = None
    input_width: int | None = None
    dropout: float = 0.0
    activation: Activation = "tanh"
    forget_bias: float = 0.0
    dtype: DType = "float32"

    def check(self) -> None:
        super().check()
        check_counts(self, "classes", "vocab_size", "width", "depth", "embed_width", "input_width")
        check_rates(self, "dropout")

    @nn.compact
    def __call__(
        self, x: jax.Array, *, mask: jax.Array | None = None, state: State | None = None, train: bool = False
    ) -> jax.Array:
        """[batch, classes], or [batch, length, classes] where nothing is pooled; in float32 at least.

        Args:
          x: [batch, length] integers, or [batch, length, features].
          mask: [batch, length] bool, False on padding, which leaves the state alone.
          state: before the first token, as `Recurrent` takes it; None is zeros.
        """
        drop = nn.Dropout(self.dropout, deterministic=not train)
        if self.vocab_size is not None:
            init = nn.initializers.normal(1.0)
            width = self.embed_width or self.width
            x = token_embedding(self.vocab_size, width, dtype=self.dtype, name="token_embedding", init=init)(x)
        recurrent = Recurrent(
            self.cell, self.width, self.depth, self.bidirectional, self.dropout, self.activation, self.forget_bias,
            self.input_width, self.dtype, name="rnn",
        )  # fmt: skip
        y, state = recurrent(drop(x), state, mask=mask, train=train)
        valid = jnp.ones(y.shape[:2], bool) if mask is None else mask.astype(bool)
        directions = 2 if self.bidirectional else 1
        if self.pool == "last":  # the last layer's states, its directions side by side
            y = state[0][:, -directions:].reshape(len(y), -1).astype(y.dtype)
        elif self.pool == "mean":  # what stands at padding is zero
            y = y.sum(axis=1) / jnp.maximum(valid.sum(axis=1, keepdims=True), 1).astype(y.dtype)
        elif self.pool == "max":
            y = jnp.where(valid[..., None], y, jnp.finfo(y.dtype).min).max(axis=1)
        init = nn.initializers.lecun_normal()
        return untied_logits(drop(y), self.classes, name="head", use_bias=True, init=init)
