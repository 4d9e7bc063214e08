"""Position encodings for image patches: fixed sines and cosines, and resizing of learned grids."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from research.layers.positions import sinusoidal


def sincos_2d(height: int, width: int, features: int, *, period: float = 10000.0) -> jax.Array:
    """Sinusoidal encodings [height · width, features] in float32: half of the features encode the row, half the column.

    Each half is all sines, then all cosines (Vaswani et al., 2017, in two dimensions; Chen et al., 2021); `features` is
    a multiple of 4.
    """
    rows, columns = jnp.meshgrid(jnp.arange(height), jnp.arange(width), indexing="ij")
    halves = [sinusoidal(axis.ravel(), features // 2, interleaved=False, period=period) for axis in (rows, columns)]
    return jnp.concatenate(halves, axis=-1)


def sincos_of_mask(mask: jax.Array, features: int, *, period: float = 10000.0) -> jax.Array:
    """Sinusoidal encodings [batch, height, width, features] of the visible part of each map (Carion et al., 2020).

    Rows and columns are counted in the mask, bool [batch, height, width], and scaled so that the last one is 2π.  Half
    of the features encode the row, half the column, sines and cosines in turns; `features` is a multiple of 4.
    """
    encoded = []
    for axis in (1, 2):
        counted = jnp.cumsum(mask.astype(jnp.float32), axis)
        last = jax.lax.slice_in_dim(counted, counted.shape[axis] - 1, None, axis=axis)
        angle = 2 * np.pi * counted / (last + 1e-6)
        angle = angle[..., None] / period ** (np.arange(0, features // 2, 2, dtype=np.float32) / (features // 2))
        waves = jnp.stack([jnp.sin(angle), jnp.cos(angle)], -1)
        encoded.append(waves.reshape(*mask.shape, features // 2))
    return jnp.concatenate(encoded, -1)


def resize_grid(grid: jax.Array, size: tuple[int, int], *, cubic: float = -0.75) -> jax.Array:
    """Resizes [height, width, features] to [*size, features] by bicubic interpolation between cell centres.

    Args:
      cubic: the kernel's free parameter a: −0.75 as in PyTorch's `interpolate`, used to resize published Vision
        Transformers; −0.5 is Keys' kernel.
    """
    rows, columns = (_bicubic(old, new, cubic) for old, new in zip(grid.shape[:2], size, strict=True))
    return jnp.einsum("Hh,Ww,hwd->HWd", rows, columns, grid, precision="highest").astype(grid.dtype)


def _bicubic(old: int, new: int, a: float) -> np.ndarray:
    """The weight of each old cell in each new one, [new, old]; the border value extends beyond the border."""
    centre = (np.arange(new) + 0.5) * old / new - 0.5
    first = np.floor(centre).astype(int) - 1
    weights = np.zeros((new, old))
    for tap in range(4):
        cell = first + tap
        x = np.abs(centre - cell)
        near = ((a + 2) * x - (a + 3)) * x * x + 1
        far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
        np.add.at(weights, (np.arange(new), np.clip(cell, 0, old - 1)), np.where(x <= 1, near, far))
    return weights.astype(np.float32)
