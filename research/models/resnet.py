"""ResNet: blocks learn a residual that is added to their input (He et al., 2016a); also with preactivation (2016b)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from research.config.checks import (
    check_counts,
    check_depths,
    check_factors,
    check_images,
    check_rates,
    check_shares,
    check_stages,
)
from research.config.types import conform
from research.errors import RequestError, nearest
from research.layers.activations import Activation, activation
from research.layers.conv import conv
from research.layers.dense import dense
from research.layers.dtypes import DType, param_dtype
from research.layers.fields import Fields, fields
from research.layers.norms import FrozenBatchNorm, batch_norm
from research.layers.pooling import max_pool
from research.layers.stochastic_depth import StochasticDepth, linear_rates
from research.models.model import Model


class ResNet(Model):
    """Maps images [batch, height, width, channels] to logits [batch, classes].

    >>> model = cifar_resnet(8)
    >>> logits, variables = jax.eval_shape(model.init_with_output, jax.random.key(0), jnp.zeros((4, 32, 32, 3)))
    >>> logits.shape
    (4, 10)

    Attributes:
      depths: the number of blocks in each stage.
      widths: the output channels of each stage; a bottleneck block has a quarter of them inside.
      classes: the number of logits.
      block: "basic" for two 3×3 convolutions; "bottleneck" for 1×1, 3×3, 1×1 (ResNet-50 and deeper).
      stem: "imagenet" for a 7×7 convolution at stride 2 and max pooling, which keep 1/16 of the pixels; "cifar" for a
        3×3 convolution, which keeps all.
      stem_width: the channels of the stem.
      strides: the stride of the first block of each stage.
      dilations: the dilation of the 3×3 convolutions of each stage, whose first block has that of the stage before;
        None means 1.  A stage with stride 1 instead of 2 and dilation 2 keeps the map's size (DC5).
      bottleneck_stride: the convolution of a bottleneck that is strided: "3x3" (usual since Goyal et al., 2017), or
        "1x1", the first one, as in the paper.
      shortcut: where a block changes the shape, its shortcut is a 1×1 convolution ("projection", option B) or strides
        and pads with zeros ("pad", option A, no parameters); "none" removes every shortcut, which gives the plain
        network.
      preactivation: norm and activation come before each convolution instead of after it (2016b).
      norm: batch norm, group norm or none, one layer per convolution; "frozen" is the batch norm of a trained network
        as a fixed scale and shift, for detectors.
      activation: after the stem and after each sum.
      inner_activation: between the convolutions of a block; None means `activation`.
      stochastic_depth: the rate at which training drops the last block; earlier blocks have proportionally lower rates.
      dropout: the dropout rate before the head.
      zero_init: start each block as the identity by initialising its last norm scale to 0 (Goyal et al., 2017).
      momentum: the fraction of the old running statistic that batch norm keeps at each step.
      epsilon: of the norms.
      dtype: of the computation; parameters have at least float32.
    """

    depths: tuple[int, ...] = (2, 2, 2, 2)
    widths: tuple[int, ...] = (64, 128, 256, 512)
    classes: int = 1000
    block: Literal["basic", "bottleneck"] = "basic"
    stem: Literal["imagenet", "cifar"] = "imagenet"
    stem_width: int = 64
    strides: tuple[int, ...] = (1, 2, 2, 2)
    dilations: tuple[int, ...] | None = None
    bottleneck_stride: Literal["3x3", "1x1"] = "3x3"
    shortcut: Literal["projection", "pad", "none"] = "projection"
    preactivation: bool = False
    norm: Literal["batch", "frozen", "group", "none"] = "batch"
    activation: Activation = "relu"
    inner_activation: Activation | None = None
    stochastic_depth: float = 0.0
    dropout: float = 0.0
    zero_init: bool = False
    momentum: float = 0.9
    epsilon: float = 1e-5
    dtype: DType = "float32"

    def check(self) -> None:
        super().check()
        check_stages(self, "widths", "strides", *(() if self.dilations is None else ("dilations",)))
        check_counts(self, "widths", "strides", "dilations", "classes", "stem_width")
        check_depths(self, "depths")
        if self.block == "bottleneck" and any(width < 4 for width in self.widths):
            raise RequestError(f"widths={self.widths}: expected at least 4, since a bottleneck has a quarter inside")
        check_rates(self, "stochastic_depth", "dropout")
        check_shares(self, "momentum")
        check_factors(self, "epsilon")

    @nn.compact
    def __call__(
        self, x: jax.Array, *, train: bool = False, features: bool = False
    ) -> jax.Array | dict[str, jax.Array]:
        """Returns logits; with `features`, the maps {"stem": ..., "stage0": ..., ...} instead, for detectors."""
        check_images(x, "ResNet")
        act = activation(self.activation)
        maps = {}

        if self.stem == "imagenet":
            x = conv(self.stem_width, 7, stride=2, use_bias=self.norm == "none", dtype=self.dtype, name="stem_conv")(x)
        else:
            x = conv(self.stem_width, 3, use_bias=self.norm == "none", dtype=self.dtype, name="stem_conv")(x)
        if not self.preactivation:
            x = act(normalization(self, train, "stem_norm")(x))
        if self.stem == "imagenet":
            x = max_pool(x, 3, stride=2, padding=1)
        maps["stem"] = x

        rates = iter(linear_rates(self.stochastic_depth, sum(self.depths)))
        dilations = (1, *(self.dilations or (1,) * len(self.depths)))
        for i, (depth, width, stride) in enumerate(zip(self.depths, self.widths, self.strides, strict=True)):
            for j in range(depth):
                own = (width, stride, dilations[i]) if j == 0 else (width, 1, dilations[i + 1])
                block = Block(fields(self), *own, next(rates), name=f"stage{i}_block{j}")
                x = block(x, train=train)
            maps[f"stage{i}"] = x
        if self.preactivation:
            x = act(normalization(self, train, "norm")(x))

        for name, value in maps.items():
            self.sow("intermediates", name, value)
        if features:
            return maps
        x = x.mean((1, 2))
        self.sow("intermediates", "pooled", x)
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return dense(self.classes, dtype=self.dtype, name="head")(x).astype(param_dtype(self.dtype))


class Block(nn.Module):
    """x + F(x), where F is two or three convolutions; an activation follows the sum, except with preactivation."""

    spec: Fields
    width: int
    stride: int
    dilation: int
    drop: float

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        spec, width = self.spec, self.width
        inner = activation(spec.inner_activation or spec.activation)
        if spec.block == "basic":
            convolutions = [(width, 3, self.stride), (width, 3, 1)]
        else:
            first, second = (1, self.stride) if spec.bottleneck_stride == "3x3" else (self.stride, 1)
            convolutions = [(width // 4, 1, first), (width // 4, 3, second), (width, 1, 1)]
        last = len(convolutions) - 1

        shortcut = y = x
        for i, (channels, kernel_size, stride) in enumerate(convolutions):
            convolve = conv(
                channels,
                kernel_size,
                stride=stride,
                dilation=self.dilation if kernel_size == 3 else 1,
                use_bias=spec.norm == "none",
                dtype=spec.dtype,
                name=f"conv{i}",
            )
            if spec.preactivation:
                y = inner(normalization(spec, train, f"norm{i}")(y))
                if i == 0 and self._reshapes(x):
                    shortcut = y
                y = convolve(y)
            else:
                y = normalization(spec, train, f"norm{i}", zero=spec.zero_init and i == last)(convolve(y))
                y = inner(y) if i < last else y

        y = StochasticDepth(self.drop)(y, train=train)
        if spec.shortcut != "none":
            y = y + self._carried(shortcut, train)
        return y if spec.preactivation else activation(spec.activation)(y)

    def _reshapes(self, x: jax.Array) -> bool:
        return self.stride > 1 or x.shape[-1] != self.width

    def _carried(self, x: jax.Array, train: bool) -> jax.Array:
        """Brings the input to the shape of the sum."""
        spec = self.spec
        if not self._reshapes(x):
            return x
        if spec.shortcut == "pad":
            x = x[:, :: self.stride, :: self.stride, : self.width]
            return jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, self.width - x.shape[-1])))
        use_bias = spec.norm == "none"
        x = conv(self.width, 1, stride=self.stride, use_bias=use_bias, dtype=spec.dtype, name="shortcut_conv")(x)
        return x if spec.preactivation else normalization(spec, train, "shortcut_norm")(x)


def normalization(
    spec: Fields | ResNet, train: bool, name: str, *, zero: bool = False
) -> Callable[[jax.Array], jax.Array]:
    """Makes the layer that `spec.norm` names; `zero` initialises its scale to 0."""
    scale_init = nn.initializers.zeros if zero else nn.initializers.ones
    kwargs = {"epsilon": spec.epsilon, "dtype": spec.dtype, "scale_init": scale_init, "name": name}
    if spec.norm == "batch":
        return batch_norm(train, momentum=spec.momentum, **kwargs)
    if spec.norm == "frozen":
        return FrozenBatchNorm(epsilon=spec.epsilon, dtype=spec.dtype, name=name)
    if spec.norm == "group":  # 32 groups (Wu & He, 2018), or the largest divisor of both 32 and the channels
        return lambda x: nn.GroupNorm(math.gcd(32, x.shape[-1]), param_dtype=param_dtype(spec.dtype), **kwargs)(x)
    return lambda x: x


SIZES = {  # depths, block, parameters with 1000 classes
    18: ((2, 2, 2, 2), "basic", 11_689_512),
    34: ((3, 4, 6, 3), "basic", 21_797_672),
    50: ((3, 4, 6, 3), "bottleneck", 25_557_032),
    101: ((3, 4, 23, 3), "bottleneck", 44_549_160),
    152: ((3, 8, 36, 3), "bottleneck", 60_192_808),
}
"""He et al. (2016a), table 1."""


def resnet(layers: int = 50, **fields: Any) -> ResNet:
    """ResNet-18, 34, 50, 101 or 152; `fields` override its fields (`stem="cifar"` for small images).

    >>> resnet(18, classes=10, stem="cifar").depths
    (2, 2, 2, 2)

    Raises:
      RequestError: the paper has no such size.
    """
    layers = conform(layers, int, "layers")
    if layers not in SIZES:
        raise RequestError(f"layers={layers}: no such ResNet in the paper; {nearest(str(layers), SIZES)}")
    depths, block, _ = SIZES[layers]
    widths = (64, 128, 256, 512) if block == "basic" else (256, 512, 1024, 2048)
    return ResNet(**{"depths": depths, "block": block, "widths": widths} | fields)


def cifar_resnet(layers: int = 20, **fields: Any) -> ResNet:
    """The CIFAR-10 network of the paper's section 4.2 with 6n + 2 layers: 16, 32, 64 channels, option-A shortcuts.

    ResNet-20 has 0.27 million parameters, 32: 0.46, 44: 0.66, 56: 0.85, 110: 1.7.

    Raises:
      RequestError: `layers` is not 6n + 2.
    """
    layers = conform(layers, int, "layers")
    if layers < 8 or layers % 6 != 2:
        raise RequestError(f"layers={layers}: expected 6n + 2, such as 20, 32, 44, 56 or 110")
    base = {
        "depths": ((layers - 2) // 6,) * 3,
        "widths": (16, 32, 64),
        "strides": (1, 2, 2),
        "stem": "cifar",
        "stem_width": 16,
        "shortcut": "pad",
        "classes": 10,
    }
    return ResNet(**base | fields)
