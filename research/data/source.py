"""Sources of examples, and reading them into columns; errors name the example that cannot be read.

A column is a NumPy array [example, ...], or an object indexed like one (`Windows`).  Columns have the dtypes of a
device: bool, (u)int8 to (u)int32, float16, bfloat16 and float32.  float64 becomes float32, and 64-bit integers become
int32 if they fit.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np

from research.data.windows import Windows
from research.errors import RequestError, nearest, require


class Source(Protocol):
    """Examples by number.  A source may have five more methods:

    `__getitems__(indices) -> sequence of examples` reads several examples at once, if that is faster;
    `arrays() -> {name: array [example, ...]}` returns whole columns, if they are in memory already;
    `column(name) -> array or None` reads one column without decoding the others (labels, to split by);
    `where(i) -> str` names example i in errors (its file);
    `shared() -> {name: array}` returns shared columns: arrays without an example axis (one big graph, class anchors).

    Its attribute `note`, if it has one, is a phrase about the examples that the launcher prints, such as how many files
    were left out.
    """

    def __len__(self) -> int: ...

    def __getitem__(self, i: int) -> dict[str, np.ndarray]: ...


class Columns:
    """A source whose columns, {name: array [example, ...]}, are in memory, with shared columns if it has any."""

    def __init__(self, columns: Mapping[str, np.ndarray], shared: Mapping[str, np.ndarray] | None = None):
        self._columns = {name: canonical(x, f"column {name!r}") for name, x in columns.items()}
        self._shared = _shared(shared or {})
        self._length = same_length(self._columns)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, i: int) -> dict[str, np.ndarray]:
        return {name: x[i] for name, x in self._columns.items()}

    def arrays(self) -> dict[str, np.ndarray]:
        return dict(self._columns)

    def shared(self) -> dict[str, np.ndarray]:
        return dict(self._shared)

    def take(self, indices: np.ndarray) -> Columns:
        return Columns({name: x[indices] for name, x in self._columns.items()}, self._shared)


class Decoded(Columns):
    """The decoded columns of a source, in memory; errors name the examples as the source does."""

    def __init__(self, columns: Mapping[str, np.ndarray], source: Source):
        super().__init__(columns, shared(source))
        self._source = source

    def where(self, i: int) -> str:
        return where(self._source, i)


class Subset:
    """Some examples of a source, in the order of `indices`."""

    def __init__(self, source: Source, indices: np.ndarray):
        self.source, self.indices = source, np.asarray(indices)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, i: int) -> dict[str, np.ndarray]:
        return self.source[int(self.indices[i])]

    def __getitems__(self, indices: Sequence[int]) -> Sequence[dict[str, np.ndarray]]:
        return examples(self.source, self.indices[np.asarray(indices)])

    def column(self, name: str) -> np.ndarray | None:
        whole = column(self.source, name)
        return None if whole is None else whole[self.indices]

    def where(self, i: int) -> str:
        return where(self.source, int(self.indices[i]))

    def shared(self) -> dict[str, np.ndarray]:
        return shared(self.source)

    def take(self, indices: np.ndarray) -> Subset:
        return Subset(self.source, self.indices[indices])


def subset(source: Source, indices: np.ndarray) -> Source:
    """A source of the examples at `indices`: a copy if the columns are in memory, else a view."""
    return source.take(indices) if hasattr(source, "take") else Subset(source, indices)


def column(source: Source, name: str) -> np.ndarray | None:
    """One column of a source; None if it is missing or cannot be read without decoding everything."""
    if hasattr(source, "arrays"):
        return source.arrays().get(name)
    return source.column(name) if hasattr(source, "column") else None


def where(source: Source, i: int) -> str:
    """The name of example i in an error."""
    return source.where(i) if hasattr(source, "where") else f"example {i}"


def shared(source: Source) -> dict[str, np.ndarray]:
    """The shared columns of a source; {} if it has none.

    Raises:
      RequestError: a shared column holds a number that is not finite.
    """
    found = _shared(source.shared()) if hasattr(source, "shared") else {}
    for name, x in found.items():
        if x.dtype.kind not in "biu" and not np.isfinite(x).all():
            raise RequestError(f"shared column {name!r} holds {_first_bad(x)}; expected finite numbers")
    return found


def _shared(arrays: Mapping[str, Any]) -> dict[str, np.ndarray]:
    return {name: canonical(x, f"shared column {name!r}") for name, x in arrays.items()}


def examples(source: Source, indices: Sequence[int]) -> Sequence[dict[str, np.ndarray]]:
    """The examples at `indices`, read at once if the source supports it."""
    indices = [int(i) for i in indices]
    return source.__getitems__(indices) if hasattr(source, "__getitems__") else [source[i] for i in indices]


def canonical(value: Any, what: str) -> np.ndarray | Windows:
    """Converts `value` to an array of a dtype that a device supports.

    Raises:
      RequestError: the value cannot be converted; the message begins with `what`.
    """
    if isinstance(value, Windows):
        return dataclasses.replace(value, values=canonical(value.values, what))
    array = np.asarray(value)
    if array.dtype.kind not in "biuf" and array.dtype.name != "bfloat16":
        kind = "text" if array.dtype.kind in "US" or isinstance(value, str | bytes) else f"of dtype {array.dtype}"
        raise RequestError(f"{what} is {kind}; a batch holds numbers of one shape per field")
    if array.dtype == np.float64:
        return array.astype(np.float32)
    if array.dtype in (np.int64, np.uint64):
        limits = np.iinfo(np.int32)
        fits = array.size == 0 or (array.min() >= limits.min and array.max() <= limits.max)
        require(fits, f"{what} holds integers beyond 32 bits, such as {array.max() if array.size else 0}")
        return array.astype(np.int32)
    return array


def same_length(columns: Mapping[str, np.ndarray], what: str = "columns") -> int:
    """The number of examples in `columns`.

    Raises:
      RequestError: there are no columns, one has no example axis, or their lengths differ.
    """
    require(bool(columns), f"{what}: there are none; expected arrays [example, ...] by name")
    scalars = [name for name, x in columns.items() if np.ndim(x) == 0]
    require(not scalars, f"{what}: {', '.join(scalars)} has no axis of examples; expected arrays [example, ...]")
    lengths = {name: len(x) for name, x in columns.items()}
    listed = ", ".join(f"{name} {n:,}" for name, n in lengths.items())
    require(len(set(lengths.values())) == 1, f"{what}: the numbers of examples differ ({listed})")
    return next(iter(lengths.values()))


def first_example(source: Source) -> dict[str, np.ndarray]:
    """Example 0 of a source, whose shapes and dtypes all other examples must have."""
    require(len(source) > 0, "the data set is empty: expected at least one example")
    return {name: canonical(x, f"{where(source, 0)}: {name!r}") for name, x in examples(source, [0])[0].items()}


def nbytes(source: Source) -> int:
    """Bytes of all columns after decoding."""
    if hasattr(source, "arrays"):
        return sum(x.nbytes for x in source.arrays().values())
    return len(source) * sum(x.nbytes for x in first_example(source).values())


def read(source: Source, indices: np.ndarray, first: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Reads the examples at `indices` into columns with the shapes and dtypes of `first` (see `first_example`).

    Raises:
      RequestError: an example lacks a field, has another shape or dtype, or holds a number that is not finite; the
        message names the example.
    """
    columns = {name: np.empty((len(indices), *x.shape), x.dtype) for name, x in first.items()}
    for row, example in enumerate(examples(source, indices)):
        for name, x in columns.items():
            if name not in example:
                raise RequestError(f"{where(source, indices[row])}: no {name!r}; {nearest(name, example)}")
            value = canonical(example[name], f"{where(source, indices[row])}: {name!r}")
            if value.shape != x.shape[1:] or value.dtype != x.dtype:
                raise RequestError(
                    f"{where(source, indices[row])}: {name!r} is {value.dtype} {list(value.shape)}, but that of "
                    f"{where(source, 0)} is {x.dtype} {list(x.shape[1:])}; all examples need one shape and dtype"
                )
            x[row] = value
    _check_finite(columns, lambda row: where(source, indices[row]))
    return columns


def materialize(source: Source, threads: int | None = None) -> dict[str, np.ndarray]:
    """Decodes all columns of a source with `threads` threads (None: one per core, up to 16); raises as `read` does."""
    if hasattr(source, "arrays"):
        require(len(source) > 0, "the data set is empty: expected at least one example")
        columns = source.arrays()
        _check_finite(columns, lambda row: where(source, row))
        return columns
    first = first_example(source)
    columns = {name: np.empty((len(source), *x.shape), x.dtype) for name, x in first.items()}

    def decode(start: int) -> None:
        indices = np.arange(start, min(start + _CHUNK, len(source)))
        for name, x in read(source, indices, first).items():
            columns[name][start : start + len(indices)] = x

    with ThreadPoolExecutor(threads or min(16, os.cpu_count() or 1)) as pool:
        list(pool.map(decode, range(0, len(source), _CHUNK)))
    return columns


def chunks(source: Source | Mapping[str, np.ndarray], size: int = 1024) -> Iterator[dict[str, np.ndarray]]:
    """Yields the examples of a source, or of columns, in order, as batches of up to `size`."""
    source = Columns(source) if isinstance(source, Mapping) else source
    if hasattr(source, "arrays"):
        columns = source.arrays()
        yield from ({name: x[i : i + size] for name, x in columns.items()} for i in range(0, len(source), size))
        return
    first = first_example(source)
    for start in range(0, len(source), size):
        yield read(source, np.arange(start, min(start + size, len(source))), first)


_CHUNK = 256  # examples decoded at a time: enough for reading ahead, few enough to keep all threads busy


def _check_finite(columns: Mapping[str, np.ndarray], name_row) -> None:
    for name, x in columns.items():
        if x.dtype.kind in "biu":
            continue
        for start in range(0, len(x), _CHUNK):
            finite = np.isfinite(x[start : start + _CHUNK])
            if not finite.all():
                row = start + int(np.argwhere(~finite)[0][0])
                raise RequestError(f"{name_row(row)}: {name!r} holds {_first_bad(x[row])}; expected finite numbers")


def _first_bad(x: np.ndarray) -> str:
    flat: Iterable = np.ravel(x)
    return next(str(float(v)) for v in flat if not np.isfinite(v))
