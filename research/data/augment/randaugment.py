"""RandAugment: applies a few random operations at one magnitude (Cubuk et al., 2020)."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp

from research.config.hparams import hparam
from research.data.augment.augmentation import Augmentation, check_fill
from research.data.augment.color_jitter import require_channels
from research.errors import RequestError, require

Operation = Literal[
    "identity", "auto_contrast", "equalize", "rotate", "solarize", "color", "posterize", "contrast", "brightness",
    "sharpness", "shear_x", "shear_y", "translate_x", "translate_y",
]  # fmt: skip
Resampling = Literal["nearest", "bilinear"]

OPERATIONS: tuple[Operation, ...] = Operation.__args__
"""The fourteen operations of the paper."""

STRONGEST = 30
"""The magnitude at which every operation has AutoAugment's full strength."""


@dataclasses.dataclass(frozen=True)
class RandAugment(Augmentation):
    """Applies random operations one after another at one magnitude.

    The operations are Pillow's, on uint8 images [height, width, 1 or 3], with AutoAugment's ranges.  Magnitude 30 means
    a rotation by 30 degrees, a shear of 0.3, a translation by 45% of the side, factors of 1 ± 0.9 for colour, contrast,
    brightness and sharpness, posterizing to 4 bits, and solarizing every pixel.  Signs are random.

    Under `vmap` every operation is computed for every example and one is selected; the five geometric ones share one
    resampling.

    >>> images = {"image": jnp.zeros((32, 32, 3), jnp.uint8)}
    >>> jax.eval_shape(RandAugment(num_ops=2, magnitude=9.0), jax.random.key(0), images)["image"].shape
    (32, 32, 3)

    Attributes:
      num_ops: the number of operations per image, drawn with replacement.
      magnitude: on torchvision's scale, 0 to 30 (of 31 bins).  Magnitude 10 in timm's and Google's code is 30 here, so
        ConvNeXt's "9" is 27.
      operations: the operations to draw from.
      resampling: of geometric operations.
      fill: the value of pixels from outside the image.
    """

    num_ops: int = 2
    magnitude: float = hparam(9.0)
    operations: tuple[Operation, ...] = OPERATIONS
    resampling: Resampling = "nearest"
    fill: float = 0.0

    def apply(self, key: jax.Array, x: jax.Array) -> jax.Array:
        """x: uint8 [height, width, 1 or 3]."""
        require_channels(self, x)
        if x.dtype != jnp.uint8:
            raise RequestError(
                f"RandAugment: {self.field!r} is {x.dtype}; expected uint8, so put it before what rescales"
            )
        strength = self.magnitude / STRONGEST
        x = x.astype(jnp.float32)
        for step_key in jax.random.split(key, self.num_ops):
            which_key, sign_key = jax.random.split(step_key)
            which = jax.random.randint(which_key, (), 0, len(self.operations))
            signed = jnp.where(jax.random.bernoulli(sign_key), strength, -strength)
            matrices = jnp.stack([matrix(name, signed, *x.shape[:2]) for name in self.operations])
            x = affine(x, matrices[which], self.resampling, self.fill)
            x = jax.lax.switch(which, [_of_colour(name, strength, signed) for name in self.operations], x)
        return x.astype(jnp.uint8)

    def check(self) -> None:
        super().check()
        require(self.num_ops >= 0, f"num_ops={self.num_ops}: expected at least 0")
        require(0 <= self.magnitude <= STRONGEST, f"magnitude={self.magnitude:g}: expected 0 to {STRONGEST}")
        require(len(self.operations) > 0, "operations=(): expected at least one")
        check_fill(self.fill)


# -- geometric operations ----------------------------------------------------------------------------------------------


def matrix(name: Operation, signed: jax.Array, height: int, width: int) -> jax.Array:
    """Pillow's affine coefficients [2, 3]: maps (column, row, 1) of an output pixel to its source in the image.

    `signed` is the signed fraction of full strength, -1 to 1.
    """
    one, zero = jnp.ones_like(signed), jnp.zeros_like(signed)
    if name == "rotate":  # about the centre
        angle = signed * math.radians(30)
        cos, sin = jnp.cos(angle), jnp.sin(angle)
        x, y = width / 2, height / 2
        rows = ((cos, sin, x - cos * x - sin * y), (-sin, cos, y + sin * x - cos * y))
    else:
        shear_x, shear_y = (0.3 * signed if name == f"shear_{axis}" else zero for axis in "xy")
        along = 150 / 331 * signed
        right, down = (along * n if name == f"translate_{axis}" else zero for axis, n in (("x", width), ("y", height)))
        rows = ((one, shear_x, right), (shear_y, one, down))
    return jnp.stack([jnp.stack(row) for row in rows])


def affine(x: jax.Array, matrix: jax.Array, resampling: Resampling, fill: float) -> jax.Array:
    """Resamples x [height, width, channels] like Pillow: pixel centres lie at halves, and pixels outside are `fill`."""
    height, width, _ = x.shape
    rows, columns = jnp.meshgrid(jnp.arange(height) + 0.5, jnp.arange(width) + 0.5, indexing="ij")
    across, down = jnp.einsum(
        "ij,jhw->ihw", matrix, jnp.stack([columns, rows, jnp.ones_like(rows)]), precision="highest"
    )
    inside = (across >= 0) & (across < width) & (down >= 0) & (down < height)

    def at(row: jax.Array, column: jax.Array) -> jax.Array:
        return x[jnp.clip(row, 0, height - 1).astype(int), jnp.clip(column, 0, width - 1).astype(int)]

    if resampling == "nearest":
        taken = at(jnp.floor(down), jnp.floor(across))
    else:
        top, left = jnp.floor(down - 0.5), jnp.floor(across - 0.5)
        below, beside = ((down - 0.5) - top)[..., None], ((across - 0.5) - left)[..., None]
        upper = at(top, left) * (1 - beside) + at(top, left + 1) * beside
        lower = at(top + 1, left) * (1 - beside) + at(top + 1, left + 1) * beside
        taken = jnp.floor(upper * (1 - below) + lower * below + 0.5)
    return jnp.where(inside[..., None], taken, fill)


# -- colour operations, on float32 images with whole numbers from 0 to 255 ---------------------------------------------


def _of_colour(name: Operation, strength: jax.Array, signed: jax.Array) -> Callable[[jax.Array], jax.Array]:
    """The colour operation of that name at a fraction of full strength; the identity for geometric operations."""
    factor = 1 + 0.9 * signed
    return {
        "auto_contrast": auto_contrast,
        "equalize": equalize,
        "solarize": lambda x: solarize(x, 255 * (1 - strength)),
        "posterize": lambda x: posterize(x, 8 - jnp.round(4 * strength)),
        "color": lambda x: color(x, factor),
        "contrast": lambda x: contrast(x, factor),
        "brightness": lambda x: brightness(x, factor),
        "sharpness": lambda x: sharpness(x, factor),
    }.get(name, lambda x: x)


def auto_contrast(x: jax.Array) -> jax.Array:
    """Stretches every channel to 0 to 255; a constant channel stays."""
    low, high = x.min((0, 1)), x.max((0, 1))
    scale = 255 / jnp.where(high > low, high - low, 1)
    return jnp.where(high > low, jnp.floor(jnp.clip((x - low) * scale + 1e-4, 0, 255)), x)


def equalize(x: jax.Array) -> jax.Array:
    """Equalizes the histogram of every channel."""

    def one(channel: jax.Array) -> jax.Array:
        values = channel.astype(jnp.int32)
        histogram = jnp.zeros(256, jnp.int32).at[values.ravel()].add(1)
        last = jnp.max(values)
        step = (values.size - histogram[last]) // 255
        before = jnp.cumsum(histogram) - histogram
        table = jnp.clip((before + step // 2) // jnp.maximum(step, 1), 0, 255)
        return jnp.where(step > 0, table[values], values).astype(channel.dtype)

    return jax.vmap(one, in_axes=-1, out_axes=-1)(x)


def solarize(x: jax.Array, threshold: jax.Array) -> jax.Array:
    """Inverts values at or above the threshold."""
    return jnp.where(x < threshold, x, 255 - x)


def posterize(x: jax.Array, bits: jax.Array) -> jax.Array:
    """Keeps the highest bits of every value."""
    step = jnp.exp2(8 - bits)
    return jnp.floor(x / step) * step


def brightness(x: jax.Array, factor: jax.Array) -> jax.Array:
    """Moves pixels away from black."""
    return _blend(jnp.zeros_like(x), x, factor)


def contrast(x: jax.Array, factor: jax.Array) -> jax.Array:
    """Moves pixels away from the mean grey."""
    return _blend(jnp.floor(_grey(x).mean() + 0.5), x, factor)


def color(x: jax.Array, factor: jax.Array) -> jax.Array:
    """Moves pixels away from the grey image."""
    return _blend(_grey(x), x, factor)


def sharpness(x: jax.Array, factor: jax.Array) -> jax.Array:
    """Moves pixels away from the smoothed image; the border stays as it is."""
    height, width, _ = x.shape
    near = sum(x[i : height - 2 + i, j : width - 2 + j] for i in range(3) for j in range(3))
    smooth = jnp.floor((near + 4 * x[1:-1, 1:-1]) / 13 + 0.5)
    return _blend(x.at[1:-1, 1:-1].set(smooth), x, factor)


def _blend(base: jax.Array, x: jax.Array, factor: jax.Array) -> jax.Array:
    """Interpolates from `base` (factor 0) to x (factor 1); rounds down to whole numbers and clips to 0 to 255."""
    return jnp.floor(jnp.clip(base + factor * (x - base) + 1e-4, 0, 255))


def _grey(x: jax.Array) -> jax.Array:
    """Converts to grey [height, width, 1], rounded as Pillow does."""
    if x.shape[-1] == 1:
        return x
    weighted = x.astype(jnp.int32) * jnp.asarray([19595, 38470, 7471])
    return ((weighted.sum(-1, keepdims=True) + 0x8000) >> 16).astype(x.dtype)
