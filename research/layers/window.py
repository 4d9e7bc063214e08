"""The geometry of convolution windows: output sizes, and the pixels that each kernel pixel sees."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

Pads = tuple[tuple[int, int], tuple[int, int]]
"""Zero padding around a map: ((top, bottom), (left, right))."""


class Window(NamedTuple):
    """The strides, padding and groups of a convolution; hashable."""

    strides: tuple[int, int]
    padding: Pads
    groups: int = 1


def output_size(shape: tuple[int, ...], weights: tuple[int, ...], window: Window) -> tuple[int, int]:
    """The (height, width) of the output for a map and weights of these shapes."""
    return tuple(
        (shape[1 + axis] + sum(window.padding[axis]) - weights[axis]) // window.strides[axis] + 1 for axis in range(2)
    )


def tiles(shape: tuple[int, ...], weights: tuple[int, ...], window: Window) -> bool:
    """True if the windows tile the map: side by side, covering every pixel once."""
    return (
        window.padding == ((0, 0), (0, 0))
        and tuple(weights[:2]) == window.strides
        and all(size % stride == 0 for size, stride in zip(shape[1:3], window.strides, strict=True))
    )


def shifted(x: jax.Array, weights: tuple[int, ...], window: Window) -> list[jax.Array]:
    """The pixels that each kernel pixel sees, row by row: each [batch, height, width, channels] of output size."""
    size = output_size(x.shape, weights, window)
    padded = jnp.pad(x, ((0, 0), *window.padding, (0, 0)))
    last = [stride * (count - 1) + 1 for stride, count in zip(window.strides, size, strict=True)]
    return [
        lax.slice(padded, (0, i, j, 0), (len(x), i + last[0], j + last[1], x.shape[-1]), (1, *window.strides, 1))
        for i in range(weights[0])
        for j in range(weights[1])
    ]


def cropped(x: jax.Array, weights: jax.Array, window: Window) -> tuple[jax.Array, Window]:
    """Removes kernel rows and columns that only ever see padding: on a single pixel, a 3×3 kernel becomes 1×1."""
    size = output_size(x.shape, weights.shape, window)
    cuts, padding = [], []
    for axis in range(2):
        length, stride, (low, high) = x.shape[1 + axis], window.strides[axis], window.padding[axis]
        positions = range(-low, -low + stride * size[axis], stride)  # of the kernel's first pixel
        extent = weights.shape[axis]
        live = [i for i in range(extent) if any(0 <= position + i < length for position in positions)]
        cut = slice(live[0], live[-1] + 1) if live else slice(0, extent)
        cuts.append(cut)
        padding.append((low - cut.start, high - (extent - cut.stop)))
    whole = all(cut == slice(0, extent) for cut, extent in zip(cuts, weights.shape, strict=False))
    return (weights, window) if whole else (weights[tuple(cuts)], window._replace(padding=tuple(padding)))
