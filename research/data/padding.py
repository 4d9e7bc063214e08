"""Pads rows of different lengths at the end into one array."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from research.data.feed import MASK


def lengths_of(rows: Sequence[np.ndarray]) -> np.ndarray:
    """The length of each row, int32 [row]."""
    return np.array([len(row) for row in rows], np.int32)


def padded_rows(rows: Sequence[np.ndarray], width: int, dtype: type = np.int32) -> np.ndarray:
    """Stacks rows as [row, width], padded at the end with 0, which is silence in audio and "<pad>" in text."""
    padded = np.zeros((len(rows), width), dtype)
    padded[np.arange(width) < lengths_of(rows)[:, None]] = np.concatenate(rows)
    return padded


def padded_columns(name: str, rows: Sequence[np.ndarray], most: int, dtype: type = np.int32) -> dict[str, np.ndarray]:
    """Pads rows for prediction: {name: [row, length], name + "_mask": bool [row, length]}, at most `most` long."""
    lengths = lengths_of(rows)
    width = padded_length(int(lengths.max()), most)
    return {name: padded_rows(rows, width, dtype), f"{name}{MASK}": np.arange(width) < lengths[:, None]}


def padded_length(length: int, most: int) -> int:
    """Rounds a length up to 1, 2, 3, 4, 6, 8, 12, 16, ... (powers of two and their midpoints), but not above `most`.

    >>> [padded_length(n, most=50) for n in (3, 5, 9, 40)]
    [3, 6, 12, 48]
    """
    power = 1 << (length - 1).bit_length()
    middle = power * 3 // 4
    return max(length, min(middle if length <= middle else power, most))
