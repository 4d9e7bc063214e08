"""Erasing: removes a rectangle of the image, so that the model does not rely on a single part."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from research.config.hparams import hparam
from research.data.augment.augmentation import Augmentation, check_fill, check_probability, require_image
from research.errors import require


@dataclasses.dataclass(frozen=True)
class Cutout(Augmentation):
    """Sets a square around a random pixel to `fill` (DeVries & Taylor, 2017).

    The square is clipped at the border of the image.

    >>> Cutout(8)(jax.random.key(0), {"image": jnp.ones((32, 32, 3))})["image"].shape
    (32, 32, 3)

    Attributes:
      size: the side of the square in pixels.
      fill: the value of erased pixels.
    """

    size: int = 8
    fill: float = 0.0

    def apply(self, key: jax.Array, x: jax.Array) -> jax.Array:
        """x: [height, width, channels]."""
        require_image(self, x)
        height, width, _ = x.shape
        # At this size the square covers the whole image, whichever pixel is its centre.
        most = 2 * max(height, width) - 2
        given = f"{self.field!r} is {list(x.shape)} per example"
        require(self.size <= most, f"Cutout: size={self.size}, {given}, erased whole; expected at most {most} pixels")
        rows, columns = jax.random.split(key)
        top = jax.random.randint(rows, (), 0, height) - self.size // 2
        left = jax.random.randint(columns, (), 0, width) - self.size // 2
        inside = rectangle(height, width, top, left, top + self.size, left + self.size)
        return jnp.where(inside[..., None], jnp.asarray(self.fill, x.dtype), x)

    def check(self) -> None:
        super().check()
        require(self.size >= 1, f"size={self.size}: expected at least 1 pixel")
        check_fill(self.fill)


@dataclasses.dataclass(frozen=True)
class RandomErasing(Augmentation):
    """Sets a random rectangle inside the image to `fill`, with the given probability (Zhong et al., 2020).

    A rectangle that does not fit is reduced to the height or width of the image.

    >>> RandomErasing(0.5)(jax.random.key(0), {"image": jnp.ones((32, 32, 3))})["image"].shape
    (32, 32, 3)

    Attributes:
      probability: of erasing.
      area: the minimum and maximum area of the rectangle, as a fraction of the image.
      aspect: the minimum and maximum of its height divided by its width (log-uniform).
      fill: the value of erased pixels.
    """

    probability: float = hparam(0.5)
    area: tuple[float, float] = (0.02, 0.33)
    aspect: tuple[float, float] = (0.3, 3.3)
    fill: float = 0.0

    def apply(self, key: jax.Array, x: jax.Array) -> jax.Array:
        """x: [height, width, channels]."""
        require_image(self, x)
        height, width, _ = x.shape
        whether, size, shape, place = jax.random.split(key, 4)
        area = jax.random.uniform(size, minval=self.area[0], maxval=self.area[1]) * height * width
        low, high = jnp.log(jnp.asarray(self.aspect))
        aspect = jnp.exp(jax.random.uniform(shape, minval=low, maxval=high))
        h = jnp.clip(jnp.round(jnp.sqrt(area * aspect)), 1, height)
        w = jnp.clip(jnp.round(jnp.sqrt(area / aspect)), 1, width)
        top, left = jnp.floor(jax.random.uniform(place, (2,)) * (jnp.stack([height - h, width - w]) + 1))
        erased = rectangle(height, width, top, left, top + h, left + w)
        erased &= jax.random.bernoulli(whether, self.probability)
        return jnp.where(erased[..., None], jnp.asarray(self.fill, x.dtype), x)

    def check(self) -> None:
        super().check()
        check_probability("probability", self.probability)
        require(0 < self.area[0] <= self.area[1] <= 1, f"area={self.area}: expected two rising shares of the image")
        require(0 < self.aspect[0] <= self.aspect[1], f"aspect={self.aspect}: expected two rising ratios above 0")
        check_fill(self.fill)


def rectangle(height: int, width: int, top, left, bottom, right) -> jax.Array:
    """bool [height, width]: True in rows top to bottom (exclusive) and columns left to right (exclusive)."""
    rows, columns = jnp.arange(height)[:, None], jnp.arange(width)[None]
    return (rows >= top) & (rows < bottom) & (columns >= left) & (columns < right)
