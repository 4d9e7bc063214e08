"""YOLOX: a dense detector without anchor boxes (Ge et al., 2021).

A CSPDarknet gives maps at strides 8, 16 and 32; a pyramid passes them from coarse to fine and back (PANet); for each
cell, one branch of the head predicts classes, another one the box and whether there is an object.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from research.config.checks import check_counts, check_factors, check_images, check_shares, check_size
from research.detection.predictions import CellPredictions, cells
from research.errors import require
from research.layers.activations import Activation, activation
from research.layers.conv import conv
from research.layers.dtypes import DType, param_dtype
from research.layers.fields import Fields, fields
from research.layers.norms import batch_norm
from research.layers.pooling import max_pool
from research.models.model import Model

PRIOR = 0.01
"""The probability of an object, and of each class, that a new head predicts everywhere (Lin et al., 2017)."""


class YOLOX(Model):
    """Maps images [batch, height, width, channels] to predictions for every cell.

    >>> model = YOLOX(classes=3, depth=0.33, width=0.0625)
    >>> found, variables = jax.eval_shape(model.init_with_output, jax.random.key(0), jnp.zeros((2, 64, 96, 3)))
    >>> found.raw.shape, found.logits.shape  # 8 × 12 cells, 4 × 6 and 2 × 3
    ((2, 126, 4), (2, 126, 3))

    Attributes:
      classes: the number of classes.
      depth: multiplies the number of blocks of each stage: 3, 9, 9 and 3.
      width: multiplies the number of channels: 64 after the stem, doubled by each stage.
      depthwise: 3×3 convolutions are depthwise ones, followed by 1×1.
      levels: the maps with a head, by the logarithm of their stride: 3 is 8 pixels, 4 is 16, 5 is 32.
      activation: after every norm.
      momentum: the fraction of the old running statistic that batch norm keeps at each step.
      epsilon: of the norms.
      dtype: of the computation; parameters have at least float32, and so has what the heads return.
    """

    classes: int = 80
    depth: float = 1.0
    width: float = 1.0
    depthwise: bool = False
    levels: tuple[int, ...] = (3, 4, 5)
    activation: Activation = "silu"
    momentum: float = 0.97
    epsilon: float = 1e-3
    dtype: DType = "float32"

    def check(self) -> None:
        super().check()
        check_counts(self, "classes")
        check_factors(self, "depth", "width", "epsilon")
        check_shares(self, "momentum")
        whole = bool(self.levels) and self.levels == tuple(range(self.levels[0], self.levels[-1] + 1))
        good = whole and self.levels[0] >= 3 and self.levels[-1] <= 5
        require(good, f"levels={self.levels}: expected neighbours from 3 to 5, such as (3, 4, 5)")
        require(int(64 * self.width) >= 2, f"width={self.width}: expected at least 1/32, for 2 channels after the stem")

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> CellPredictions:
        check_images(x, "YOLOX", least=32, multiple=32)
        size = x.shape[1:3]
        maps = self._backbone(x, train)
        maps = self._pyramid(maps, train)
        for level, value in maps.items():
            self.sow("intermediates", f"p{level}", value)
        found = [self._head(maps[level], f"head{i}", train) for i, level in enumerate(self.levels)]
        raw, objectness, logits = (jnp.concatenate(parts, 1) for parts in zip(*found, strict=True))
        return CellPredictions(raw, objectness[..., 0], logits, cells(*size, [2**level for level in self.levels]))

    def _channels(self, level: int) -> int:
        return int(self.width * 2 ** (level + 5))

    def _backbone(self, x: jax.Array, train: bool) -> dict[int, jax.Array]:
        """CSPDarknet: maps by level."""
        unit, csp = partial(_unit, fields(self), train), partial(CSP, fields(self))
        base, depth = int(64 * self.width), max(round(3 * self.depth), 1)
        # Focus: the four pixels of each 2×2 square become channels, column by column.
        x = jnp.concatenate([x[:, row::2, column::2] for column in (0, 1) for row in (0, 1)], -1)
        x = Unit(fields(self), base, 3, name="stem")(x, train=train)
        maps = {}
        for level, blocks in ((2, depth), (3, 3 * depth), (4, 3 * depth), (5, depth)):
            channels = base * 2 ** (level - 1)
            x = unit(channels, 3, f"dark{level}_half", stride=2)(x)
            if level == 5:  # spatial pyramid pooling
                x = unit(channels // 2, 1, "pool_reduce")(x)
                x = jnp.concatenate([x, *(max_pool(x, k, stride=1, padding=k // 2) for k in (5, 9, 13))], -1)
                x = unit(channels, 1, "pool_join")(x)
            x = csp(channels, blocks, level < 5, name=f"dark{level}")(x, train=train)
            maps[level] = x
        return maps

    def _pyramid(self, maps: dict[int, jax.Array], train: bool) -> dict[int, jax.Array]:
        """From coarse maps to fine ones, and back; {level: map}."""
        unit, depth = partial(_unit, fields(self), train), round(3 * self.depth)
        x, lateral = maps[5], {}
        for level in range(4, self.levels[0] - 1, -1):
            x = lateral[level + 1] = unit(self._channels(level), 1, f"lateral{level + 1}")(x)
            x = jnp.concatenate([x.repeat(2, 1).repeat(2, 2), maps[level]], -1)
            x = CSP(fields(self), self._channels(level), depth, False, name=f"top_down{level}")(x, train=train)
        out = {self.levels[0]: x}
        for level in self.levels[1:]:
            x = unit(self._channels(level - 1), 3, f"half{level}", stride=2)(x)
            x = jnp.concatenate([x, lateral[level]], -1)
            x = CSP(fields(self), self._channels(level), depth, False, name=f"bottom_up{level}")(x, train=train)
            out[level] = x
        return out

    def _head(self, x: jax.Array, name: str, train: bool) -> tuple[jax.Array, jax.Array, jax.Array]:
        """The decoupled head of one map: (raw boxes, objectness, logits), each [batch, cell, ...]."""
        unit, hidden = partial(_unit, fields(self), train), self._channels(3)
        x = unit(hidden, 1, f"{name}_stem")(x)
        branches = {}
        for branch in ("class", "box"):
            y = unit(hidden, 3, f"{name}_{branch}0")(x)
            branches[branch] = unit(hidden, 3, f"{name}_{branch}1")(y)

        def predict(branch: str, features: int, part: str, bias: float = 0.0) -> jax.Array:
            y = nn.Conv(
                features,
                (1, 1),
                dtype=self.dtype,
                param_dtype=param_dtype(self.dtype),
                bias_init=nn.initializers.constant(bias),
                name=f"{name}_{part}",
            )(branches[branch])
            return y.reshape(len(y), -1, features).astype(param_dtype(self.dtype))

        rare = -math.log((1 - PRIOR) / PRIOR)
        return (
            predict("box", 4, "offsets"),
            predict("box", 1, "objectness", rare),
            predict("class", self.classes, "logits", rare),
        )


class Unit(nn.Module):
    """Convolution, batch norm, activation."""

    spec: Fields
    features: int
    kernel_size: int
    stride: int = 1
    groups: int = 1

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        spec = self.spec
        x = conv(
            self.features, self.kernel_size, stride=self.stride, groups=self.groups, dtype=spec.dtype, name="conv"
        )(x)
        x = batch_norm(train, momentum=spec.momentum, epsilon=spec.epsilon, dtype=spec.dtype, name="norm")(x)
        return activation(spec.activation)(x)


class Separable(nn.Module):
    """A depthwise unit, then a 1×1 unit."""

    spec: Fields
    features: int
    kernel_size: int
    stride: int = 1

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        channels = x.shape[-1]
        x = Unit(self.spec, channels, self.kernel_size, self.stride, channels, name="depthwise")(x, train=train)
        return Unit(self.spec, self.features, 1, name="pointwise")(x, train=train)


def _unit(spec: Fields, train: bool, features: int, kernel_size: int, name: str, *, stride: int = 1) -> Any:
    """The unit of the model with the mode bound; 3×3 ones are separable if the model is."""
    kind = Separable if spec.depthwise and kernel_size > 1 else Unit
    return partial(kind(spec, features, kernel_size, stride, name=name), train=train)


class CSP(nn.Module):
    """Cross stage partial (Wang et al., 2020): half of the channels go through the blocks, the other half around."""

    spec: Fields
    features: int
    depth: int
    shortcut: bool

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        unit, hidden = partial(_unit, self.spec, train), int(self.features * 0.5)
        through, around = unit(hidden, 1, "through")(x), unit(hidden, 1, "around")(x)
        for i in range(self.depth):
            y = unit(hidden, 3, f"block{i}_conv")(unit(hidden, 1, f"block{i}_reduce")(through))
            through = through + y if self.shortcut else y
        return unit(self.features, 1, "join")(jnp.concatenate([through, around], -1))


SIZES = {  # depth, width, depthwise, parameters with 80 classes
    "nano": (0.33, 0.25, True, 912_159),
    "tiny": (0.33, 0.375, False, 5_055_855),
    "s": (0.33, 0.5, False, 8_968_255),
    "m": (0.67, 0.75, False, 25_326_495),
    "l": (1.0, 1.0, False, 54_208_895),
    "x": (1.33, 1.25, False, 99_071_455),
}
"""Ge et al. (2021), tables 3 and 4."""


def yolox(size: str = "s", **fields: Any) -> YOLOX:
    """YOLOX-nano, tiny, s, m, l or x; `fields` override its fields.

    >>> yolox("tiny", classes=3).width
    0.375

    Raises:
      RequestError: the size is unknown.
    """
    check_size("YOLOX", size, SIZES)
    depth, width, depthwise, _ = SIZES[size]
    return YOLOX(**{"depth": depth, "width": width, "depthwise": depthwise} | fields)
