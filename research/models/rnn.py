"""Recurrent networks with a head: a language model, and a classifier of sequences or tokens."""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from research.config.checks import check_counts, check_depths, check_rates
from research.errors import RequestError
from research.layers.activations import Activation
from research.layers.dtypes import DType
from research.layers.embeddings import tied_logits, token_embedding, untied_logits
from research.layers.recurrent import Cell, Recurrent, State
from research.models.model import Model


class RNNLanguageModel(Model):
    """Maps tokens [batch, length] to logits of the next tokens, [batch, length, vocab_size] (Mikolov et al., 2010).

    >>> model = RNNLanguageModel(vocab_size=11, cell="gru", width=16)
    >>> tokens = jnp.zeros((2, 5), int)
    >>> logits, variables = jax.eval_shape(model.init_with_output, jax.random.key(0), tokens)
    >>> logits.shape
    (2, 5, 11)

    Attributes:
      vocab_size: the number of tokens.
      cell: "elman", "lstm" or "gru".
      width: the features of the state.
      depth: the number of layers.
      embed_width: the features of an embedded token; None means `width`.
      tied_head: compute logits with the embedding table; needs `embed_width` = `width`.
      dropout: the dropout rate on embeddings, between layers, and before the head.
      activation: the nonlinearity of an Elman step.
      forget_bias: added to the initial bias of an LSTM's forget gate.
      dtype: of the computation; parameters have at least float32.
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
        check_counts(self, "vocab_size", "width", "embed_width")
        check_depths(self, "depth")
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
        """Returns logits [batch, length, vocab_size], in at least float32.

        Args:
          tokens: [batch, length] integers.
          positions: ignored; a recurrent network needs none.
          mask: [batch, length] bool, False on padding, which leaves the state unchanged.
          segments: [batch, length] integers; the state is reset to zero where the number changes (packed sequences).
          state: the state before the first token, as in `Recurrent`; None means zeros.
          decode: see the method `decode`.
          train: apply dropout.
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
        """Returns logits [batch, vocab_size] for the token after the last of `tokens`, and updates the state in
        `cache`.

        Args:
          tokens: [batch, length], the prompt in the first call, then one token per call.
          positions: ignored.
          mask: [batch, cache length] bool, False on padding; covers later tokens too.
        """
        return self(tokens, positions=positions, mask=mask, decode=True)


class RNNClassifier(Model):
    """Maps sequences of tokens or of feature vectors to logits, per sequence or per token.

    >>> model = RNNClassifier(classes=3, vocab_size=11, width=16, bidirectional=True)
    >>> tokens = jnp.zeros((2, 5), int)
    >>> logits, variables = jax.eval_shape(model.init_with_output, jax.random.key(0), tokens)
    >>> logits.shape
    (2, 3)

    Attributes:
      classes: the number of logits.
      vocab_size: the number of tokens if the input is integers; None if the input is feature vectors.
      cell: "elman", "lstm" or "gru".
      width: the features of the state.
      depth: the number of layers.
      bidirectional: read from both ends.
      pool: the input of the head: "last" for the final state of each direction, the "mean" or "max" over the tokens, or
        "none" for one output per token.
      embed_width: the features of an embedded token; None means `width`.
      input_width: the features of the input vectors; None infers them.
      dropout: the dropout rate on the input, between layers, and before the head.
      activation: the nonlinearity of an Elman step.
      forget_bias: added to the initial bias of an LSTM's forget gate.
      dtype: of the computation; parameters have at least float32.
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
        check_counts(self, "classes", "vocab_size", "width", "embed_width", "input_width")
        check_depths(self, "depth")
        check_rates(self, "dropout")

    @nn.compact
    def __call__(
        self, x: jax.Array, *, mask: jax.Array | None = None, state: State | None = None, train: bool = False
    ) -> jax.Array:
        """Returns logits [batch, classes], or [batch, length, classes] without pooling; in at least float32.

        Args:
          x: [batch, length] integers, or [batch, length, features].
          mask: [batch, length] bool, False on padding, which leaves the state unchanged.
          state: the state before the first token, as in `Recurrent`; None means zeros.
          train: apply dropout.
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
        if self.pool == "last":  # the last layer's states, both directions concatenated
            y = state[0][:, -directions:].reshape(len(y), -1).astype(y.dtype)
        elif self.pool == "mean":  # outputs at padding are zero
            y = y.sum(axis=1) / jnp.maximum(valid.sum(axis=1, keepdims=True), 1).astype(y.dtype)
        elif self.pool == "max":
            y = jnp.where(valid[..., None], y, jnp.finfo(y.dtype).min).max(axis=1)
        init = nn.initializers.lecun_normal()
        return untied_logits(drop(y), self.classes, name="head", use_bias=True, init=init)
