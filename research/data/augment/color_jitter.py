"""Colour jitter: random brightness, contrast, saturation and hue, in random order."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from research.config.hparams import hparam
from research.data.augment.augmentation import Augmentation
from research.errors import RequestError, require


@dataclasses.dataclass(frozen=True)
class ColorJitter(Augmentation):
    """Changes brightness, contrast, saturation and hue by random amounts, in random order, as torchvision does.

    Brightness, contrast and saturation are multiplied by a factor in [max(0, 1 - strength), 1 + strength]; hue is
    rotated by up to `hue` of the colour circle.

    Images are grey or RGB, with values from 0 to `white`.  The result is float32, clipped to that range and not
    rounded.  Saturation and hue do not change grey images.

    >>> jitter = ColorJitter(brightness=0.4, contrast=0.4, saturation=0.4)
    >>> jax.eval_shape(jitter, jax.random.key(0), {"image": jnp.zeros((32, 32, 3))})["image"].shape
    (32, 32, 3)

    Attributes:
      brightness, contrast, saturation: the strengths of the random factors.
      hue: the maximum rotation, as a fraction of the colour circle, 0 to 0.5.
      white: the value of white pixels.
    """

    brightness: float = hparam(0.4)
    contrast: float = hparam(0.4)
    saturation: float = hparam(0.4)
    hue: float = hparam(0.0)
    white: float = 255.0

    def apply(self, key: jax.Array, x: jax.Array) -> jax.Array:
        """x: [height, width, 1 or 3]."""
        require_channels(self, x)
        order_key, factor_key, hue_key = jax.random.split(key, 3)
        strengths = jnp.stack([jnp.asarray(s, jnp.float32) for s in (self.brightness, self.contrast, self.saturation)])
        low = jnp.maximum(0.0, 1 - strengths)
        factors = low + (1 + strengths - low) * jax.random.uniform(factor_key, (3,))
        turn = self.hue * jax.random.uniform(hue_key, minval=-1.0, maxval=1.0)
        steps = (
            lambda x: adjust_brightness(x, factors[0]),
            lambda x: adjust_contrast(x, factors[1]),
            lambda x: adjust_saturation(x, factors[2]),
            lambda x: adjust_hue(x, turn),
        )
        order = jax.random.permutation(order_key, len(steps))
        x = x.astype(jnp.float32) / self.white
        for i in range(len(steps)):
            x = jax.lax.switch(order[i], steps, x)
        return x * self.white

    def check(self) -> None:
        super().check()
        for name in ("brightness", "contrast", "saturation"):
            require(getattr(self, name) >= 0, f"{name}={getattr(self, name)}: expected at least 0")
        require(0 <= self.hue <= 0.5, f"hue={self.hue}: expected 0 to 0.5 of the colour circle")
        require(self.white > 0, f"white={self.white}: expected more than 0")


def require_channels(augmentation: Augmentation, x: jax.Array) -> None:
    """Raises RequestError unless x is an image [height, width, 1 or 3]."""
    if x.ndim != 3 or x.shape[-1] not in (1, 3):
        raise RequestError(
            f"{type(augmentation).__name__}: {augmentation.field!r} is {list(x.shape)} per example; expected an image "
            "[height, width, channels] of 1 or 3 channels"
        )


# -- images [height, width, 1 or 3] from 0 to 1 ------------------------------------------------------------------------


def blend(base: jax.Array, x: jax.Array, factor: jax.Array) -> jax.Array:
    """Interpolates from `base` (factor 0) to x (factor 1), extrapolates beyond 1, and clips to [0, 1]."""
    return jnp.clip(base + factor * (x - base), 0.0, 1.0)


def luma(x: jax.Array) -> jax.Array:
    """Converts an RGB image to grey [height, width, 1] (ITU-R BT.601); grey images are returned as they are."""
    return x if x.shape[-1] == 1 else x @ jnp.asarray([[0.299], [0.587], [0.114]], x.dtype)


def adjust_brightness(x: jax.Array, factor: jax.Array) -> jax.Array:
    """Moves pixels away from black."""
    return blend(jnp.zeros_like(x), x, factor)


def adjust_contrast(x: jax.Array, factor: jax.Array) -> jax.Array:
    """Moves pixels away from the image's mean grey."""
    return blend(luma(x).mean(), x, factor)


def adjust_saturation(x: jax.Array, factor: jax.Array) -> jax.Array:
    """Moves pixels away from the grey image."""
    return blend(luma(x), x, factor)


def adjust_hue(x: jax.Array, turn: jax.Array) -> jax.Array:
    """Rotates the hue (of HSV) by `turn` turns of the colour circle."""
    if x.shape[-1] == 1:
        return x
    high, low = x.max(-1), x.min(-1)
    chroma = high - low
    r, g, b = (x[..., i] for i in range(3))
    safe = jnp.where(chroma > 0, chroma, 1)
    sixths = jnp.select([high == r, high == g], [(g - b) / safe, 2 + (b - r) / safe], 4 + (r - g) / safe)
    hue = jnp.where(chroma > 0, sixths / 6 + turn, 0.0) % 1.0
    # A channel equals `high` within a sixth of its own hue and `low` beyond two sixths, and falls linearly in between.
    distance = jnp.abs((hue[..., None] - jnp.asarray([0.0, 1 / 3, 2 / 3]) + 0.5) % 1.0 - 0.5) * 6
    return low[..., None] + chroma[..., None] * jnp.clip(2 - distance, 0.0, 1.0)
