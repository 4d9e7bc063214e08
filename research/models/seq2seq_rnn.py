"""Recurrent encoder-decoders, with or without attention to the source.

Sutskever et al. (2014) pass the encoder's last state to the decoder.  Bahdanau et al. (2015) let the decoder attend to
all outputs of a bidirectional encoder with additive scores.  Luong et al. (2015) use products as scores, and feed the
attended output of one step into the next.
"""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from research.config.checks import check_counts, check_depths, check_rates
from research.errors import RequestError
from research.layers.dense import dense
from research.layers.dtypes import DType, param_dtype
from research.layers.embeddings import tied_logits, token_embedding, untied_logits
from research.layers.fields import Fields, fields
from research.layers.recurrent import Cell, Recurrent, State
from research.models.encoder_decoder import EncoderDecoder

Attention = Literal["additive", "multiplicative", "none"]


class Seq2SeqRNN(EncoderDecoder):
    """Maps a source [batch, source length] and a target [batch, length] to logits of the target's next tokens.

    >>> model = Seq2SeqRNN(vocab_size=11, cell="gru", width=16)
    >>> source, target = jnp.zeros((2, 5), int), jnp.zeros((2, 3), int)
    >>> logits, variables = jax.eval_shape(model.init_with_output, jax.random.key(0), source, None, target)
    >>> logits.shape
    (2, 3, 11)

    Attributes:
      vocab_size: the number of tokens of the target, and of the source unless `source_vocab_size` is given.
      source_vocab_size: the number of source tokens, if the source has its own vocabulary; needs
        `shared_embedding=False`.
      cell: "elman", "lstm" or "gru".
      width: the features of a state, in each direction of the encoder, and of the decoder's output.
      depth: the number of layers of the encoder, and of the decoder.
      bidirectional: the encoder reads from both ends; a dense layer then maps its last states to the decoder's first.
      attention: the score of a query q and a source position k: "additive" is v · tanh(W q + U k) (Bahdanau),
        "multiplicative" is q · U k (Luong's "general"); "none" leaves attention out.
      input_feeding: feed the attended output of each step into the next one; steps then run one by one.
      embed_width: the features of an embedded token; None means `width`.
      shared_embedding: use one embedding table for source and target.
      tied_head: compute logits with the target's embedding table; needs `embed_width` = `width`.
      dropout: the dropout rate on embeddings, between layers, and before the head.
      forget_bias: added to the initial bias of an LSTM's forget gate.
      dtype: of the computation; parameters have at least float32.
    """

    vocab_size: int
    source_vocab_size: int | None = None
    cell: Cell = "lstm"
    width: int = 256
    depth: int = 1
    bidirectional: bool = True
    attention: Attention = "additive"
    input_feeding: bool = False
    embed_width: int | None = None
    shared_embedding: bool = True
    tied_head: bool = False
    dropout: float = 0.0
    forget_bias: float = 0.0
    dtype: DType = "float32"

    def check(self) -> None:
        super().check()
        check_counts(self, "vocab_size", "source_vocab_size", "width", "embed_width")
        check_depths(self, "depth")
        check_rates(self, "dropout")
        if self.tied_head and self.embed_width not in (None, self.width):
            raise RequestError(f"embed_width={self.embed_width}: expected width={self.width} for a tied head")
        if self.shared_embedding and self.source_vocab_size not in (None, self.vocab_size):
            raise RequestError(
                f"source_vocab_size={self.source_vocab_size}: expected vocab_size={self.vocab_size}, "
                "or shared_embedding=False"
            )

    @nn.compact
    def __call__(
        self,
        source: jax.Array,
        source_mask: jax.Array | None,
        target: jax.Array,
        *,
        positions: jax.Array | None = None,
        mask: jax.Array | None = None,
        decode: bool = False,
        train: bool = False,
    ) -> jax.Array:
        """Returns logits [batch, length, vocab_size], in at least float32.

        Sows `attention_weights` [batch, 1, length, source length] if the collection `intermediates` is mutable.

        Args:
          source: [batch, source length] integers.
          source_mask: [batch, source length] bool, False on padding; None means no padding.
          target: [batch, length] integers, starting with the start token; logits i predict the token after token i.
          positions: ignored; a recurrent network needs none.
          mask: [batch, length] bool, False on padding of the target, which leaves the state unchanged.
          decode: see the method `decode`.
          train: apply dropout.
        """
        drop = nn.Dropout(self.dropout, deterministic=not train)
        small = nn.initializers.normal(0.1)
        features = self.embed_width or self.width
        embed = token_embedding(self.vocab_size, features, dtype=self.dtype, name="token_embedding", init=small)
        source_embed = embed
        if not self.shared_embedding:
            vocab_size = self.source_vocab_size or self.vocab_size
            source_embed = token_embedding(vocab_size, features, dtype=self.dtype, name="source_embedding", init=small)
        encoder = Encoder(fields(self), name="encoder")
        decoder = Decoder(fields(self), name="decoder")

        if decode:
            start = self.variable("cache", "index", jnp.zeros, (), jnp.int32)
            mask = jax.lax.dynamic_slice_in_dim(mask, start.value, target.shape[1], axis=1)
            start.value += target.shape[1]
        if decode and self.has_variable("cache", "memory"):
            carry, memory = self.get_variable("cache", "carry"), self.get_variable("cache", "memory")
        else:
            state, memory = encoder(drop(source_embed(source)), source_mask, train)
            carry = state, jnp.zeros((len(target), self.width), memory[0].dtype)
        run = decoder.one_by_one if self.input_feeding and self.attention != "none" else decoder
        carry, (y, weights) = run(carry, drop(embed(target)), mask, memory, source_mask, train)
        if decode:
            self.put_variable("cache", "carry", carry)
            self.put_variable("cache", "memory", memory)
            y = y[:, -1]
        elif self.is_mutable_collection("intermediates") and weights is not None and not self.is_initializing():
            self.sow("intermediates", "attention_weights", weights[:, None])
        y = drop(y)
        if self.tied_head:
            logits = tied_logits(y, embed)
            return logits + self.param("head_bias", nn.initializers.zeros, (self.vocab_size,), logits.dtype)
        return untied_logits(y, self.vocab_size, name="head", use_bias=True, init=nn.initializers.lecun_normal())


class Encoder(nn.Module):
    """Encodes the embedded source into the decoder's first state and a memory; `spec` has `Seq2SeqRNN`'s fields."""

    spec: Fields

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array | None, train: bool) -> tuple[State, tuple[jax.Array, jax.Array]]:
        """Returns (state, (keys [batch, source length, width], values [batch, source length, features]))."""
        spec = self.spec
        rnn = Recurrent(
            spec.cell, spec.width, spec.depth, spec.bidirectional, spec.dropout, forget_bias=spec.forget_bias,
            dtype=spec.dtype, name="rnn",
        )  # fmt: skip
        values, state = rnn(x, mask=mask, train=train)
        if spec.bidirectional:  # merge the two directions of each layer
            state = tuple(
                jnp.tanh(dense(spec.width, dtype=spec.dtype, name=f"bridge_{name}")(s.reshape(len(s), spec.depth, -1)))
                for name, s in zip("hc", state, strict=False)
            )
        state = tuple(s.astype(param_dtype(spec.dtype)) for s in state)
        keys = (
            values
            if spec.attention == "none"
            else dense(spec.width, dtype=spec.dtype, name="key", use_bias=False)(values)
        )
        return state, (keys, values)


class Decoder(nn.Module):
    """Recurrent layers, then attention to the source; `spec` holds the fields of `Seq2SeqRNN`."""

    spec: Fields

    @nn.compact
    def __call__(self, carry, x, mask, memory, memory_mask, train):
        """Returns ((state, seen), (outputs [batch, length, width], weights [batch, length, source length])).

        `seen` [batch, width] is the output for the last token.  With input feeding, each call takes one token.
        """
        spec = self.spec
        state, seen = carry
        if spec.input_feeding and spec.attention != "none":
            x = jnp.concatenate([x, seen[:, None].astype(x.dtype)], axis=-1)
        rnn = Recurrent(
            spec.cell, spec.width, spec.depth, dropout=spec.dropout, forget_bias=spec.forget_bias, dtype=spec.dtype,
            name="rnn",
        )  # fmt: skip
        y, state = rnn(x, state, mask=mask, train=train)
        if spec.attention == "none":
            return (state, seen), (y, None)
        keys, values = memory
        weights = self._weights(y, keys, memory_mask)
        context = jnp.einsum("bqk,bkd->bqd", weights.astype(values.dtype), values)
        out = jnp.tanh(dense(spec.width, dtype=spec.dtype, name="out")(jnp.concatenate([context, y], axis=-1)))
        last = out[:, -1] if mask is None else jnp.where(mask[:, -1:], out[:, -1], seen)
        return (state, last), (out, weights)

    def one_by_one(self, carry, x, mask, memory, memory_mask, train):
        """Like `__call__`, but token by token; each step reads the output of the step before."""

        def step(decoder, carry, token):
            x, mask = token
            return decoder(carry, x, mask, memory, memory_mask, train)

        scan = nn.scan(
            step, variable_broadcast="params", split_rngs={"params": False, "dropout": True}, in_axes=1, out_axes=1
        )
        x, mask = x[:, :, None], None if mask is None else mask[:, :, None]
        carry, (out, weights) = scan(self, carry, (x, mask))
        return carry, (out[:, :, 0], weights[:, :, 0])

    def _weights(self, y: jax.Array, keys: jax.Array, mask: jax.Array | None) -> jax.Array:
        """Returns attention weights [batch, length, source length], the softmax of the scores, in at least float32."""
        spec = self.spec
        if spec.attention == "additive":
            hidden = jnp.tanh(dense(spec.width, dtype=spec.dtype, name="query")(y)[:, :, None] + keys[:, None])
            scores = dense(1, dtype=spec.dtype, name="score", use_bias=False)(hidden)[..., 0]
        else:
            scores = jnp.einsum("bqd,bkd->bqk", y, keys)
        scores = scores.astype(param_dtype(spec.dtype))
        if mask is not None:
            scores = jnp.where(mask[:, None], scores, jnp.finfo(scores.dtype).min)
        return jax.nn.softmax(scores, axis=-1)
