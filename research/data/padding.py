"""Rows of many lengths as one array, padded behind."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from research.data.feed import MASK


def lengths_of(rows: Sequence[np.ndarray]) -> np.ndarray:
    """int32 [row]."""
    return np.array([len(row) for row in rows], np.int32)


def padded_rows(rows: Sequence[np.ndarray], width: int, dtype: type = np.int32) -> np.ndarray:
    """[row, width], with 0 behind each: silence, and the number of "<pad>"."""
    padded = np.zeros((len(rows), width), dtype)
    padded[np.arange(width) < lengths_of(rows)[:, None]] = np.concatenate(rows)
    return padded


def padded_columns(name: str, rows: Sequence[np.ndarray], most: int, dtype: type = np.int32) -> dict[str, np.ndarray]:
    """Rows of what is to be predicted on as the column of that name and its mask, [row, length]."""
    lengths = lengths_of(rows)
    width = padded_length(int(lengths.max()), most)
    return {name: padded_rows(rows, width, dtype), f"{name}{MASK}": np.arange(width) < lengths[:, None]}


def padded_length(length: int, most: int) -> int:
    """The next of 1, 2, 3, 4, 6, 8, 12, 16, ... (powers of two, and their middles) and `most`, which ends them."""
    power = 1 << (length - 1).bit_length()
    middle = power * 3 // 4
    return max(length, min(middle if length <= middle else power, most))
