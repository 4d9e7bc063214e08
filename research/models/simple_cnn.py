"""The textbook CNN: convolution, activation and pooling, repeated, then dense layers (LeCun et al., 1998)."""

from __future__ import annotations

from typing import Literal

import jax
from flax import linen as nn

from research.config.checks import check_counts, check_images, check_rates
from research.layers.activations import Activation, activation
from research.layers.conv import conv
from research.layers.dense import dense
from research.layers.dtypes import DType, param_dtype
from research.layers.norms import batch_norm
from research.layers.pooling import max_pool
from research.models.model import Model


class SimpleCNN(Model):
    """Maps images [batch, height, width, channels] to logits [batch, classes].

    >>> model = SimpleCNN(classes=10, channels=(8, 16), hidden=(32,))
    >>> logits, variables = jax.eval_shape(model.init_with_output, jax.random.key(0), jnp.zeros((4, 8, 8, 1)))
    >>> logits.shape
    (4, 10)

    Attributes:
      classes: the number of logits.
      channels: the output channels of each convolution; an activation and 2×2 pooling follow each.
      kernel_size: the side of every convolution kernel, in pixels.
      hidden: the widths of the dense layers between the feature maps and the logits.
      activation: after every convolution and hidden dense layer.
      pool: how 2×2 pixels become one: "max", "average", or "stride" (a stride of 2 in the convolution); "none" keeps
        all.
      readout: the input of the dense layers: "flatten" for all pixels of all channels, "average" for channel means.
      norm: batch norm or none after each convolution.
      dropout: the dropout rate before each dense layer.
      dtype: of the computation; parameters have at least float32.
    """

    classes: int = 10
    channels: tuple[int, ...] = (32, 64)
    kernel_size: int = 3
    hidden: tuple[int, ...] = (128,)
    activation: Activation = "relu"
    pool: Literal["max", "average", "stride", "none"] = "max"
    readout: Literal["flatten", "average"] = "flatten"
    norm: Literal["none", "batch"] = "none"
    dropout: float = 0.0
    dtype: DType = "float32"

    def check(self) -> None:
        super().check()
        check_counts(self, "classes", "channels", "kernel_size", "hidden")
        check_rates(self, "dropout")

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        halvings = len(self.channels) if self.pool in ("max", "average") else 0  # strides round up
        check_images(x, f"SimpleCNN with channels={self.channels} and pool={self.pool!r}", least=2**halvings)
        act = activation(self.activation)
        for i, channels in enumerate(self.channels):
            stride = 2 if self.pool == "stride" else 1
            use_bias = self.norm == "none"
            x = conv(channels, self.kernel_size, stride=stride, use_bias=use_bias, dtype=self.dtype, name=f"conv{i}")(x)
            if self.norm == "batch":
                x = batch_norm(train, dtype=self.dtype, name=f"norm{i}")(x)
            x = act(x)
            self.sow("intermediates", f"conv{i}_out", x)
            if self.pool == "max":
                x = max_pool(x)
            elif self.pool == "average":
                x = nn.avg_pool(x, (2, 2), strides=(2, 2))

        x = x.reshape(len(x), -1) if self.readout == "flatten" else x.mean((1, 2))
        for i, width in enumerate(self.hidden):
            x = nn.Dropout(self.dropout, deterministic=not train)(x)
            x = act(dense(width, dtype=self.dtype, name=f"dense{i}")(x))
            self.sow("intermediates", f"dense{i}_out", x)
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return dense(self.classes, dtype=self.dtype, name="head")(x).astype(param_dtype(self.dtype))
