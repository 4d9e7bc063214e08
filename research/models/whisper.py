"""Whisper: a Transformer that reads log-mel features of speech and writes its text (Radford et al., 2022)."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from research.config.checks import check_counts, check_rates
from research.errors import RequestError, TooLong, nearest, require
from research.layers.activations import Activation
from research.layers.attention_kernels import Kernel
from research.layers.dtypes import DType, param_dtype
from research.layers.embeddings import looked_up, tied_logits, token_embedding, untied_logits
from research.layers.fields import like
from research.layers.positions import learned, sinusoidal, text_positions
from research.layers.transformer import TransformerStack, check_stack, decoder_sizes, encoder_sizes
from research.models.encoder_decoder import EncoderDecoder
from research.models.model import Model

BLOCKS = {"norm": "pre", "final_norm": True, "key_bias": False}
"""Options of the blocks in encoder and decoder; keys have no bias, since attention weights do not depend on one."""


class SpeechEncoder(Model):
    """Features [batch, frames, mels] to vectors [batch, shorter length, width]: two convolutions, then a Transformer.

    Attributes:
      mels: features of a frame.
      width: features of what comes out.
      depth: blocks.
      num_heads: attention heads, a divisor of `width`.
      mlp_width: hidden features of a block's MLP; None is 4 `width`.
      activation: of the MLPs; the convolutions have the exact GELU.
      strides: of the two convolutions: their product is how many frames become one vector.
      audio_length: vectors that there may be; longer audio is refused, and cutting it into pieces is the caller's.
      dropout: of the sum of features and positions, and of what each part of a block adds.
      attention_dropout: of attention weights.
      activation_dropout: of an MLP's hidden features.
      kernel: of attention; see `research.layers.attention_kernels`.
      scan_layers: one compiled block and stacked parameters `blocks`, instead of `block0`, `block1`, ...
      remat: recompute inner values in the backward pass.
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
    remat: bool = False
    dtype: DType = "float32"

    def check(self) -> None:
        super().check()
        check_counts(self, "mels", "width", "depth", "num_heads", "mlp_width", "audio_length", "strides")
        check_rates(self, "dropout", "attention_dropout", "activation_dropout")
        check_stack(self, encoder_sizes(self))
        if self.width % 2 or self.width < 4:
            raise RequestError(f"width={self.width}: expected an even number, at least 4, for sinusoidal positions")

    @nn.compact
    def __call__(
        self, features: jax.Array, features_mask: jax.Array | None, *, train: bool = False
    ) -> tuple[jax.Array, jax.Array | None]:
        """([batch, length, width], [batch, length] bool or None): the vectors, and which of them are not padding.

        Args:
          features: [batch, frames, mels].
          features_mask: [batch, frames] bool, False on padding, which changes nothing; None is no padding.
          train: whether to drop.

        Raises:
          RequestError: other than `mels` features in a frame, or more vectors than `audio_length`.
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
        # Kept and not computed, since published weights hold them; not trained, as they were not.
        table = self.variable("constants", "positions", self._sinusoids).value
        x = nn.Dropout(self.dropout, deterministic=not train)(x + table[:length].astype(x.dtype))
        blocks = like(self, TransformerStack, **encoder_sizes(self), **BLOCKS, name="transformer")
        return blocks(x, mask=mask, train=train), mask

    @nn.nowrap
    def _sinusoids(self) -> jax.Array:
        table = sinusoidal(jnp.arange(self.audio_length), self.width, interleaved=False, shift=1)
        return table.astype(param_dtype(self.dtype))


class Whisper(EncoderDecoder):
    """Features [batch, frames, mels] and tokens so far [batch, length] to the logits of the tokens that follow.

    Attributes:
      vocab_size: tokens that there are.
      context_length: tokens of a text.
      mels, width, depth, num_heads, mlp_width, activation, strides, audio_length, dropout, attention_dropout,
      activation_dropout, kernel, scan_layers, remat: as in `SpeechEncoder`, most of them for the decoder too.
      decoder_depth: blocks of the decoder; None is `depth`.
      decoder_num_heads: attention heads of the decoder; None is `num_heads`.
      decoder_mlp_width: hidden features of a decoder block's MLP; None is as in the encoder.
      tied_head: whether the logits use the embedding table.
      pad_token: a token whose embedding is not trained but as a row of a tied head; None: there is none.
    """

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
    remat: bool = False
    dtype: DType = "float32"

    def check(self) -> None:
        super().check()
        like(self, SpeechEncoder, parent=None).check()
        check_counts(self, "vocab_size", "context_length", "decoder_depth", "decoder_num_heads", "decoder_mlp_width")
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
        """Logits [batch, length, vocab_size], in float32 at least.

        Args:
          features: [batch, frames, mels].
          features_mask: [batch, frames] bool, False on padding; None is no padding, as Whisper was trained.
          target: [batch, length] integers, from the token that starts a text: logits i are of what follows token i.
            Padding behind a target needs no mask.
          positions: [batch, length] of the target; None counts from 0.
          mask: [batch, length] bool, False on padding of the target.
          decode: see the method of that name.
          train: whether to drop.

        Raises:
          RequestError: more frames or tokens than there are positions, or other than `mels` features in a frame.
        """
        encoder = like(self, SpeechEncoder, name="encoder")
        memory, memory_mask = None, None if features_mask is None else features_mask[:, :: math.prod(self.strides)]
        if not (decode and self.has_variable("cache", "decoder")):  # later, its keys and values are in the cache
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
        return tied_logits(x, embed) if self.tied_head else untied_logits(x, self.vocab_size, name="head")


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
"""Radford et al. (2022), table 1, with the multilingual vocabulary of 51,865 tokens; large-v2 is as large as large."""


def whisper(size: str = "tiny", **fields: Any) -> Whisper:
    """Whisper in one of its published `SIZES`; `fields` change it.

    Raises:
      RequestError: there is no such size.
    """
    if size not in SIZES:
        raise RequestError(f"size={size!r}: no such Whisper; {nearest(size, SIZES)}")
    return Whisper(**{"vocab_size": 51865} | SIZES[size] | fields)
