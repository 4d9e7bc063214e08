"""Windows over one array: a column of overlapping rows that holds the array once.

    rows = Windows(tokens, length=65)       # a row for every place where 65 tokens begin
    rows[3]                                 # tokens[3:68]
    rows[np.array([3, 70, 5])]              # [3, 65]

It is indexed like the array [row, length] that it stands for, on the host and inside a compiled program, where
`values` is what lives on the device.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class Windows:
    """Row i is values[i · stride : i · stride + length].

    Attributes:
      values: [values], at least `length` of them; of a dtype that a device holds.
      length: of a row.
      stride: from the start of a row to that of the next one.
    """

    values: Any
    length: int
    stride: int = 1

    def __len__(self) -> int:
        return (len(self.values) - self.length) // self.stride + 1

    def __getitem__(self, index: Any) -> Any:
        """Row `index` [length]; for an array or a slice of them, [rows, length]."""
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
        """Bytes of what is held: the values, not the rows."""
        return self.values.nbytes

    def min(self) -> Any:
        return self.values.min()

    def max(self) -> Any:
        return self.values.max()
