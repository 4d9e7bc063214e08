"""Test-time augmentation: mirrored and shifted images, to average logits over or to compare."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def mirrored_and_moved(images: jax.Array, *, mirrored: bool, moved: int) -> list[tuple[float, jax.Array]]:
    """Returns variants of images [batch, height, width, channels], each with its weight; weights sum to 1.

    Args:
      mirrored: give half of the weight to mirror images, left to right.
      moved: give half of the weight to images shifted by so many pixels, in equal parts for four directions; 0: none.
    """
    found = [(1.0, images)]
    if mirrored:
        found = [(share / 2, x) for share, image in found for x in (image, image[:, :, ::-1])]
    if moved:
        ways = [(share / 8, x) for share, image in found for x in four_ways(image, moved)]
        found = [(share / 2, image) for share, image in found] + ways
    return found


def four_ways(images: jax.Array, pixels: int) -> list[jax.Array]:
    """Shifts images [batch, height, width, channels] up, down, left and right; new pixels are 0."""
    return [moved_by(images, *by) for by in ((-pixels, 0), (pixels, 0), (0, -pixels), (0, pixels))]


def moved_by(images: jax.Array, down: int, right: int) -> jax.Array:
    """Shifts images [batch, height, width, channels] by rows and columns; new pixels are 0."""
    height, width = images.shape[1:3]
    padding = ((0, 0), *((max(by, 0), max(-by, 0)) for by in (down, right)), (0, 0))
    top, left = max(-down, 0), max(-right, 0)
    return jnp.pad(images, padding)[:, top : top + height, left : left + width]
