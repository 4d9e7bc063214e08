"""Overlapping windows over one array, stored once.

    rows = Windows(tokens, length=65)       # one row per position where 65 tokens begin
    rows[3]                                 # tokens[3:68]
    rows[np.array([3, 70, 5])]              # [3, 65]

Windows are indexed like the array [row, length] that they represent, both on the host and inside a compiled program;
only `values` is stored on the device.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class Windows:
    """An array of overlapping rows: row i is values[i · stride : i · stride + length].

    Attributes:
      values: [values], at least `length` of them, in a dtype that devices support.
      length: the length of a row.
      stride: the distance between the starts of consecutive rows.

    >>> Windows(np.arange(6), length=3, stride=2)[1].tolist()
    [2, 3, 4]
    """

    values: Any
    length: int
    stride: int = 1

    def __len__(self) -> int:
        return (len(self.values) - self.length) // self.stride + 1

    def __getitem__(self, index: Any) -> Any:
        """Row `index` [length], or [rows, length] for an array or slice of indices."""
        if isinstance(index, slice):
            index = np.arange(*index.indices(len(self)))
        index = index if hasattr(index, "ndim") else np.asarray(index)
        return self.values[self.stride * index[..., None] + np.arange(self.length, dtype=np.int32)]

    @property
    def shape(self) -> tuple[int, int]:
        return (len(self), self.length)

    @property
    def ndim(self) -> int:
        return 2

    @property
    def dtype(self) -> np.dtype:
        return self.values.dtype

    @property
    def nbytes(self) -> int:
        """The size in bytes of the stored values, not of the rows."""
        return self.values.nbytes

    def min(self) -> Any:
        return self.values.min()

    def max(self) -> Any:
        return self.values.max()
