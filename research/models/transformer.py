"""The Transformer that reads one sequence and writes another (Vaswani et al., 2017)."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from research.config.checks import check_counts, check_rates
from research.errors import RequestError, nearest
from research.layers.activations import Activation
from research.layers.attention_kernels import Kernel
from research.layers.dtypes import DType
from research.layers.embeddings import looked_up, tied_logits, token_embedding, untied_logits
from research.layers.fields import like
from research.layers.masks import segment_mask
from research.layers.positions import learned, sinusoidal, text_positions
from research.layers.transformer import NormPlacement, TransformerStack, check_stack, decoder_sizes, encoder_sizes
from research.models.encoder_decoder import EncoderDecoder

Positions = Literal["sinusoidal", "sinusoidal_halves", "learned"]


class Transformer(EncoderDecoder):
    """Source [batch, source length] and target so far [batch, length] to the logits of the target's next tokens.

    Attributes:
      vocab_size: tokens of the target, and of the source unless `source_vocab_size` says otherwise.
      source_vocab_size: tokens of the source where it has a vocabulary of its own; needs `shared_embedding=False`.
      context_length: tokens that a source or a target may have.
      width: features of a token.
      depth: blocks of the encoder.
      decoder_depth: blocks of the decoder; None is `depth`.
      num_heads: attention heads, a divisor of `width`.
      decoder_num_heads: those of the decoder; None is `num_heads`.
      mlp_width: hidden features of a block's MLP; None is 4 `width`.
      decoder_mlp_width: those of the decoder; None is `mlp_width`.
      norm: layer normalisation after each sum (the paper), or before attention and MLP.
      final_norm: whether encoder and decoder end with a normalisation; None: where `norm` is "pre".
      positions: sines and cosines in turn (the paper), all sines before all cosines (Marian), or learned tables.
      shared_embedding: whether source and target have one embedding table.
      scaled_embedding: whether embeddings are multiplied by √width.
      tied_head: whether the logits use the target's embedding table.
      pad_token: a token whose embedding is not trained but as a row of a tied head, as in Marian; None: there is none.
      logits_bias: a fixed bias of the logits, in the collection `constants` (Marian's published weights).
      dropout: of the sums of embeddings and positions, and of what each part of a block adds.
      attention_dropout: of attention weights.
      activation_dropout: of an MLP's hidden features.
      kernel: of attention; see `research.layers.attention_kernels`.
      scan_layers: one compiled block and stacked parameters `blocks`, instead of `block0`, `block1`, ...
      remat: recompute inner values in the backward pass.
    """

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
    remat: bool = False
    dtype: DType = "float32"

    def check(self) -> None:
        super().check()
        check_counts(self, "vocab_size", "source_vocab_size", "context_length", "width", "depth", "decoder_depth")
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
        """Logits [batch, length, vocab_size], in float32 at least.

        Args:
          source: [batch, source length] integers.
          source_mask: [batch, source length] bool, False on padding, which nothing looks at; None is no padding.
          target: [batch, length] integers, from the token that starts a target: logits i are of what follows token i.
            Padding behind a target needs no mask.
          positions: [batch, length] of the target; None counts from 0, in every segment anew.
          mask: [batch, length] bool, False on padding of the target.
          source_segments, segments: [batch, source length] and [batch, length] integers: the number of the pair, of
            several in a row, that a token belongs to; tokens see their own pair alone.
          decode: see the method of that name.
          train: whether to drop.

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

        memory = None  # once its keys and values are in the cache
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
        logits = tied_logits(x, embed) if self.tied_head else untied_logits(x, self.vocab_size, name="head")
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
"""Vaswani et al. (2017), table 3; six blocks each."""


def translation(size: str = "base", *, vocab_size: int = 37000, **fields: Any) -> Transformer:
    """The Transformer in a size of the paper, with its joint vocabulary; `fields` change it.

    Raises:
      RequestError: there is no such size.
    """
    if size not in SIZES:
        raise RequestError(f"size={size!r}: no such Transformer; {nearest(size, SIZES)}")
    width, num_heads, mlp_width, dropout = SIZES[size]
    sizes = {"width": width, "num_heads": num_heads, "mlp_width": mlp_width, "dropout": dropout}
    return Transformer(vocab_size, **sizes | fields)
