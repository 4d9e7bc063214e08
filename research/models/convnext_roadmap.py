"""From ResNet to ConvNeXt in the steps of the paper's figure 2 (Liu et al., 2022, section 2).

The fields of the model are the choices of that figure.  The defaults give ResNet-50; all of `STEPS` together give
ConvNeXt-T without layer scale, which the paper does not count as a step.  `roadmap(layer_scale=1e-6)` adds it and then
has the 28,589,128 parameters of ConvNeXt-T.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import jax
from flax import linen as nn

from research.config.checks import check_counts, check_depths, check_factors, check_images, check_rates, check_stages
from research.config.types import conform
from research.errors import require
from research.layers.activations import Activation, activation
from research.layers.conv import conv
from research.layers.dense import dense
from research.layers.dtypes import DType, param_dtype
from research.layers.fields import Fields, fields
from research.layers.norms import batch_norm, layer_norm
from research.layers.pooling import max_pool
from research.layers.stochastic_depth import StochasticDepth, linear_rates
from research.models.model import Model


class ConvNeXtRoadmap(Model):
    """Maps images [batch, height, width, channels] to logits [batch, classes].

    >>> model = roadmap(2, depths=(1, 1), widths=(16, 32), strides=(1, 2), stem_width=8, classes=10)
    >>> logits, variables = jax.eval_shape(model.init_with_output, jax.random.key(0), jnp.zeros((4, 16, 16, 3)))
    >>> logits.shape
    (4, 10)

    Attributes:
      depths: the number of blocks in each stage.
      widths: the channels between blocks, by stage.
      strides: the factor by which each stage reduces height and width.
      classes: the number of logits.
      stem: "imagenet" for a 7×7 convolution at stride 2 and max pooling; "cifar" for a 3×3 convolution at stride
        `patch_size` (small images); "patch" for patches that do not overlap.
      stem_width: the channels of the stem.
      patch_size: the side of a patch, in pixels.
      block: "bottleneck" has a quarter of the channels inside, "inverted" four times as many.
      depthwise: the spatial convolution filters each channel separately.
      depthwise_first: the spatial convolution comes before the two 1×1 convolutions, on the block's own channels,
        instead of between them.
      kernel_size: the side of the spatial kernels.
      activation: the activation function.
      activations: "all" puts one after the stem, every convolution and every sum; "one" only after the first 1×1
        convolution of a block.
      norms: "all" puts one after every convolution; "one" only after the first convolution of a block.
      norm: batch or layer norm.
      downsampling: in the first "block" of a stage (with a 1×1 convolution on its shortcut), or by a separate "layer".
      layer_scale: the initial value of a learned scale per channel on every block's branch; None leaves it out.
      drop_path: the stochastic depth rate of the last block; earlier blocks have proportionally lower rates.
      dtype: of the computation; parameters have at least float32.
    """

    depths: tuple[int, ...] = (3, 4, 6, 3)
    widths: tuple[int, ...] = (256, 512, 1024, 2048)
    strides: tuple[int, ...] = (1, 2, 2, 2)
    classes: int = 1000
    stem: Literal["imagenet", "cifar", "patch"] = "imagenet"
    stem_width: int = 64
    patch_size: int = 4
    block: Literal["bottleneck", "inverted"] = "bottleneck"
    depthwise: bool = False
    depthwise_first: bool = False
    kernel_size: int = 3
    activation: Activation = "relu"
    activations: Literal["all", "one"] = "all"
    norms: Literal["all", "one"] = "all"
    norm: Literal["batch", "layer"] = "batch"
    downsampling: Literal["block", "layer"] = "block"
    layer_scale: float | None = None
    drop_path: float = 0.0
    dtype: DType = "float32"

    def check(self) -> None:
        super().check()
        check_stages(self, "widths", "strides")
        check_counts(self, "strides", "classes", "stem_width", "patch_size", "kernel_size")
        check_depths(self, "depths")
        check_counts(self, "widths", least=4 if self.block == "bottleneck" else 1)
        check_factors(self, "layer_scale")
        check_rates(self, "drop_path")

    def least_side(self) -> int:
        """The minimum image side in pixels that leaves at least one pixel in the last feature map."""
        side = math.prod(self.strides) if self.downsampling == "layer" else 1  # in blocks, strides round up
        if self.stem == "patch":
            return side * self.patch_size
        return (side - 1) * (4 if self.stem == "imagenet" else self.patch_size) + 1

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        asked = f"patch_size={self.patch_size}, strides={self.strides} and downsampling={self.downsampling!r}"
        check_images(x, f"ConvNeXtRoadmap with stem={self.stem!r}, {asked}", least=self.least_side())
        spec = fields(self)
        modern = self.downsampling == "layer"
        if self.stem == "imagenet":
            x = conv(self.stem_width, 7, stride=2, use_bias=False, dtype=self.dtype, name="stem_conv")(x)
        elif self.stem == "cifar":
            x = conv(self.stem_width, 3, stride=self.patch_size, use_bias=False, dtype=self.dtype, name="stem_conv")(x)
        else:
            x = patches(spec, self.stem_width, self.patch_size, "stem_conv")(x)
        x = normalization(spec, train, "stem_norm")(x)
        if self.activations == "all":
            x = activation(self.activation)(x)
        if self.stem == "imagenet":
            x = max_pool(x, 3, stride=2, padding=1)

        rates = iter(linear_rates(self.drop_path, sum(self.depths)))
        for i, (depth, width, stride) in enumerate(zip(self.depths, self.widths, self.strides, strict=True)):
            if modern and (stride > 1 or x.shape[-1] != width):
                x = normalization(spec, train, f"stage{i}_norm")(x)
                x = patches(spec, width, stride, f"stage{i}_conv")(x)
                stride = 1
            for j in range(depth):
                block = Block(spec, width, stride if j == 0 else 1, next(rates), name=f"stage{i}_block{j}")
                x = block(x, train=train)
        x = x.mean((1, 2))
        if modern:
            x = normalization(spec, train, "norm")(x)
        return dense(self.classes, dtype=self.dtype, name="head")(x).astype(param_dtype(self.dtype))


class Block(nn.Module):
    """x + F(x), where F is a spatial convolution and two 1×1 convolutions."""

    spec: Fields
    width: int
    stride: int
    drop: float

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        spec, width = self.spec, self.width
        act = activation(spec.activation)
        inner = width // 4 if spec.block == "bottleneck" else 4 * width

        convolutions = [("up", inner), ("spatial", inner), ("down", width)]
        if spec.depthwise_first:
            convolutions = [("spatial", x.shape[-1]), ("up", inner), ("down", width)]

        y = x
        for i, (name, channels) in enumerate(convolutions):
            if name == "spatial":
                groups = channels if spec.depthwise else 1
                sides = ((spec.kernel_size - 1) // 2, spec.kernel_size // 2)  # same size as the shortcut, any stride
                kwargs = {"groups": groups, "stride": self.stride, "padding": (sides, sides)}
                y = self._conv(channels, spec.kernel_size, name, **kwargs)(y)
            else:
                y = self._conv(channels, 1, name)(y)
            if spec.norms == "all" or i == 0:
                y = normalization(spec, train, f"{name}_norm")(y)
            if name == "up" if spec.activations == "one" else i < 2:
                y = act(y)
        if spec.layer_scale is not None:
            init = nn.initializers.constant(spec.layer_scale)
            y = y * self.param("layer_scale", init, (width,), param_dtype(spec.dtype)).astype(y.dtype)
        y = self._carried(x, train) + StochasticDepth(self.drop)(y, train=train)
        return act(y) if spec.activations == "all" else y

    def _carried(self, x: jax.Array, train: bool) -> jax.Array:
        """Brings the input to the shape of the sum."""
        if self.stride == 1 and x.shape[-1] == self.width:
            return x
        x = self._conv(self.width, 1, "shortcut", stride=self.stride)(x)
        return normalization(self.spec, train, "shortcut_norm")(x)

    def _conv(self, channels: int, kernel_size: int, name: str, **kwargs: Any) -> nn.Module:
        use_bias = self.spec.norms == "one"
        return conv(channels, kernel_size, use_bias=use_bias, dtype=self.spec.dtype, name=f"{name}_conv", **kwargs)


def normalization(spec: Fields, train: bool, name: str) -> nn.Module:
    """Makes the layer that `spec.norm` names, with the epsilon of ResNet (batch norm) or of ConvNeXt (layer norm)."""
    if spec.norm == "batch":
        return batch_norm(train, dtype=spec.dtype, name=name)
    return layer_norm(dtype=spec.dtype, epsilon=1e-6, name=name)


def patches(spec: Fields, width: int, size: int, name: str) -> nn.Module:
    """Makes a layer that projects patches, which do not overlap, to `width` channels."""
    return conv(width, size, stride=size, padding="valid", use_bias=True, dtype=spec.dtype, name=name)


STEPS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("stage ratio", {"depths": (3, 3, 9, 3)}),
    ("patchify stem", {"stem": "patch"}),
    ("depthwise", {"depthwise": True}),
    ("wider", {"widths": (384, 768, 1536, 3072), "stem_width": 96}),
    ("inverted bottleneck", {"block": "inverted", "widths": (96, 192, 384, 768)}),
    ("depthwise first", {"depthwise_first": True}),
    ("kernel 7", {"kernel_size": 7}),
    ("gelu", {"activation": "gelu"}),
    ("fewer activations", {"activations": "one"}),
    ("fewer norms", {"norms": "one"}),
    ("layer norm", {"norm": "layer"}),
    ("separate downsampling", {"downsampling": "layer"}),
)
"""The paper's steps from ResNet-50 to ConvNeXt-T, without layer scale; each names its changes to the step before."""


def roadmap(steps: int = len(STEPS), **fields: Any) -> ConvNeXtRoadmap:
    """The model after the first `steps` of `STEPS`; `fields` override its fields.

    Raises:
      RequestError: `steps` is out of range.
    """
    steps = conform(steps, int, "steps")
    require(0 <= steps <= len(STEPS), f"steps={steps}: expected a whole number from 0 to {len(STEPS)}")
    changes: dict[str, Any] = {}
    for _, change in STEPS[:steps]:
        changes |= change
    return ConvNeXtRoadmap(**changes | fields)
