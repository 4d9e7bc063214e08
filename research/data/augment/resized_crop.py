"""Random resized crops: a random part of the image, scaled to one size ("Inception" crops; Szegedy et al., 2015)."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from research.data.augment.augmentation import Augmentation, require_image
from research.errors import require


@dataclasses.dataclass(frozen=True)
class RandomResizedCrop(Augmentation):
    """Crops a random rectangle and resizes it to `size`, bilinearly with antialiasing; the result is float32.

    As in torchvision, the first of ten random rectangles that fits is used, otherwise the largest central one with an
    aspect in bounds.  The host first decodes images to one fixed shape, somewhat larger than `size` (256 for 224).

    Near the border of the rectangle, interpolation uses pixels from outside it, whereas torchvision crops first.

    Evaluation uses images as decoded by the host; add `CenterCrop` to `preprocess` to crop their centre.

    >>> crop = RandomResizedCrop((224, 224))
    >>> jax.eval_shape(crop, jax.random.key(0), {"image": jnp.zeros((256, 256, 3))})["image"].shape
    (224, 224, 3)

    Attributes:
      size: (height, width) of the result in pixels.
      area: the minimum and maximum area of the rectangle, as a fraction of the image.
      aspect: the minimum and maximum of its width divided by its height (log-uniform).
    """

    size: tuple[int, int] = (224, 224)
    area: tuple[float, float] = (0.08, 1.0)
    aspect: tuple[float, float] = (3 / 4, 4 / 3)

    def apply(self, key: jax.Array, x: jax.Array) -> jax.Array:
        """Crops x [height, width, channels] to [*size, channels]."""
        require_image(self, x)
        top, left, height, width = self.window(key, *x.shape[:2])
        scale = jnp.stack([self.size[0] / height, self.size[1] / width])
        moved = -jnp.stack([top, left]) * scale
        dtype = x.dtype if jnp.issubdtype(x.dtype, jnp.floating) else jnp.float32
        shape = (*self.size, x.shape[-1])
        return jax.image.scale_and_translate(x.astype(dtype), shape, (0, 1), scale, moved, "linear")

    def window(self, key: jax.Array, height: int, width: int) -> tuple[jax.Array, ...]:
        """Draws the rectangle (top, left, height, width) in an image of that height and width, in whole pixels."""
        area_key, aspect_key, place_key = jax.random.split(key, 3)
        area = jax.random.uniform(area_key, (10,), minval=self.area[0], maxval=self.area[1]) * height * width
        low, high = jnp.log(jnp.asarray(self.aspect))
        aspect = jnp.exp(jax.random.uniform(aspect_key, (10,), minval=low, maxval=high))
        heights, widths = jnp.round(jnp.sqrt(area / aspect)), jnp.round(jnp.sqrt(area * aspect))
        fits = (heights >= 1) & (widths >= 1) & (heights <= height) & (widths <= width)
        first = jnp.argmax(fits)
        place = jax.random.uniform(place_key, (2,))
        whole = min(max(width / height, self.aspect[0]), self.aspect[1])
        central = (min(height, round(width / whole)), min(width, round(height * whole)))
        h = jnp.where(fits.any(), heights[first], central[0])
        w = jnp.where(fits.any(), widths[first], central[1])
        top = jnp.where(fits.any(), jnp.floor(place[0] * (height - h + 1)), (height - central[0]) // 2)
        left = jnp.where(fits.any(), jnp.floor(place[1] * (width - w + 1)), (width - central[1]) // 2)
        return top, left, h, w

    def check(self) -> None:
        super().check()
        require(len(self.size) == 2 and min(self.size) >= 1, f"size={self.size}: expected (height, width) in pixels")
        require(0 < self.area[0] <= self.area[1] <= 1, f"area={self.area}: expected two rising shares of the image")
        require(0 < self.aspect[0] <= self.aspect[1], f"aspect={self.aspect}: expected two rising ratios above 0")
