"""Labelled texts in tables or JSON lines, as token sequences."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Self

import numpy as np
import pyarrow as pa
from etils import epath

from research.data.source import Columns, Source
from research.data.sources.table_columns import as_text, distinct, inferred_column
from research.data.sources.table_files import check_columns, check_delimiter, is_table, read_table
from research.data.sources.text import document_files, read_json_lines, text_of
from research.data.spec import Data, Splits, check_amount
from research.data.text.characters import check_characters
from research.data.text.tokenizers import ByteTokenizer, Tokenizer
from research.errors import RequestError, nearest, require


@dataclasses.dataclass(frozen=True, kw_only=True)
class LabeledText(Data):
    """Texts with labels, from a table (.csv or .tsv, also .gz; .parquet) or JSON lines (.jsonl, also .gz).

    >>> data = LabeledText(path="reviews.csv", text="review", label="stars", length=256)

    Examples have `tokens` int32 [length], padded at the end, `length` int32 [] (the number of tokens before the
    padding) and `label` int32 [].  Together with a model for sequences:

        model=models.RNNClassifier(classes=5, vocab_size=256, width=128, bidirectional=True)
        task=tasks.Classification(classes=5, input="tokens", length="length")

    Attributes:
      path: the file, or a folder of such files.
      text, label: the columns of a table, or the keys of each line; a label is a string, an integer or a boolean.
        Whitespace around the labels of a table is removed.
      length: tokens per example; longer texts are truncated.
      tokenizer: fitted to the training texts if it has no vocabulary yet.
      class_names: the labels in order, as strings; None for those of the training split, sorted, by size if all are
        numbers.
      test: the fraction or number of texts to hold out.
      test_path: a file or folder of test texts, instead of `test`.
      pattern: the files to read in a folder, such as "*.csv".
      column_names, delimiter, quoted: how a CSV is written, as in `Table`.  In many .tsv files, quotes are part of the
        texts: `quoted=False`.
    """

    path: str
    text: str = "text"
    label: str = "label"
    length: int
    tokenizer: Tokenizer = ByteTokenizer()
    class_names: tuple[str, ...] | None = None
    test: float | int = 0.2
    pattern: str = "*.jsonl"
    test_path: str | None = None
    column_names: tuple[str, ...] | None = None
    delimiter: str = ","
    quoted: bool = True

    def read(self) -> Splits:
        lines = self._lines(self.path)
        if self.test_path is not None:
            return Splits(train=lines, test=self._lines(self.test_path))
        train, test = self.hold_out(lines, "test")
        return Splits(train=train, test=test)

    def load(self) -> Splits:
        lines = super().load()
        fitted = self._fitted(lines.train.lines)
        return Splits(*(own and _Encoded(fitted, own.lines) for own in lines))

    def fit(self, train: Source) -> Self:
        """Copies the tokenizer and class names from the training split."""
        return dataclasses.replace(self, tokenizer=train.spec.tokenizer, class_names=train.spec.class_names)

    def encode(self, raw: str | Sequence[str]) -> dict[str, np.ndarray]:
        """Encodes texts for prediction as `tokens` [text, length] and `length` [text]."""
        if isinstance(raw, dict):
            return super().encode(raw)
        texts = [raw] if isinstance(raw, str) else list(raw)
        require(bool(texts), "expected a text, or a list of them, got none")
        tokens, length = np.zeros((len(texts), self.length), np.int32), np.zeros(len(texts), np.int32)
        for i, text in enumerate(texts):
            require(isinstance(text, str), f"text {i}: expected a text, got {type(text).__name__}")
            own = self.tokenizer.encode(text)[: self.length]
            require(len(own) > 0, f"text {i}: empty, expected at least one character")
            tokens[i, : len(own)], length[i] = own, len(own)
        return {"tokens": tokens, "length": length}

    def check(self) -> None:
        super().check()
        require(self.length >= 1, f"length={self.length}: expected at least 1 token")
        check_amount("test", self.test)
        check_delimiter(self.delimiter)

    def inferred(self, train: Source) -> list[dict[str, str]]:
        """Says how the two columns of the training split are read."""
        counts = Counter(line.label for line in train.lines)
        labels = [f"{name} ({counts[name]:,})" for name in self.class_names]
        texts = {line.text for line in train.lines}
        return [
            inferred_column(self.text, f"text, up to {self.length} tokens", len(texts)),
            inferred_column(self.label, f"label, {len(labels)} classes", len(counts), values=labels),
        ]

    def _lines(self, path: str) -> _Lines:
        """Reads the texts of a file or folder.

        Raises:
          RequestError: there is none, or a line has no text or no label; names the line.
        """
        lines = []
        for file in document_files(path, self.pattern):
            read = self._table_lines if is_table(file) else self._json_lines
            lines += read(file)
        require(bool(lines), f"path={path!r}: holds no text")
        for line in lines:
            require(bool(line.text), f"{line.name}: {self.text!r} is empty, expected at least one character")
            require(bool(line.label), f"{line.name}: {self.label!r} is empty, expected a label")
        return _Lines(lines)

    def _table_lines(self, file: epath.Path) -> Iterator[_Line]:
        table = read_table(str(file), column_names=self.column_names, delimiter=self.delimiter, quoted=self.quoted)
        for field, name in (("text", self.text), ("label", self.label)):
            check_columns(table, str(file), field, [name])
            kind = table.schema.field(name).type
            good = pa.types.is_string(kind) or (
                field == "label" and (pa.types.is_integer(kind) or pa.types.is_boolean(kind))
            )
            more = ", integers or booleans" if field == "label" else ""
            require(good, f"{file}: column {name!r} holds {kind}, expected text{more}")
        columns = table[self.text].to_pylist(), as_text(table[self.label]).to_pylist()
        for i, (text, label) in enumerate(zip(*columns, strict=True), 1):
            yield _Line(text or "", (label or "").strip(), f"{file}, row {i}")

    def _json_lines(self, file: epath.Path) -> Iterator[_Line]:
        for line, name in _objects(file):
            text = text_of(line, self.text, name)
            if self.label not in line:
                raise RequestError(f"{name}: no {self.label!r}; {nearest(self.label, line)}")
            label = line[self.label]
            require(isinstance(label, str | int), f"{name}: {self.label!r} is {label!r}, expected a string or integer")
            check_characters(str(label), f"{name}: {self.label!r}")
            yield _Line(text, str(label), name)

    def _fitted(self, lines: Sequence[_Line]) -> Self:
        names = self.class_names
        if names is None:
            names = distinct(pa.array([line.label for line in lines]))
            require(len(names) > 1, f"label={self.label!r}: the training split has fewer than two classes")
        return dataclasses.replace(self, class_names=names, tokenizer=self.tokenizer.fit(line.text for line in lines))


def _objects(file: epath.Path) -> Iterator[tuple[dict[str, Any], str]]:
    """Reads JSON lines; the error of a file that may be a table says how such a file is named."""
    try:
        yield from read_json_lines(file)
    except RequestError as error:
        hint = "" if ".json" in file.name else "; if it is a table, let its name end with .csv, .tsv or .parquet"
        raise RequestError(f"{error}{hint}") from None


class _Line(NamedTuple):
    text: str
    label: str
    name: str


class _Lines:
    """Lines as a source that can be divided, stratified by label."""

    def __init__(self, lines: Sequence[_Line]):
        self.lines = list(lines)

    def __len__(self) -> int:
        return len(self.lines)

    def column(self, name: str) -> np.ndarray | None:
        labels = [line.label for line in self.lines]
        return np.unique(labels, return_inverse=True)[1] if name == "label" else None

    def take(self, indices: np.ndarray) -> _Lines:
        return _Lines([self.lines[i] for i in indices])


class _Encoded(Columns):
    """Lines as columns, with the fitted data set that encoded them."""

    def __init__(self, spec: LabeledText, lines: Sequence[_Line]):
        codes = {name: i for i, name in enumerate(spec.class_names)}
        for line in lines:
            if line.label not in codes:
                known = nearest(line.label, codes)
                raise RequestError(f"{line.name}: label {line.label!r} is not in the training split; {known}")
        labels: Any = np.array([codes[line.label] for line in lines], np.int32)
        super().__init__(spec.encode([line.text for line in lines]) | {"label": labels})
        self.spec, self.lines = spec, lines

    def where(self, i: int) -> str:
        return self.lines[i].name
