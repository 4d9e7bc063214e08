"""ConvNeXt: a ResNet modernised step by step until it matches Swin Transformers (Liu et al., 2022)."""

from __future__ import annotations

import math
from typing import Any

import jax
from flax import linen as nn

from research.config.checks import (
    check_counts,
    check_depths,
    check_factors,
    check_images,
    check_rates,
    check_size,
    check_stages,
)
from research.layers.activations import Activation, activation
from research.layers.conv import conv
from research.layers.dense import dense
from research.layers.dtypes import DType, param_dtype
from research.layers.fields import Fields, fields
from research.layers.norms import layer_norm
from research.layers.stochastic_depth import StochasticDepth, linear_rates
from research.models.model import Model

INIT = nn.initializers.truncated_normal(0.02)


class ConvNeXt(Model):
    """Maps images [batch, height, width, channels] to logits [batch, classes].

    >>> model = ConvNeXt(depths=(1, 1), widths=(8, 16), strides=(1, 2), classes=10)
    >>> logits, variables = jax.eval_shape(model.init_with_output, jax.random.key(0), jnp.zeros((4, 32, 32, 3)))
    >>> logits.shape
    (4, 10)

    Attributes:
      depths: the number of blocks in each stage.
      widths: the channels of each stage.
      strides: the factor by which each stage reduces height and width.
      classes: the number of logits.
      patch_size: the side of the stem's patches, in pixels.
      kernel_size: the side of the depthwise kernels.
      expansion: the hidden width of a block, as a multiple of its width.
      activation: of the blocks' MLPs.
      layer_scale: the initial value of a learned scale per channel on every block's branch; None leaves it out.
      drop_path: the stochastic depth rate of the last block; earlier blocks have proportionally lower rates.
      dropout: the dropout rate before the head.
      epsilon: of every layer norm.
      head_epsilon: of the layer norm before the head; None means `epsilon`.
      dtype: of the computation; parameters have at least float32.
    """

    depths: tuple[int, ...] = (3, 3, 9, 3)
    widths: tuple[int, ...] = (96, 192, 384, 768)
    strides: tuple[int, ...] = (1, 2, 2, 2)
    classes: int = 1000
    patch_size: int = 4
    kernel_size: int = 7
    expansion: int = 4
    activation: Activation = "gelu"
    layer_scale: float | None = 1e-6
    drop_path: float = 0.0
    dropout: float = 0.0
    epsilon: float = 1e-6
    head_epsilon: float | None = None
    dtype: DType = "float32"

    def check(self) -> None:
        super().check()
        check_stages(self, "widths", "strides")
        check_counts(self, "widths", "strides", "classes", "patch_size", "kernel_size", "expansion")
        check_depths(self, "depths")
        check_rates(self, "drop_path", "dropout")
        check_factors(self, "epsilon", "head_epsilon")

    @nn.compact
    def __call__(
        self, x: jax.Array, *, train: bool = False, features: bool = False
    ) -> jax.Array | dict[str, jax.Array]:
        """Returns logits; with `features`, the maps {"stem": ..., "stage0": ..., ...} instead, for detectors."""
        asked = f"ConvNeXt with patch_size={self.patch_size} and strides={self.strides}"
        check_images(x, asked, least=self.patch_size * math.prod(self.strides))
        norm = {"dtype": self.dtype, "epsilon": self.epsilon}
        maps = {}
        x = self._patches(self.widths[0], self.patch_size, "stem_conv")(x)
        x = maps["stem"] = layer_norm(name="stem_norm", **norm)(x)

        rates = iter(linear_rates(self.drop_path, sum(self.depths)))
        for i, (depth, width, stride) in enumerate(zip(self.depths, self.widths, self.strides, strict=True)):
            if stride > 1 or x.shape[-1] != width:
                x = layer_norm(name=f"stage{i}_norm", **norm)(x)
                x = self._patches(width, stride, f"stage{i}_conv")(x)
            for j in range(depth):
                x = Block(fields(self), next(rates), name=f"stage{i}_block{j}")(x, train=train)
            maps[f"stage{i}"] = x

        for name, value in maps.items():
            self.sow("intermediates", name, value)
        if features:
            return maps
        epsilon = self.epsilon if self.head_epsilon is None else self.head_epsilon
        x = layer_norm(dtype=self.dtype, epsilon=epsilon, name="norm")(x.mean((1, 2)))
        self.sow("intermediates", "pooled", x)
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return dense(self.classes, dtype=self.dtype, init=INIT, name="head")(x).astype(param_dtype(self.dtype))

    def _patches(self, width: int, size: int, name: str) -> nn.Conv:
        """Makes a layer that projects each patch; patches do not overlap."""
        return conv(
            width, size, stride=size, padding="valid", use_bias=True, dtype=self.dtype, kernel_init=INIT, name=name
        )


class Block(nn.Module):
    """x + γ MLP(LayerNorm(depthwise convolution of x)): a Transformer block whose token mixing is local."""

    spec: Fields
    drop: float

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        spec, width = self.spec, x.shape[-1]
        y = conv(
            width,
            spec.kernel_size,
            groups=width,
            use_bias=True,
            dtype=spec.dtype,
            kernel_init=INIT,
            name="depthwise_conv",
        )(x)
        y = layer_norm(dtype=spec.dtype, epsilon=spec.epsilon, name="norm")(y)
        y = activation(spec.activation)(dense(spec.expansion * width, dtype=spec.dtype, init=INIT, name="up")(y))
        y = dense(width, dtype=spec.dtype, init=INIT, name="down")(y)
        if spec.layer_scale is not None:
            init = nn.initializers.constant(spec.layer_scale)
            y = y * self.param("layer_scale", init, (width,), param_dtype(spec.dtype)).astype(y.dtype)
        return x + StochasticDepth(self.drop)(y, train=train)


SIZES = {  # depths, widths, parameters with 1000 classes
    "tiny": ((3, 3, 9, 3), (96, 192, 384, 768), 28_589_128),
    "small": ((3, 3, 27, 3), (96, 192, 384, 768), 50_223_688),
    "base": ((3, 3, 27, 3), (128, 256, 512, 1024), 88_591_464),
    "large": ((3, 3, 27, 3), (192, 384, 768, 1536), 197_767_336),
}
"""Liu et al. (2022), section 3."""


def convnext(size: str = "tiny", **fields: Any) -> ConvNeXt:
    """ConvNeXt-T, S, B or L, by the names "tiny", "small", "base" and "large"; `fields` override its fields.

    >>> convnext("tiny").widths
    (96, 192, 384, 768)

    Raises:
      RequestError: the size is unknown.
    """
    check_size("ConvNeXt", size, SIZES)
    depths, widths, _ = SIZES[size]
    return ConvNeXt(**{"depths": depths, "widths": widths} | fields)
