"""Recurrent networks that read one sequence and write another, and look back at what they have read.

Sutskever et al. (2014) hand the encoder's last state to the decoder.  Bahdanau et al. (2015) let the decoder look at
all outputs of a bidirectional encoder, by additive scores; Luong et al. (2015) by products, and feed what a step has
seen into the next one.
"""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from research.config.checks import check_counts, check_rates
from research.errors import RequestError
from research.layers.dense import dense
from research.layers.dtypes import DType, param_dtype
from research.layers.embeddings import tied_logits, token_embedding, untied_logits
from research.layers.fields import Fields, fields
from research.layers.recurrent import Cell, Recurrent, State
from research.models.encoder_decoder import EncoderDecoder

Attention = Literal["additive", "multiplicative", "none"]


class Seq2SeqRNN(EncoderDecoder):
    """Source [batch, source length] and target so far [batch, length] to the logits of the target's next tokens.

    Attributes:
      vocab_size: tokens of the target, and of the source unless `source_vocab_size` says otherwise.
      source_vocab_size: tokens of the source where it has a vocabulary of its own; needs `shared_embedding=False`.
      cell: "elman", "lstm" or "gru".
      width: features of a state, in each direction of the encoder, and of what the decoder gives.
      depth: layers of the encoder, and of the decoder.
      bidirectional: whether the encoder reads from both ends; its last states then pass a dense layer to the decoder.
      attention: how a step's output and a place of the source are compared: v · tanh(W q + U k) (Bahdanau), q · U k
        (Luong's "general"), or not at all.
      input_feeding: whether a step reads what the one before it has seen; the steps then cannot share one attention.
      embed_width: features of an embedded token; None is `width`.
      shared_embedding: whether source and target have one embedding table.
      tied_head: whether the logits use the target's table; needs `embed_width` = `width`.
      dropout: of embeddings, between layers, and before the head.
      forget_bias: added to the initial bias of an LSTM's forget gate.
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
        check_counts(self, "vocab_size", "source_vocab_size", "width", "depth", "embed_width")
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
        """Logits [batch, length, vocab_size], in float32 at least.

        In the collection `intermediates`, where it is mutable: `attention_weights` [batch, 1, length, source length].

        Args:
          source: [batch, source length] integers.
          source_mask: [batch, source length] bool, False on padding; None is no padding.
          target: [batch, length] integers, from the token that starts a target: logits i are of what follows token i.
          positions: not looked at: a recurrent network counts by itself.
          mask: [batch, length] bool, False on padding of the target, which leaves the state alone.
          decode: see the method of that name.
          train: whether to drop.
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
        """(state, (keys [batch, source length, width], values [batch, source length, features]))."""
        spec = self.spec
        rnn = Recurrent(
            spec.cell, spec.width, spec.depth, spec.bidirectional, spec.dropout, forget_bias=spec.forget_bias,
            dtype=spec.dtype, name="rnn",
        )  # fmt: skip
        values, state = rnn(x, mask=mask, train=train)
        if spec.bidirectional:  # a layer's two directions become the state of that layer
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
        """((state, seen), (outputs [batch, length, width], attention weights [batch, length, source length])).

        `seen` [batch, width] is the output of the last token; where inputs are fed, there is one token a call.
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
        """The same, token by token, each with what the one before it has seen."""

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
        """softmax of the scores, [batch, length, source length] in float32 at least."""
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
