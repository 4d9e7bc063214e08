"""Random resized crop: a random part of the image, brought to one size (Szegedy et al., 2015: "Inception" crops)."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from research.data.augment.augmentation import Augmentation, require_image
from research.errors import require


@dataclasses.dataclass(frozen=True)
class RandomResizedCrop(Augmentation):
    """A rectangle of the image, bilinearly resized (with antialiasing) to `size`; float32.

    `area` bounds its share of the image, `aspect` its width over its height, evenly in the logarithm.  Of ten
    rectangles drawn the first that fits is taken, else the largest central one of an aspect within bounds, as in
    torchvision.  The host decodes to one fixed shape first, somewhat larger than `size` (256 for 224).

    Near the border of the rectangle, interpolation mixes in pixels from outside it, where torchvision crops first.

    Evaluation sees images as the host gave them: `CenterCrop` of transforms.py, in `preprocess`, takes their middle.
    """

    size: tuple[int, int] = (224, 224)
    area: tuple[float, float] = (0.08, 1.0)
    aspect: tuple[float, float] = (3 / 4, 4 / 3)

    def apply(self, key: jax.Array, x: jax.Array) -> jax.Array:
        """x: [height, width, channels] to [*size, channels]."""
        require_image(self, x)
        top, left, height, width = self.window(key, *x.shape[:2])
        scale = jnp.stack([self.size[0] / height, self.size[1] / width])
        moved = -jnp.stack([top, left]) * scale
        dtype = x.dtype if jnp.issubdtype(x.dtype, jnp.floating) else jnp.float32
        shape = (*self.size, x.shape[-1])
        return jax.image.scale_and_translate(x.astype(dtype), shape, (0, 1), scale, moved, "linear")

    def window(self, key: jax.Array, height: int, width: int) -> tuple[jax.Array, ...]:
        """(top, left, height, width) of the rectangle in an image of that height and width, in whole pixels."""
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
