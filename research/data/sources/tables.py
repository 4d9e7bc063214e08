"""Tables in CSV, TSV or Parquet files: typed columns become a vector of features and a target."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from research.data.source import Columns, Source
from research.data.sources.number_text import number_advice, plain_numbers
from research.data.sources.table_columns import (
    Category,
    Column,
    Number,
    as_numbers,
    as_text,
    coded,
    distinct,
    inferred,
    inferred_column,
    is_numeric,
)
from research.data.sources.table_files import check_columns, check_delimiter, read_table, row_indices
from research.data.spec import Data, Splits, check_amount
from research.errors import RequestError, nearest, require

TargetType = Literal["auto", "class", "number"]


@dataclasses.dataclass(frozen=True)
class Table(Data):
    """Rows of a .csv or .tsv (also .gz) or .parquet file: features float32 [d], and label int32 or target float32.

    >>> data = Table(path="houses.csv", target="price", ignore=("id",), test=0.2)

    `fit` fills in fields from the training split: types of columns, categories, means, class names.  Whitespace around
    values is removed.  The row index that pandas writes beside the data is no input unless `columns` lists it.

    Attributes:
      path: the file.
      target: the column to predict.
      columns: the input columns in order; None takes all but `target` and `ignore`, with types inferred from the
        training values: booleans or numbers, otherwise categories.
      ignore: columns that are not inputs.
      target_type: "class" or "number"; "auto" is "number" if the target holds numbers, otherwise "class".
      class_names: the classes in order; None takes those of the training split.
      test: the fraction or number of rows of `path` to hold out as the test split.
      test_path: a file with test rows, instead of `test`.
      column_names: the names of the columns of a CSV without a header.
      delimiter: the delimiter of a CSV, a tab in .tsv files; " " stands for any number of blanks and tabs.
      decimal: the decimal point of numbers in text: "." or ",".
      thousands: the separator of thousands in them, such as "," in 1,000; "" for none.
      missing: words of a CSV that represent a missing value.
      comment: the prefix of lines of a CSV to skip.
      quoted: values of a CSV may stand in double quotes; False takes quotes as part of the values, as in a .tsv file of
        a program that knows no quotes.
      target_suffix: removed from the target's values, such as "." in the test file of UCI Adult.
    """

    path: str
    target: str
    columns: tuple[Column, ...] | None = None
    ignore: tuple[str, ...] = ()
    target_type: TargetType = "auto"
    class_names: tuple[str, ...] | None = None
    test: float | int = 0.2
    test_path: str | None = None
    column_names: tuple[str, ...] | None = None
    delimiter: str = ","
    decimal: Literal[".", ","] = "."
    thousands: Literal["", ",", ".", " ", "'", "’", "_"] = ""
    missing: tuple[str, ...] = ("", "NA", "N/A", "NaN", "nan", "null")
    comment: str | None = None
    target_suffix: str = ""
    quoted: bool = True

    def read(self) -> Splits:
        rows = self._rows(self.path)
        if self.test_path is not None:
            return Splits(train=rows, test=self._rows(self.test_path))
        train, test = self.hold_out(rows, "test")
        return Splits(train=train, test=test)

    def load(self) -> Splits:
        raw = super().load()
        fitted = self.fit(raw.train)
        train, *others = (rows and _Encoded(fitted._encode(rows), rows) for rows in raw)
        if self.columns is None:
            train.note = fitted._looks_odd(raw.train)
        return Splits(train, *others)

    def fit(self, train: Source) -> Self:
        """Fills in `columns` with their categories and means, `target_type` and `class_names`."""
        rows = train.rows
        columns = self._inferred(rows) if self.columns is None else self.columns
        target_type, class_names, values = self.target_type, self.class_names, self._target(rows)
        if target_type == "auto":
            target_type = self._inferred_type(values)
        if target_type == "class" and class_names is None:
            class_names = distinct(values)
            require(len(class_names) > 1, f"target={self.target!r}: the training split has fewer than two classes")
        columns = tuple(column.fit(rows.values(column.name), rows.where) for column in columns)
        return dataclasses.replace(self, columns=columns, target_type=target_type, class_names=class_names)

    def encode(self, raw: Sequence[Mapping[str, Any]] | Mapping[str, Sequence[Any]]) -> dict[str, np.ndarray]:
        """Encodes rows for prediction, a list of dicts or a dict of columns, as features float32 [row, d].

        None, NaN and the words of `missing` are missing values, filled in as in training.
        """
        require(self._is_fitted(), "this Table is not fitted to a training split; fit it, or load a finished run")
        names = [column.name for column in self.columns]
        if not isinstance(raw, Mapping):
            good = isinstance(raw, Sequence) and bool(raw) and all(isinstance(row, Mapping) for row in raw)
            require(good, "expected a list of rows (dicts), or a dict of columns")
            for i, row in enumerate(raw):
                if missing := [name for name in names if name not in row]:
                    raise RequestError(f"row {i} has no {missing[0]!r}; {nearest(missing[0], row)}")
            raw = {name: [row[name] for row in raw] for name in names}
        if missing := [name for name in names if name not in raw]:
            raise RequestError(f"the input has no column {missing[0]!r}; {nearest(missing[0], raw)}")
        arrays = {}
        for name in names:
            try:
                arrays[name] = pa.array(raw[name], from_pandas=True)
            except UnicodeEncodeError:
                raise RequestError(f"column {name!r}: holds half of a surrogate pair, which is no character") from None
            except (pa.ArrowInvalid, pa.ArrowTypeError):
                raise RequestError(f"column {name!r} mixes types: {raw[name]!r:.80}; expected one") from None
        require(len({len(x) for x in arrays.values()}) <= 1, "the columns of the input differ in length")
        rows = _Rows(pa.table(arrays), "the input", self)
        return {"features": self._features(rows)}

    @property
    def feature_names(self) -> tuple[str, ...]:
        """The names of the d features of a fitted table."""
        require(self._is_fitted(), "this Table is not fitted to a training split, so its features have no names yet")
        return tuple(name for column in self.columns for name in column.features)

    def inferred(self, train: Source) -> list[dict[str, str]]:
        """Describes how each column of the file is read, with its values in the training split."""
        rows = train.rows
        said = [column.described(rows.values(column.name), rows.where) for column in self.columns]
        left_out = [inferred_column(name, why) for name, why in rows.left_out.items()]
        return [*said, self._target_described(rows), *left_out]

    def check(self) -> None:
        super().check()
        check_amount("test", self.test)
        check_delimiter(self.delimiter)
        require(self.decimal != self.thousands, f"thousands={self.thousands!r} is the decimal point, too")
        names = [column.name for column in self.columns or ()]
        twice = sorted({name for name in names if names.count(name) > 1})
        require(not twice, f"columns: {', '.join(twice)} is listed twice")
        require(self.target not in names, f"columns: {self.target!r} is the target, and cannot be an input")

    def _rows(self, path: str) -> _Rows:
        table = read_table(
            path,
            column_names=self.column_names,
            delimiter=self.delimiter,
            comment=self.comment,
            quoted=self.quoted,
        )
        inputs = [column.name for column in self.columns or ()]
        for field, names in (("target", [self.target]), ("columns", inputs), ("ignore", self.ignore)):
            check_columns(table, path, field, names)
        unused = dict.fromkeys(row_indices(table), "left out: the index of the rows")
        unused |= dict.fromkeys(self.ignore, "left out: in ignore")
        used = inputs or [name for name in table.column_names if name not in unused and name != self.target]
        others = {name: "left out: not in columns" for name in table.column_names} | unused
        left_out = {name: why for name, why in others.items() if name not in used and name != self.target}
        return _Rows(table.select([*used, self.target]), path, self, left_out)

    def _inferred(self, rows: _Rows) -> tuple[Column, ...]:
        names = [name for name in rows.names if name != self.target]
        require(bool(names), f"{rows.path}: no column is left besides the target {self.target!r}")
        require("" not in names, f"{rows.path}: a column has no name; name it in the header, or add '' to ignore")
        return tuple(inferred(name, rows.values(name)) for name in names)

    def _inferred_type(self, values: pa.Array) -> TargetType:
        if is_numeric(values):
            return "number"
        advice = number_advice(distinct(values)) if pa.types.is_string(values.type) else None
        if advice:
            raise RequestError(f"the target {self.target!r} {advice}, or set target_type='class'")
        return "class"

    def _encode(self, rows: _Rows) -> dict[str, np.ndarray]:
        """The fitted table's columns for `rows`."""
        features, values = self._features(rows), self._target(rows)
        if self.target_type == "number":
            return {"features": features, "target": as_numbers(values, self.target, rows.where).astype(np.float32)}
        labels = coded(values, self.class_names)
        for i in np.flatnonzero(labels < 0)[:1]:
            value = as_text(values)[int(i)].as_py()
            hint = nearest(value, self.class_names)
            raise RequestError(f"{rows.where(i)}: {self.target} {value!r} is not a class of the training split; {hint}")
        return {"features": features, "label": labels}

    def _target(self, rows: _Rows) -> pa.Array:
        values = rows.values(self.target)
        for i in np.flatnonzero(values.is_null(nan_is_null=True).to_numpy(zero_copy_only=False))[:1]:
            raise RequestError(f"{rows.where(i)}: the target {self.target!r} is missing")
        return values

    def _looks_odd(self, rows: _Rows) -> str:
        """Names the inputs that only number the rows of the file, from 0 or from 1."""
        numbers = [column for column in self.columns if type(column) is Number and column.mean is not None]
        parsed = {column.name: column.parse(rows.values(column.name), rows.where) for column in numbers}
        found = [name for name, x in parsed.items() if any((x == rows.numbers - first).all() for first in (0, 1))]
        return f"{', '.join(found)} numbers the rows, and is an input unless data.ignore lists it" if found else ""

    def _target_described(self, rows: _Rows) -> dict[str, str]:
        values = self._target(rows)
        if self.target_type == "number":
            return Number(self.target).described(values, rows.where) | {"read as": "target, a number"}
        counts = {count["values"]: count["counts"] for count in as_text(values).value_counts().to_pylist()}
        shown = [f"{name} ({counts.get(name, 0):,})" for name in self.class_names]
        return inferred_column(self.target, f"target, {len(shown)} classes", len(counts), values=shown)

    def _features(self, rows: _Rows) -> np.ndarray:
        parts = [column.encode(rows.values(column.name), rows.where) for column in self.columns]
        return np.concatenate(parts, axis=1).astype(np.float32)

    def _is_fitted(self) -> bool:
        return bool(self.columns) and all(
            (column.values if isinstance(column, Category) else column.mean) is not None for column in self.columns
        )


class _Rows:
    """Rows as in the file, before the training split determines types and categories."""

    def __init__(
        self,
        table: pa.Table,
        path: str,
        spec: Table,
        left_out: Mapping[str, str] | None = None,
        numbers: np.ndarray | None = None,
    ):
        self.table, self.path, self._spec, self.left_out = table, path, spec, left_out or {}
        self.numbers = np.arange(1, len(table) + 1) if numbers is None else numbers

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, i: int) -> dict[str, Any]:
        return self.table.slice(i, 1).to_pylist()[0]

    @property
    def rows(self) -> _Rows:
        return self

    @property
    def names(self) -> list[str]:
        return self.table.column_names

    def take(self, indices: np.ndarray) -> _Rows:
        return _Rows(self.table.take(indices), self.path, self._spec, self.left_out, self.numbers[indices])

    def where(self, i: int) -> str:
        return f"{self.path}, row {self.numbers[i]}"

    def column(self, name: str) -> np.ndarray | None:
        """The class numbers, for stratified splits; None for other columns."""
        values = self.values(self._spec.target) if name == "label" else None
        kind = self._spec.target_type
        if values is None or kind == "number" or (kind == "auto" and is_numeric(values)):
            return None
        return coded(values, distinct(values))

    def values(self, name: str) -> pa.Array:
        """A column without whitespace around text, with null for missing values."""
        if name not in self.names:
            raise RequestError(f"{self.path} has no column {name!r}; {nearest(name, self.names)}")
        values = self.table[name].combine_chunks()
        if not pa.types.is_string(values.type):
            return values
        values = pc.utf8_trim_whitespace(values)
        if name == self._spec.target and self._spec.target_suffix:
            suffix = self._spec.target_suffix
            cut = pc.utf8_slice_codeunits(values, 0, -len(suffix))
            values = pc.if_else(pc.ends_with(values, pattern=suffix), cut, values)
        is_missing = pc.is_in(values, value_set=pa.array(self._spec.missing, pa.string()))
        values = pc.if_else(is_missing, pa.scalar(None, pa.string()), values)
        if (self._spec.decimal, self._spec.thousands) == (".", ""):
            return values
        return self._plain_numbers(values, name)

    def _plain_numbers(self, values: pa.Array, name: str) -> pa.Array:
        """Rewrites numbers with the decimal point and separator of the file, and refuses points that are neither."""
        plain = plain_numbers(values, self._spec.decimal, self._spec.thousands)
        if self._spec.decimal == "," and is_numeric(plain):
            kept = pc.and_(pc.equal(plain, values), pc.match_substring(values, "."))
            for i in np.flatnonzero(kept.fill_null(False).to_numpy(zero_copy_only=False))[:1]:
                raise RequestError(
                    f"{self.where(i)}, column {name!r}: {values[int(i)].as_py()!r} has a point, but decimal=','; "
                    "set thousands='.' if it separates thousands"
                )
        return plain


class _Encoded(Columns):
    """Encoded columns that keep their rows, for `Table.fit`."""

    note = ""

    def __init__(self, columns: Mapping[str, np.ndarray], rows: _Rows):
        super().__init__(columns)
        self.rows = rows
