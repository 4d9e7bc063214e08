"""EfficientNet: scales depth, width and image size together (Tan & Le, 2019), with blocks of MobileNetV2 and V3."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Literal

import jax
from flax import linen as nn

from research.config.checks import (
    MOST_LAYERS,
    check_counts,
    check_factors,
    check_images,
    check_rates,
    check_shares,
    check_size,
    check_types,
)
from research.errors import RequestError, require
from research.layers.activations import Activation, activation
from research.layers.conv import conv
from research.layers.dense import dense
from research.layers.dtypes import DType, param_dtype
from research.layers.fields import Fields, fields
from research.layers.norms import batch_norm
from research.layers.stochastic_depth import StochasticDepth
from research.models.model import Model


@dataclasses.dataclass(frozen=True)
class Stage:
    """One row of the paper's table 1, before scaling.

    >>> stage = Stage(channels=16, repeats=1, kernel_size=3, stride=1, expansion=1)

    Attributes:
      channels: the output channels of the blocks.
      repeats: the number of blocks.
      kernel_size: the side of the depthwise kernels.
      stride: the stride of the first block.
      expansion: the width inside a block, as a multiple of its input channels.
    """

    channels: int
    repeats: int
    kernel_size: int
    stride: int
    expansion: int


B0_STAGES = (
    Stage(channels=16, repeats=1, kernel_size=3, stride=1, expansion=1),
    Stage(channels=24, repeats=2, kernel_size=3, stride=2, expansion=6),
    Stage(channels=40, repeats=2, kernel_size=5, stride=2, expansion=6),
    Stage(channels=80, repeats=3, kernel_size=3, stride=2, expansion=6),
    Stage(channels=112, repeats=3, kernel_size=5, stride=1, expansion=6),
    Stage(channels=192, repeats=4, kernel_size=5, stride=2, expansion=6),
    Stage(channels=320, repeats=1, kernel_size=3, stride=1, expansion=6),
)


class EfficientNet(Model):
    """Maps images [batch, height, width, channels] to logits [batch, classes].

    >>> stages = (Stage(channels=8, repeats=1, kernel_size=3, stride=2, expansion=4),)
    >>> model = EfficientNet(stages=stages, stem_channels=8, head_channels=16, classes=10)
    >>> logits, variables = jax.eval_shape(model.init_with_output, jax.random.key(0), jnp.zeros((4, 16, 16, 3)))
    >>> logits.shape
    (4, 10)

    Attributes:
      width: the factor on every number of channels, which is then rounded to a multiple of `divisor`.
      depth: the factor on every number of repeats, rounded up.
      classes: the number of logits.
      image_size: the side, in pixels, of the images that this size was designed for; other sizes work too.
      stages: the network to scale.
      stem_channels: the channels of the stem, before scaling.
      head_channels: the channels of the last convolution, before scaling.
      divisor: channels are multiples of it.
      squeeze: the hidden width of squeeze-and-excitation, as a fraction of the block's input channels.
      padding: of convolutions with stride 2: "same" as in the paper (TensorFlow); "symmetric" as in PyTorch; "shifted"
        pads the end by one pixel more than the start for any map size, as Keras' ported weights expect, except in
        `symmetric_blocks`.
      symmetric_blocks: indices of blocks, counted through all stages, that "shifted" pads symmetrically.
      first_shortcut: the first block of a stage also has a shortcut where shapes allow it; in the paper's stages they
        never do.
      activation: the activation function.
      drop_connect: the stochastic depth rate (Huang et al., 2016) towards which the blocks' rates grow.
      dropout: the dropout rate before the head.
      pool: how each channel of the last feature map is pooled for the head.
      momentum: the fraction of the old running statistic that batch norm keeps at each step.
      expand_momentum: the same for the norm after the expansion; None means `momentum`.
      epsilon: of the norms.
      dtype: of the computation; parameters have at least float32.
    """

    width: float = 1.0
    depth: float = 1.0
    classes: int = 1000
    image_size: int = 224
    stages: tuple[Stage, ...] = B0_STAGES
    stem_channels: int = 32
    head_channels: int = 1280
    divisor: int = 8
    squeeze: float = 0.25
    padding: Literal["same", "symmetric", "shifted"] = "same"
    symmetric_blocks: tuple[int, ...] = ()
    first_shortcut: bool = True
    activation: Activation = "silu"
    drop_connect: float = 0.2
    dropout: float = 0.2
    pool: Literal["average", "max"] = "average"
    momentum: float = 0.99
    expand_momentum: float | None = None
    epsilon: float = 1e-3
    dtype: DType = "float32"

    def check(self) -> None:
        super().check()
        check_factors(self, "width", "depth", "squeeze", "epsilon")
        check_counts(self, "classes", "stem_channels", "head_channels", "divisor", "image_size")
        check_rates(self, "drop_connect", "dropout")
        check_shares(self, "momentum", "expand_momentum")
        for i, stage in enumerate(self.stages):
            check_types(stage, f"stages.{i}.")
            for field in dataclasses.fields(stage):
                if getattr(stage, field.name) < 1:
                    raise RequestError(f"stages.{i}.{field.name}={getattr(stage, field.name)}: expected at least 1")
        layers = sum(math.ceil(stage.repeats * self.depth) for stage in self.stages)
        require(layers <= MOST_LAYERS, f"depth={self.depth}: {layers:,} blocks; expected at most {MOST_LAYERS:,}")
        blocks = len(self.blocks())
        require(
            all(0 <= k < blocks for k in self.symmetric_blocks),
            f"symmetric_blocks={self.symmetric_blocks}: expected 0 <= index < {blocks}, the number of blocks",
        )

    def channels(self, base: int) -> int:
        """Scales `base` channels by `width` and rounds to a multiple of `divisor`, never down by more than 10%."""
        scaled = base * self.width
        rounded = max(self.divisor, int(scaled + self.divisor / 2) // self.divisor * self.divisor)
        return rounded + self.divisor if rounded < 0.9 * scaled else rounded

    def blocks(self) -> tuple[tuple[int, int, Stage], ...]:
        """Lists (stage, index in the stage, the scaled `Stage` with the stride of this block) for every block."""
        found = []
        for i, stage in enumerate(self.stages):
            first = dataclasses.replace(stage, channels=self.channels(stage.channels))
            for j in range(math.ceil(stage.repeats * self.depth)):
                found.append((i, j, first if j == 0 else dataclasses.replace(first, stride=1)))
        return tuple(found)

    def least_side(self) -> int:
        """The minimum image side in pixels that leaves at least one pixel in the last feature map."""
        side = 1
        for k, (_, _, shape) in reversed(list(enumerate(self.blocks()))):
            side = self._side_before(side, shape.kernel_size, shape.stride, shifted=k not in self.symmetric_blocks)
        return self._side_before(side, 3, 2, shifted=True)

    def _side_before(self, side: int, kernel_size: int, stride: int, *, shifted: bool) -> int:
        """The minimum side of a map that `strided_conv` reduces to `side`."""
        shifted = shifted and stride > 1 and self.padding == "shifted"
        # Only "shifted" pads so little that an odd kernel needs at least two pixels of the map; an even one needs one.
        return (side - 1) * stride + (1 + kernel_size % 2 if shifted else 1)

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        check_images(x, f"EfficientNet with padding={self.padding!r} and these stages", least=self.least_side())
        act = activation(self.activation)
        x = strided_conv(self, self.channels(self.stem_channels), 3, stride=2, name="stem_conv")(x)
        x = act(normalization(self, train, "stem_norm")(x))
        self.sow("intermediates", "stem", x)

        blocks = self.blocks()
        for k, (i, j, shape) in enumerate(blocks):
            block = Block(
                fields(self),
                shape,
                shifted=k not in self.symmetric_blocks,
                shortcut=j > 0 or self.first_shortcut,
                drop=self.drop_connect * k / len(blocks),
                name=f"stage{i}_block{j}",
            )
            x = block(x, train=train)
            if k + 1 == len(blocks) or blocks[k + 1][0] != i:
                self.sow("intermediates", f"stage{i}", x)

        x = conv(self.channels(self.head_channels), 1, dtype=self.dtype, name="head_conv")(x)
        x = act(normalization(self, train, "head_norm")(x))
        self.sow("intermediates", "head_map", x)
        x = x.mean((1, 2)) if self.pool == "average" else x.max((1, 2))
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return dense(self.classes, dtype=self.dtype, name="head")(x).astype(param_dtype(self.dtype))


class Block(nn.Module):
    """MBConv: 1×1 expansion, depthwise convolution, squeeze-and-excitation, 1×1 projection (Sandler et al., 2018)."""

    spec: Fields
    shape: Stage
    shifted: bool
    shortcut: bool
    drop: float

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        spec, shape = self.spec, self.shape
        act = activation(spec.activation)
        narrow = x.shape[-1]
        wide = narrow * shape.expansion

        y = x
        if shape.expansion != 1:
            y = conv(wide, 1, dtype=spec.dtype, name="expand_conv")(y)
            y = act(normalization(spec, train, "expand_norm", momentum=spec.expand_momentum)(y))

        depthwise = strided_conv(
            spec,
            wide,
            shape.kernel_size,
            stride=shape.stride,
            groups=wide,
            shifted=self.shifted,
            name="depthwise_conv",
        )
        y = act(normalization(spec, train, "depthwise_norm")(depthwise(y)))

        squeezed = y.mean((1, 2), keepdims=True)
        squeezed = act(dense(max(1, int(narrow * spec.squeeze)), dtype=spec.dtype, name="squeeze_down")(squeezed))
        y = y * nn.sigmoid(dense(wide, dtype=spec.dtype, name="squeeze_up")(squeezed))

        y = conv(shape.channels, 1, dtype=spec.dtype, name="project_conv")(y)
        y = normalization(spec, train, "project_norm")(y)
        if self.shortcut and shape.stride == 1 and narrow == shape.channels:
            y = x + StochasticDepth(self.drop)(y, train=train)
        return y


def normalization(
    spec: Fields | EfficientNet, train: bool, name: str, *, momentum: float | None = None
) -> nn.BatchNorm:
    """Makes a batch norm with the settings of `spec`, or with another `momentum`."""
    momentum = spec.momentum if momentum is None else momentum
    return batch_norm(train, dtype=spec.dtype, momentum=momentum, epsilon=spec.epsilon, name=name)


def strided_conv(
    spec: Fields | EfficientNet,
    features: int,
    kernel_size: int,
    *,
    stride: int,
    name: str,
    groups: int = 1,
    shifted: bool = True,
) -> nn.Conv:
    """Makes a convolution padded according to `spec.padding`."""
    if spec.padding == "shifted":
        half = kernel_size // 2
        padding = ((half - 1, half), (half - 1, half)) if stride > 1 and shifted else "symmetric"
    else:
        padding = spec.padding
    return conv(features, kernel_size, stride=stride, groups=groups, padding=padding, dtype=spec.dtype, name=name)


SIZES = {  # width, depth, image size, dropout, parameters with 1000 classes
    "b0": (1.0, 1.0, 224, 0.2, 5_288_548),
    "b1": (1.0, 1.1, 240, 0.2, 7_794_184),
    "b2": (1.1, 1.2, 260, 0.3, 9_109_994),
    "b3": (1.2, 1.4, 300, 0.3, 12_233_232),
    "b4": (1.4, 1.8, 380, 0.4, 19_341_616),
    "b5": (1.6, 2.2, 456, 0.4, 30_389_784),
    "b6": (1.8, 2.6, 528, 0.5, 43_040_704),
    "b7": (2.0, 3.1, 600, 0.5, 66_347_960),
}
"""The coefficients for the paper's table 2, from the authors' code."""


def efficientnet(size: str = "b0", **fields: Any) -> EfficientNet:
    """EfficientNet-B0 to B7; `fields` override its fields.

    >>> efficientnet("b3").image_size
    300

    Raises:
      RequestError: the size is unknown.
    """
    check_size("EfficientNet", size, SIZES)
    width, depth, image_size, dropout, _ = SIZES[size]
    return EfficientNet(**{"width": width, "depth": depth, "image_size": image_size, "dropout": dropout} | fields)
