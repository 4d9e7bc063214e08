"""Speech to text without a decoder: one distribution a vector of the encoder, over tokens and a blank (CTC).

Graves et al. (2006).  The loss and the ways to read a text off the logits are in `research/losses/ctc.py`.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import linen as nn

from research.config.checks import check_counts
from research.layers.activations import Activation
from research.layers.attention_kernels import Kernel
from research.layers.dtypes import DType
from research.layers.embeddings import untied_logits
from research.layers.fields import like
from research.models.model import Model
from research.models.whisper import SpeechEncoder


class CTC(Model):
    """Whisper's encoder under a linear head: features [batch, frames, mels] to logits [batch, length, vocab_size].

    Attributes:
      vocab_size: tokens that there are, the blank among them.
      mels, width, depth, num_heads, mlp_width, activation, strides, audio_length, dropout, attention_dropout,
      activation_dropout, kernel, scan_layers, remat: as in `SpeechEncoder`.
    """

    vocab_size: int
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
        check_counts(self, "vocab_size")
        like(self, SpeechEncoder, parent=None).check()

    @nn.compact
    def __call__(
        self, features: jax.Array, features_mask: jax.Array | None, *, train: bool = False
    ) -> tuple[jax.Array, jax.Array]:
        """(logits [batch, length, vocab_size] in float32 at least, [batch, length] bool: where they count).

        Args:
          features: [batch, frames, mels]; the length is `frames` divided by both `strides`, rounded up.
          features_mask: [batch, frames] bool, False on padding; None is no padding.
          train: whether to drop.

        Raises:
          RequestError: more frames than there are positions, or other than `mels` features in a frame.
        """
        x, mask = like(self, SpeechEncoder, name="encoder")(features, features_mask, train=train)
        logits = untied_logits(x, self.vocab_size, name="head", use_bias=True)
        return logits, jnp.ones(x.shape[:2], bool) if mask is None else mask
