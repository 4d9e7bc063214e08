"""The encoder-decoder Transformer (Vaswani et al., 2017)."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from research.config.checks import check_counts, check_depths, check_rates, check_size
from research.errors import RequestError
from research.layers.activations import Activation
from research.layers.attention_kernels import Kernel
from research.layers.dtypes import DType
from research.layers.embeddings import looked_up, token_embedding, token_logits
from research.layers.fields import like
from research.layers.masks import segment_mask
from research.layers.positions import learned, sinusoidal, text_positions
from research.layers.stack import Remat
from research.layers.transformer import (
    TENSOR_RULES,
    VOCABULARY_RULES,
    NormPlacement,
    TransformerStack,
    check_stack,
    decoder_sizes,
    encoder_sizes,
)
from research.models.encoder_decoder import EncoderDecoder

Positions = Literal["sinusoidal", "sinusoidal_halves", "learned"]


class Transformer(EncoderDecoder):
    """Maps a source [batch, source length] and a target [batch, length] to logits of the target's next tokens.

    >>> model = Transformer(vocab_size=11, width=16, depth=1, num_heads=2)
    >>> source, target = jnp.zeros((2, 5), int), jnp.zeros((2, 3), int)
    >>> logits, variables = jax.eval_shape(model.init_with_output, jax.random.key(0), source, None, target)
    >>> logits.shape
    (2, 3, 11)

    Attributes:
      vocab_size: the number of tokens of the target, and of the source unless `source_vocab_size` is given.
      source_vocab_size: the number of source tokens, if the source has its own vocabulary; needs
        `shared_embedding=False`.
      context_length: the maximum number of tokens of a source or a target.
      width: the features of a token.
      depth: the number of encoder blocks.
      decoder_depth: the number of decoder blocks; None means `depth`.
      num_heads: the number of attention heads, a divisor of `width`.
      decoder_num_heads: the same for the decoder; None means `num_heads`.
      mlp_width: the hidden features of each MLP; None means 4 `width`.
      decoder_mlp_width: the same for the decoder; None means `mlp_width`.
      activation: of the MLPs.
      norm: "post" normalises each residual sum (the paper), "pre" the input of attention and MLP.
      final_norm: end encoder and decoder with a layer norm; None does so if `norm` is "pre".
      norm_epsilon: of every layer norm.
      positions: "sinusoidal" interleaves sines and cosines (the paper), "sinusoidal_halves" puts all sines before all
        cosines (Marian), "learned" uses tables.
      shared_embedding: use one embedding table for source and target.
      scaled_embedding: multiply embeddings by √width.
      tied_head: compute logits with the target's embedding table.
      pad_token: a token whose embedding is trained only as a row of a tied head, as in Marian; None if there is none.
      logits_bias: add a fixed bias to the logits, from the collection `constants` (Marian's published weights).
      dropout: the dropout rate on embeddings plus positions, and on the output of each part of a block.
      attention_dropout: the dropout rate on attention weights.
      activation_dropout: the dropout rate on hidden features of the MLPs.
      kernel: of attention; see `research.layers.attention_kernels`.
      scan_layers: compile one block with stacked parameters `blocks`, instead of `block0`, `block1`, ...
      remat: the parts of a block that the backward pass recomputes; see `research.layers.stack.Remat`.
      dtype: of the computation; parameters have at least float32.
    """

    tensor_rules = TENSOR_RULES + VOCABULARY_RULES

    vocab_size: int
    source_vocab_size: int | None = None
    context_length: int = 1024
    width: int = 512
    depth: int = 6
    decoder_depth: int | None = None
    num_heads: int = 8
    decoder_num_heads: int | None = None
    mlp_width: int | None = None
    decoder_mlp_width: int | None = None
    activation: Activation = "relu"
    norm: NormPlacement = "post"
    final_norm: bool | None = None
    norm_epsilon: float = 1e-5
    positions: Positions = "sinusoidal"
    shared_embedding: bool = True
    scaled_embedding: bool = True
    tied_head: bool = True
    pad_token: int | None = None
    logits_bias: bool = False
    dropout: float = 0.1
    attention_dropout: float = 0.0
    activation_dropout: float = 0.0
    kernel: Kernel = "auto"
    scan_layers: bool = False
    remat: Remat = False
    dtype: DType = "float32"

    def check(self) -> None:
        super().check()
        check_counts(self, "vocab_size", "source_vocab_size", "context_length", "width")
        check_depths(self, "depth", "decoder_depth")
        check_counts(self, "num_heads", "decoder_num_heads", "mlp_width", "decoder_mlp_width")
        check_rates(self, "dropout", "attention_dropout", "activation_dropout")
        check_stack(self, encoder_sizes(self))
        check_stack(self, decoder_sizes(self), num_heads="decoder_num_heads")
        if self.shared_embedding and self.source_vocab_size not in (None, self.vocab_size):
            raise RequestError(
                f"source_vocab_size={self.source_vocab_size}: expected vocab_size={self.vocab_size}, "
                "or shared_embedding=False"
            )
        if self.positions != "learned" and self.width % 2:
            raise RequestError(f"width={self.width}: expected an even number for sinusoidal positions")

    @nn.compact
    def __call__(
        self,
        source: jax.Array,
        source_mask: jax.Array | None,
        target: jax.Array,
        *,
        positions: jax.Array | None = None,
        mask: jax.Array | None = None,
        source_segments: jax.Array | None = None,
        segments: jax.Array | None = None,
        decode: bool = False,
        train: bool = False,
    ) -> jax.Array:
        """Returns logits [batch, length, vocab_size], in at least float32.

        Args:
          source: [batch, source length] integers.
          source_mask: [batch, source length] bool, False on padding, which is never attended to; None means no padding.
          target: [batch, length] integers, starting with the start token; logits i predict the token after token i.
            Padding at the end of a target needs no mask.
          positions: [batch, length] of the target; None counts from 0 in every segment.
          mask: [batch, length] bool, False on padding of the target.
          source_segments: [batch, source length] integers; which of several packed pairs a source token belongs to.
          segments: [batch, length] integers, the same for the target; tokens attend only to their own pair.
          decode: see the method `decode`.
          train: apply dropout.

        Raises:
          RequestError: more tokens than `context_length`.
        """
        embed = token_embedding(self.vocab_size, self.width, dtype=self.dtype, name="token_embedding", init=self._unit)
        source_embed = embed
        if not self.shared_embedding:
            source_vocab_size = self.source_vocab_size or self.vocab_size
            source_embed = token_embedding(
                source_vocab_size, self.width, dtype=self.dtype, name="source_embedding", init=self._unit
            )
        final_norm = self.norm == "pre" if self.final_norm is None else self.final_norm
        stack = partial(like, self, TransformerStack, final_norm=final_norm)
        encoder = stack(**encoder_sizes(self), name="encoder")
        decoder = stack(**decoder_sizes(self), decoder=True, name="decoder")

        memory = None  # after the first call, its keys and values are in the cache
        if not (decode and self.has_variable("cache", "decoder")):
            places = text_positions(source, source_segments, self.context_length, "source")
            x = self._embedded(source_embed, source, places, "source_positions", train)
            memory = encoder(x, mask=source_mask if segments is None else segment_mask(source_segments), train=train)
        if positions is None:
            positions = text_positions(target, segments, self.context_length, "target")
        x = self._embedded(embed, target, positions, "target_positions", train)
        memory_mask = source_mask
        if segments is not None:
            mask, memory_mask = segment_mask(segments), segment_mask(segments, source_segments)
        x = decoder(x, memory, mask=mask, memory_mask=memory_mask, decode=decode, train=train)

        x = x[:, -1] if decode else x
        logits = token_logits(x, embed, tied=self.tied_head)
        if self.logits_bias:
            bias = self.variable("constants", "logits_bias", jnp.zeros, (self.vocab_size,), logits.dtype)
            logits = logits + bias.value
        return logits

    @property
    def _unit(self) -> nn.initializers.Initializer:
        """Initialises vectors of length 1: multiplied by √width, or with normalised features, they have size 1."""
        return nn.initializers.normal(self.width**-0.5)

    def _embedded(self, embed: nn.Embed, tokens: jax.Array, positions: jax.Array, name: str, train: bool) -> jax.Array:
        x = looked_up(tokens, embed, self.pad_token)
        if self.scaled_embedding:
            x = x * jnp.asarray(self.width**0.5, x.dtype)
        if self.positions == "learned":
            x = x + learned(self.context_length, self.width, dtype=self.dtype, name=name, init=self._unit)(positions)
        else:
            x = x + sinusoidal(positions, self.width, interleaved=self.positions == "sinusoidal").astype(x.dtype)
        return nn.Dropout(self.dropout, deterministic=not train)(x)


SIZES = {  # name: width, heads, MLP width, dropout
    "base": (512, 8, 2048, 0.1),
    "big": (1024, 16, 4096, 0.3),
}
"""Vaswani et al. (2017), table 3; each has six blocks."""


def translation(size: str = "base", *, vocab_size: int = 37000, **fields: Any) -> Transformer:
    """The Transformer in a size of the paper, with the paper's joint vocabulary by default; `fields` override its
    fields.

    >>> translation("big").num_heads
    16

    Raises:
      RequestError: the size is unknown.
    """
    check_size("Transformer", size, SIZES)
    width, num_heads, mlp_width, dropout = SIZES[size]
    sizes = {"width": width, "num_heads": num_heads, "mlp_width": mlp_width, "dropout": dropout}
    return Transformer(vocab_size, **sizes | fields)
