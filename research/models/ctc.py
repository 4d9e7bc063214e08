"""Speech recognition without a decoder: each vector of the encoder gives logits over the tokens and a blank (CTC).

Graves et al. (2006).  The loss and the decoding of logits into a text are in `research/losses/ctc.py`.
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
from research.layers.stack import Remat
from research.layers.transformer import TENSOR_RULES
from research.models.model import Model
from research.models.whisper import SpeechEncoder


class CTC(Model):
    """Maps features [batch, frames, mels] to logits [batch, length, vocab_size] by Whisper's encoder and a linear head.

    >>> model = CTC(vocab_size=30, mels=8, width=16, depth=1, num_heads=2, audio_length=10)
    >>> features = jnp.zeros((2, 20, 8))
    >>> (logits, mask), variables = jax.eval_shape(model.init_with_output, jax.random.key(0), features, None)
    >>> logits.shape
    (2, 10, 30)

    Attributes:
      vocab_size: the number of tokens, including the blank.
      mels, width, depth, num_heads, mlp_width, activation, strides, audio_length: as in `SpeechEncoder`.
      dropout, attention_dropout, activation_dropout, kernel, scan_layers, remat, dtype: as there.
    """

    tensor_rules = TENSOR_RULES

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
    remat: Remat = False
    dtype: DType = "float32"

    def check(self) -> None:
        super().check()
        check_counts(self, "vocab_size")
        like(self, SpeechEncoder, parent=None).check()

    @nn.compact
    def __call__(
        self, features: jax.Array, features_mask: jax.Array | None, *, train: bool = False
    ) -> tuple[jax.Array, jax.Array]:
        """Returns logits [batch, length, vocab_size] in at least float32, and a mask [batch, length], False on padding.

        Args:
          features: [batch, frames, mels]; `length` is `frames` divided by both `strides`, rounded up.
          features_mask: [batch, frames] bool, False on padding; None means no padding.
          train: apply dropout.

        Raises:
          RequestError: more frames than positions, or a number of features per frame other than `mels`.
        """
        x, mask = like(self, SpeechEncoder, name="encoder")(features, features_mask, train=train)
        logits = untied_logits(x, self.vocab_size, name="head", use_bias=True)
        return logits, jnp.ones(x.shape[:2], bool) if mask is None else mask
