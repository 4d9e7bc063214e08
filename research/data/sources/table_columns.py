"""Columns of a table as features: numbers, booleans and categories."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from research.console import counted
from research.data.sources.number_text import number_advice, remedy
from research.errors import RequestError, require

Where = Callable[[int], str]  # the name of row i in an error

_SHOWN = 4  # values of a column that `inferred_column` names
_LONGEST = 24  # characters of such a value
_TRUE, _FALSE = ("true", "t", "yes", "y", "1"), ("false", "f", "no", "n", "0")


@dataclasses.dataclass(frozen=True)
class Number:
    """A column of numbers: one feature, and a second one (1 if the value is missing) if training values are missing.

    >>> Number("age", mean=40.0, indicator=True).features
    ('age', 'age missing')

    Attributes:
      name: the name of the column.
      mean: fills in missing values; None takes the mean of the training split.
      indicator: add the second feature; None adds it if training values are missing.
    """

    name: str
    mean: float | None = None
    indicator: bool | None = None

    def fit(self, values: pa.Array, where: Where) -> Self:
        x = self.parse(values, where)
        known = x[~np.isnan(x)]
        require(known.size > 0, f"column {self.name!r} has no value in the training split")
        return dataclasses.replace(self, mean=float(known.mean()), indicator=bool(known.size < x.size))

    def encode(self, values: pa.Array, where: Where) -> np.ndarray:
        """Returns float64 [row, feature]."""
        x = self.parse(values, where)
        missing = np.isnan(x)
        filled = np.where(missing, self.mean, x)
        return np.stack([filled, missing] if self.indicator else [filled], axis=1)

    def parse(self, values: pa.Array, where: Where) -> np.ndarray:
        """Returns float64 [row], NaN if missing."""
        return as_numbers(values, self.name, where)

    def described(self, values: pa.Array, where: Where) -> dict[str, str]:
        """Describes the column for `Data.inferred`."""
        x = self.parse(values, where)
        known = np.unique(x[~np.isnan(x)])
        kind = type(self).__name__.lower()
        return inferred_column(self.name, kind, known.size, int(np.isnan(x).sum()), self._shown(values, known))

    @property
    def features(self) -> tuple[str, ...]:
        return (self.name, f"{self.name} missing") if self.indicator else (self.name,)

    def _shown(self, values: pa.Array, known: np.ndarray) -> Sequence[str]:
        return [f"{known[0]:g} to {known[-1]:g}"] if known.size else []


@dataclasses.dataclass(frozen=True)
class Boolean(Number):
    """A column of true and false (also yes/no, t/f, y/n, 1/0, in any case): a Number of ones and zeros.

    >>> Boolean("married", mean=0.5, indicator=False).features
    ('married',)

    Attributes:
      name, mean, indicator: as in `Number`.
    """

    def parse(self, values: pa.Array, where: Where) -> np.ndarray:
        known = {**dict.fromkeys(_TRUE, 1.0), **dict.fromkeys(_FALSE, 0.0), None: np.nan}
        words = [None if v is None else v.lower() for v in as_text(values).to_pylist()]
        for i, word in enumerate(words):
            require(word in known, f"{where(i)}, column {self.name!r}: {word!r} is neither true nor false")
        return np.array([known[word] for word in words], np.float64)

    def _shown(self, values: pa.Array, known: np.ndarray) -> Sequence[str]:
        return distinct(values)


@dataclasses.dataclass(frozen=True)
class Category:
    """A column of categories: one-hot over `values`; missing and unknown values are zeros.

    >>> Category("colour", values=("blue", "red")).features
    ('colour=blue', 'colour=red')

    Attributes:
      name: the name of the column.
      values: the categories in order; None takes those of the training split.
    """

    name: str
    values: tuple[str, ...] | None = None

    def fit(self, values: pa.Array, where: Where) -> Self:
        found = distinct(values)
        require(bool(found), f"column {self.name!r} has no value in the training split")
        return dataclasses.replace(self, values=found)

    def encode(self, values: pa.Array, where: Where) -> np.ndarray:
        """Returns float64 [row, feature]."""
        codes = coded(values, self.values)
        return (codes[:, None] == np.arange(len(self.values))).astype(np.float64)

    def described(self, values: pa.Array, where: Where) -> dict[str, str]:
        """Describes the column for `Data.inferred`."""
        kind = f"category, {counted(len(self.values), 'feature')}"
        words = distinct(values)
        return inferred_column(self.name, kind, len(words), values.null_count, words)

    @property
    def features(self) -> tuple[str, ...]:
        return tuple(f"{self.name}={value}" for value in self.values)


Column = Number | Boolean | Category


def inferred(name: str, values: pa.Array) -> Column:
    """Infers a column from its values: booleans or numbers, otherwise categories.

    Raises:
      RequestError: values of another type, text with too many different values for categories, or numbers that are
        not written as such.
    """
    if pa.types.is_boolean(values.type):
        return Boolean(name)
    if is_numeric(values):
        return Number(name)
    if not (pa.types.is_string(values.type) or pa.types.is_null(values.type)):
        raise RequestError(f"column {name!r} holds {values.type}, expected numbers, booleans or text; add it to ignore")
    words = distinct(values)
    advice = number_advice(words)
    if advice:
        raise RequestError(f"column {name!r} {advice}, or name the columns you want (Category({name!r}) for this one)")
    if words and {word.lower() for word in words} <= {*_TRUE, *_FALSE}:
        return Boolean(name)
    known = pc.count(values).as_py()
    if len(words) > 1000 or (len(words) > 20 and len(words) > known / 2):
        raise RequestError(
            f"column {name!r} is text with {len(words):,} values in {known:,} rows; "
            f"add it to ignore, or name the columns you want (Category({name!r}) for this one)"
        )
    return Category(name)


def inferred_column(
    name: str, kind: str, distinct: int | None = None, missing: int = 0, values: Sequence[str] = ()
) -> dict[str, str]:
    """Describes a column for `Data.inferred`; a column that is left out has no numbers."""
    shown = [*values[:_SHOWN], f"and {len(values) - _SHOWN:,} more"] if len(values) > _SHOWN + 1 else values
    return {
        "column": name or "(no name)",
        "read as": kind,
        "distinct": "" if distinct is None else f"{distinct:,}",
        "missing": "" if distinct is None else f"{missing:,}",
        "values": ", ".join(value if len(value) <= _LONGEST else f"{value[:_LONGEST]}…" for value in shown),
    }


def is_numeric(values: pa.Array) -> bool:
    """True if all values that are not missing are numbers, also as text."""
    if pa.types.is_string(values.type):
        try:
            return values.null_count < len(values) and values.cast(pa.float64()) is not None
        except pa.ArrowInvalid:
            return False
    return pa.types.is_integer(values.type) or pa.types.is_floating(values.type) or pa.types.is_decimal(values.type)


def as_numbers(values: pa.Array, name: str, where: Where) -> np.ndarray:
    """Converts values to float64 [row], NaN if missing; an error names the row and the column."""
    try:
        x = values.cast(pa.float64()).to_numpy(zero_copy_only=False).astype(np.float64)
    except pa.ArrowException:  # a value that is none, or a type that has no cast
        for i, value in enumerate(values):
            if not _is_number(value):
                given = value.as_py()
                advice = remedy(given) if isinstance(given, str) else None
                hint = f"; {advice}" if advice else ""
                raise RequestError(f"{where(i)}, column {name!r}: {given!r} is not a number{hint}") from None
        raise
    for i in np.flatnonzero(np.isinf(x) | (np.abs(x) > np.finfo(np.float32).max))[:1]:
        raise RequestError(f"{where(i)}, column {name!r}: {values[int(i)].as_py()} is not a finite float32")
    return x


def _is_number(value: pa.Scalar) -> bool:
    try:
        value.cast(pa.float64())
    except pa.ArrowException:  # a value that is none, or a type that has no cast
        return False
    return True


def as_text(values: pa.Array) -> pa.Array:
    """Converts values to text."""
    return values.cast(pa.string())


def distinct(values: pa.Array) -> tuple[str, ...]:
    """The distinct values as text, sorted; by size if all are numbers."""
    found = as_text(values).unique().drop_null()
    words = found.to_pylist()
    return tuple(sorted(words, key=float) if words and is_numeric(found) else sorted(words))


def coded(values: pa.Array, names: tuple[str, ...]) -> np.ndarray:
    """The index of each value in `names`, or -1, int32 [row]."""
    codes = pc.index_in(as_text(values), value_set=pa.array(names, pa.string()))
    return pc.fill_null(codes, -1).to_numpy(zero_copy_only=False).astype(np.int32)
