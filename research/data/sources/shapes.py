"""Examples of which only the shapes are known."""

from __future__ import annotations

import dataclasses

import numpy as np

from research.data.source import canonical
from research.data.spec import Data, Splits
from research.errors import RequestError, require


@dataclasses.dataclass(frozen=True)
class Shapes(Data):
    """Columns by name, with the shape and the dtype of an example: enough to compile a step, but not to train.

    >>> Shapes((("tokens", (8,), "int32"), ("targets", (8,), "int32"))).example()["tokens"].shape
    (8,)

    Attributes:
      columns: (name, shape, dtype) of each column.
    """

    columns: tuple[tuple[str, tuple[int, ...], str], ...]

    def check(self) -> None:
        super().check()
        for name, shape, dtype in self.columns:
            with_dtype = f"columns: {name} {dtype}"
            require(all(size >= 1 for size in shape), f"{with_dtype} {list(shape)}: expected sizes of at least 1")
            try:
                np.dtype(dtype)
            except TypeError:
                raise RequestError(f"{with_dtype}: expected a dtype such as int32, uint8, float32 or bool") from None

    def example(self) -> dict[str, np.ndarray]:
        return {name: canonical(np.zeros(shape, dtype), name) for name, shape, dtype in self.columns}

    def read(self) -> Splits:
        raise RequestError("data: only the shapes of its examples are known; they can be compiled, but not trained on")
