"""Whisper: a Transformer from log-mel features of speech to text (Radford et al., 2022)."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from research.config.checks import check_counts, check_depths, check_rates, check_size
from research.errors import RequestError, TooLong, require
from research.layers.activations import Activation
from research.layers.attention_kernels import Kernel
from research.layers.dtypes import DType, param_dtype
from research.layers.embeddings import looked_up, token_embedding, token_logits
from research.layers.fields import like
from research.layers.positions import learned, sinusoidal, text_positions
from research.layers.stack import Remat
from research.layers.transformer import (
    TENSOR_RULES,
    VOCABULARY_RULES,
    TransformerStack,
    check_stack,
    decoder_sizes,
    encoder_sizes,
)
from research.models.encoder_decoder import EncoderDecoder
from research.models.model import Model

BLOCKS = {"norm": "pre", "final_norm": True, "key_bias": False}
"""Options of the encoder's and decoder's blocks; keys have no bias, since attention weights do not depend on it."""


class SpeechEncoder(Model):
    """Encodes features [batch, frames, mels] as vectors [batch, length, width]: two convolutions, then a Transformer.

    >>> model = SpeechEncoder(mels=8, width=16, depth=1, num_heads=2, audio_length=10)
    >>> features = jnp.zeros((2, 20, 8))
    >>> (vectors, mask), variables = jax.eval_shape(model.init_with_output, jax.random.key(0), features, None)
    >>> vectors.shape
    (2, 10, 16)

    Attributes:
      mels: the features of a frame.
      width: the features of an encoded vector.
      depth: the number of blocks.
      num_heads: the number of attention heads, a divisor of `width`.
      mlp_width: the hidden features of each MLP; None means 4 `width`.
      activation: of the MLPs; the convolutions use the exact GELU.
      strides: of the two convolutions; their product is the number of frames per vector.
      audio_length: the maximum number of vectors; longer audio is refused, so the caller must cut it.
      dropout: the dropout rate on features plus positions, and on the output of each part of a block.
      attention_dropout: the dropout rate on attention weights.
      activation_dropout: the dropout rate on hidden features of the MLPs.
      kernel: of attention; see `research.layers.attention_kernels`.
      scan_layers: compile one block with stacked parameters `blocks`, instead of `block0`, `block1`, ...
      remat: the parts of a block that the backward pass recomputes; see `research.layers.stack.Remat`.
      dtype: of the computation; parameters have at least float32.
    """

    mels: int = 80
    width: int = 384
    depth: int = 4
    num_heads: int = 6
    mlp_width: int | None = None
    activation: Activation = "gelu"
    strides: tuple[int, int] = (1, 2)
    audio_length: int = 1500
    dropout: float = 0.0
    attention_dropout: float = 0.0
    activation_dropout: float = 0.0
    kernel: Kernel = "auto"
    scan_layers: bool = False
    remat: Remat = False
    dtype: DType = "float32"

    def check(self) -> None:
        super().check()
        check_counts(self, "mels", "width", "num_heads", "mlp_width", "audio_length", "strides")
        check_depths(self, "depth")
        check_rates(self, "dropout", "attention_dropout", "activation_dropout")
        check_stack(self, encoder_sizes(self))
        if self.width % 2 or self.width < 4:
            raise RequestError(f"width={self.width}: expected an even number, at least 4, for sinusoidal positions")

    @nn.compact
    def __call__(
        self, features: jax.Array, features_mask: jax.Array | None, *, train: bool = False
    ) -> tuple[jax.Array, jax.Array | None]:
        """Returns vectors [batch, length, width] and their mask [batch, length] bool (or None), False on padding.

        Args:
          features: [batch, frames, mels].
          features_mask: [batch, frames] bool, False on padding, which has no influence; None means no padding.
          train: apply dropout.

        Raises:
          RequestError: a number of features per frame other than `mels`, or more vectors than `audio_length`.
        """
        frames, mels = features.shape[1:]
        require(mels == self.mels, f"features: {mels} in a frame, expected mels={self.mels}")
        x, mask = features.astype(self.dtype), features_mask
        for i, stride in enumerate(self.strides):
            x = x if mask is None else jnp.where(mask[..., None], x, 0)
            conv = nn.Conv(
                self.width,
                (3,),
                strides=stride,
                padding=1,
                dtype=self.dtype,
                param_dtype=param_dtype(self.dtype),
                name=f"conv{i}",
            )
            x = nn.gelu(conv(x), approximate=False)
            mask = None if mask is None else mask[:, ::stride]

        length = x.shape[1]
        most = self.audio_length * math.prod(self.strides)
        if length > self.audio_length:
            raise TooLong("features", frames, "frames", f"{most} for audio_length={self.audio_length} vectors")
        # A variable, since published weights contain the table; a constant, since Whisper did not train it.
        table = self.variable("constants", "positions", self._sinusoids).value
        x = nn.Dropout(self.dropout, deterministic=not train)(x + table[:length].astype(x.dtype))
        blocks = like(self, TransformerStack, **encoder_sizes(self), **BLOCKS, name="transformer")
        return blocks(x, mask=mask, train=train), mask

    @nn.nowrap
    def _sinusoids(self) -> jax.Array:
        table = sinusoidal(jnp.arange(self.audio_length), self.width, interleaved=False, shift=1)
        return table.astype(param_dtype(self.dtype))


class Whisper(EncoderDecoder):
    """Maps features [batch, frames, mels] and a target [batch, length] to logits of the target's next tokens.

    >>> model = Whisper(vocab_size=11, mels=8, width=16, depth=1, num_heads=2, audio_length=10)
    >>> features, target = jnp.zeros((2, 20, 8)), jnp.zeros((2, 3), int)
    >>> logits, variables = jax.eval_shape(model.init_with_output, jax.random.key(0), features, None, target)
    >>> logits.shape
    (2, 3, 11)

    Attributes:
      vocab_size: the number of tokens.
      context_length: the maximum number of tokens of a text.
      mels, width, depth, num_heads, mlp_width, activation, strides, audio_length: as in `SpeechEncoder`.
      dropout, attention_dropout, activation_dropout, kernel, scan_layers, remat, dtype: as there; most also apply to
        the decoder.
      decoder_depth: the number of decoder blocks; None means `depth`.
      decoder_num_heads: the number of attention heads of the decoder; None means `num_heads`.
      decoder_mlp_width: the hidden features of the decoder's MLPs; None means the encoder's.
      tied_head: compute logits with the embedding table.
      pad_token: a token whose embedding is trained only as a row of a tied head; None if there is none.
    """

    tensor_rules = TENSOR_RULES + VOCABULARY_RULES

    vocab_size: int
    context_length: int = 448
    mels: int = 80
    width: int = 384
    depth: int = 4
    decoder_depth: int | None = None
    num_heads: int = 6
    decoder_num_heads: int | None = None
    mlp_width: int | None = None
    decoder_mlp_width: int | None = None
    activation: Activation = "gelu"
    strides: tuple[int, int] = (1, 2)
    audio_length: int = 1500
    tied_head: bool = True
    pad_token: int | None = None
    dropout: float = 0.0
    attention_dropout: float = 0.0
    activation_dropout: float = 0.0
    kernel: Kernel = "auto"
    scan_layers: bool = False
    remat: Remat = False
    dtype: DType = "float32"

    def check(self) -> None:
        super().check()
        like(self, SpeechEncoder, parent=None).check()
        check_counts(self, "vocab_size", "context_length", "decoder_num_heads", "decoder_mlp_width")
        check_depths(self, "decoder_depth")
        check_stack(self, decoder_sizes(self), num_heads="decoder_num_heads")

    @nn.compact
    def __call__(
        self,
        features: jax.Array,
        features_mask: jax.Array | None,
        target: jax.Array,
        *,
        positions: jax.Array | None = None,
        mask: jax.Array | None = None,
        decode: bool = False,
        train: bool = False,
    ) -> jax.Array:
        """Returns logits [batch, length, vocab_size], in at least float32.

        Args:
          features: [batch, frames, mels].
          features_mask: [batch, frames] bool, False on padding; None means no padding, as in Whisper's training.
          target: [batch, length] integers, starting with the start token; logits i predict the token after token i.
            Padding at the end of a target needs no mask.
          positions: [batch, length] of the target; None counts from 0.
          mask: [batch, length] bool, False on padding of the target.
          decode: see the method `decode`.
          train: apply dropout.

        Raises:
          RequestError: more frames or tokens than positions, or a number of features per frame other than `mels`.
        """
        encoder = like(self, SpeechEncoder, name="encoder")
        memory, memory_mask = None, None if features_mask is None else features_mask[:, :: math.prod(self.strides)]
        if not (decode and self.has_variable("cache", "decoder")):  # after the first call, the cache has its keys
            memory, memory_mask = encoder(features, features_mask, train=train)

        if positions is None:
            positions = text_positions(target, None, self.context_length, "target")
        embed = token_embedding(self.vocab_size, self.width, dtype=self.dtype, name="token_embedding")
        table = learned(self.context_length, self.width, dtype=self.dtype, name="position_embedding")
        x = nn.Dropout(self.dropout, deterministic=not train)(
            looked_up(target, embed, self.pad_token) + table(positions)
        )
        decoder = like(self, TransformerStack, **decoder_sizes(self), decoder=True, **BLOCKS, name="decoder")
        x = decoder(x, memory, mask=mask, memory_mask=memory_mask, decode=decode, train=train)
        x = x[:, -1] if decode else x
        return token_logits(x, embed, tied=self.tied_head)


SIZES: dict[str, dict[str, Any]] = {
    "tiny": {"width": 384, "depth": 4, "num_heads": 6},
    "base": {"width": 512, "depth": 6, "num_heads": 8},
    "small": {"width": 768, "depth": 12, "num_heads": 12},
    "medium": {"width": 1024, "depth": 24, "num_heads": 16},
    "large": {"width": 1280, "depth": 32, "num_heads": 20},
    "large-v3": {"width": 1280, "depth": 32, "num_heads": 20, "mels": 128, "vocab_size": 51866},
    "large-v3-turbo": {
        "width": 1280, "depth": 32, "num_heads": 20, "decoder_depth": 4, "mels": 128, "vocab_size": 51866,
    },
}  # fmt: skip
"""Radford et al. (2022), table 1, with the multilingual vocabulary of 51,865 tokens; large-v2 has the size of large."""


def whisper(size: str = "tiny", **fields: Any) -> Whisper:
    """Whisper in one of its published `SIZES`; `fields` override its fields.

    >>> whisper("base").depth
    6

    Raises:
      RequestError: the size is unknown.
    """
    check_size("Whisper", size, SIZES)
    return Whisper(**{"vocab_size": 51865} | SIZES[size] | fields)
