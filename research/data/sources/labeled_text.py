"""Labelled texts in JSON lines, as token sequences."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple, Self

import numpy as np

from research.data.source import Columns, Source
from research.data.sources.text import document_files, read_json_lines, text_of
from research.data.spec import Data, Splits, check_amount
from research.data.text.characters import check_characters
from research.data.text.tokenizers import ByteTokenizer, Tokenizer
from research.errors import RequestError, nearest, require


@dataclasses.dataclass(frozen=True, kw_only=True)
class LabeledText(Data):
    """Texts with labels, from a file of JSON lines (.jsonl or .jsonl.gz) or a folder of such files.

    >>> data = LabeledText(path="reviews.jsonl", text="review", label="stars", length=256)

    Examples have `tokens` int32 [length], padded at the end, `length` int32 [] (the number of tokens before the
    padding) and `label` int32 [].

    Attributes:
      path: the file or folder.
      text, label: keys in each line; a label is a string or an integer.
      length: tokens per example; longer texts are truncated.
      tokenizer: fitted to the training texts if it has no vocabulary yet.
      class_names: the labels in order, as strings; None for those of the training split, sorted.
      test: the fraction or number of lines to hold out.
      pattern: the files to read in a folder.
    """

    path: str
    text: str = "text"
    label: str = "label"
    length: int
    tokenizer: Tokenizer = ByteTokenizer()
    class_names: tuple[str, ...] | None = None
    test: float | int = 0.2
    pattern: str = "*.jsonl"

    def read(self) -> Splits:
        lines = []
        for file in document_files(self.path, self.pattern):
            for line, name in read_json_lines(file):
                text = text_of(line, self.text, name)
                require(bool(text), f"{name}: {self.text!r} is empty, expected at least one character")
                if self.label not in line:
                    raise RequestError(f"{name}: no {self.label!r}; {nearest(self.label, line)}")
                label = line[self.label]
                require(
                    isinstance(label, str | int), f"{name}: {self.label!r} is {label!r}, expected a string or integer"
                )
                check_characters(str(label), f"{name}: {self.label!r}")
                lines.append(_Line(text, str(label), name))
        require(bool(lines), f"path={self.path!r}: holds no text")
        train, test = self.hold_out(_Lines(lines), "test")
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

    def _fitted(self, lines: Sequence[_Line]) -> Self:
        names = self.class_names
        if names is None:
            names = tuple(sorted({line.label for line in lines}))
            require(len(names) > 1, f"label={self.label!r}: the training split has fewer than two classes")
        return dataclasses.replace(self, class_names=names, tokenizer=self.tokenizer.fit(line.text for line in lines))


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
