"""Views of an image, mirrored and moved: an evaluation averages over them, or asks how they differ."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def views(images: jax.Array, *, mirrored: bool, moved: int) -> list[tuple[float, jax.Array]]:
    """Views of images [batch, height, width, channels], each with its share of an average; the shares sum to 1.

    Args:
      mirrored: whether half of the average are mirror images, left to right.
      moved: by how many pixels the images of a further half are moved, a quarter of it each way; 0 for none.
    """
    found = [(1.0, images)]
    if mirrored:
        found = [(share / 2, x) for share, view in found for x in (view, view[:, :, ::-1])]
    if moved:
        ways = [(share / 8, x) for share, view in found for x in four_ways(view, moved)]
        found = [(share / 2, view) for share, view in found] + ways
    return found


def four_ways(images: jax.Array, pixels: int) -> list[jax.Array]:
    """Images [batch, height, width, channels] moved up, down, left and right; the pixels that come in are 0."""
    return [moved_by(images, *by) for by in ((-pixels, 0), (pixels, 0), (0, -pixels), (0, pixels))]


def moved_by(images: jax.Array, down: int, right: int) -> jax.Array:
    """Images [batch, height, width, channels] with every pixel that many rows and columns further on; 0 comes in."""
    height, width = images.shape[1:3]
    padding = ((0, 0), *((max(by, 0), max(-by, 0)) for by in (down, right)), (0, 0))
    top, left = max(-down, 0), max(-right, 0)
    return jnp.pad(images, padding)[:, top : top + height, left : left + width]
