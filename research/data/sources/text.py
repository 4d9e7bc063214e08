"""Text corpora for language modeling: a folder of files, one file, or a column of JSON lines, as tokens.

    TextFiles(path="shakespeare.txt", length=64)                                      # characters
    TextFiles(path="books", length=256, tokenizer=BPETokenizer(8192, ("<eos>",)), end_of_text="<eos>")
    JSONLines(path="reviews.jsonl.gz", column="text", length=128, layout="packed")

The tokenizer is fitted to the training text only and then becomes part of the experiment (config.json).  Training
examples are windows of the text at every offset; evaluation uses consecutive windows, so that every token but the first
is predicted exactly once.

A new corpus is a subclass with one method, `documents`.
"""

from __future__ import annotations

import abc
import dataclasses
import gzip
import json
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatch
from typing import Any, Literal, NamedTuple, Self

import numpy as np
from etils import epath

from research.config.checks import check_part
from research.console import counted
from research.data.padding import lengths_of, padded_rows
from research.data.source import Columns, Source
from research.data.spec import Data, Splits, check_amount, check_file
from research.data.split import count, hold_out
from research.data.text.characters import check_characters, without_mark
from research.data.text.packing import pack
from research.data.text.tokenizers import ByteTokenizer, CharTokenizer, Tokenizer, to_text
from research.data.windows import Windows
from research.errors import RequestError, nearest, prefixed, require
from research.listing import visible_files

Layout = Literal["windows", "packed"]


class Document(NamedTuple):
    """A text, as a string or bytes, and its name in error messages."""

    text: str | bytes
    name: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Corpus(Data):
    """The base of text corpora: rows of tokens.

    An example has `tokens` [length], the model's input, and `targets` [length], the token after each.  Outside the
    training split it also has `length` [], the number of tokens before the padding (the last window may be shorter),
    and `characters` and `bytes` [], the sizes of the text that its targets spell.  Packed rows have `segments` [length]
    instead of `length`: the number of the document that a token belongs to, 0 on padding.

    Attributes:
      length: the number of tokens per example; at most the model's context length.
      tokenizer: fitted to the training text if it has no vocabulary yet.
      layout: "windows" over the concatenated documents, or "packed": several documents per row, without attention
        between them.
      end_of_text: a special token added after every document, or None.
      validation, test: the fraction or number of documents to hold out, drawn by `split_seed`, with identical texts
        always in the same split; for a single document, of its characters (bytes for `ByteTokenizer`), from its end.
    """

    length: int
    tokenizer: Tokenizer = CharTokenizer()
    layout: Layout = "windows"
    end_of_text: str | None = None
    test: float | int = 0.0

    @abc.abstractmethod
    def documents(self) -> Sequence[Document]:
        """The non-empty texts, in order; bytes if the tokenizer reads bytes."""

    def split(self) -> dict[str, Sequence[Document]]:
        """The documents of "train", "validation" and "test"; those held out may be empty."""
        splits = {"train": self.documents()}
        require(len(splits["train"]) > 0, f"{self._name()}: holds no text")
        for held in ("test", "validation"):
            splits["train"], splits[held] = self._held_out(splits["train"], held)
        return splits

    def read(self) -> Splits:
        documents = self.split()
        tokenizer = self.tokenizer.fit(document.text for document in documents["train"])
        return Splits(
            **{
                split: Tokens(self._columns(split, texts, tokenizer), tokenizer)
                for split, texts in documents.items()
                if texts
            }
        )

    def fit(self, train: Source) -> Self:
        """Copies the tokenizer fitted to the training text."""
        return dataclasses.replace(self, tokenizer=train.tokenizer)

    def encode(self, raw: str | bytes | Sequence[str | bytes] | Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Encodes texts as `tokens` [text, longest] and `length` [text]; dicts of columns pass through.

        Raises:
          RequestError: there are none, or one is empty or not encodable.
        """
        if isinstance(raw, Mapping):
            return super().encode(raw)
        texts = [raw] if isinstance(raw, str | bytes) else list(raw)
        require(len(texts) > 0, "expected a text, or a list of them, got none")
        rows = []
        for i, text in enumerate(texts):
            require(isinstance(text, str | bytes), f"text {i}: expected a text, got {type(text).__name__}")
            rows.append(self.tokenizer.encode(text))
            require(len(rows[-1]) > 0, f"text {i}: empty, expected at least one character")
        length = lengths_of(rows)
        return {"tokens": padded_rows(rows, length.max()), "length": length}

    def check(self) -> None:
        super().check()
        require(self.length >= 1, f"length={self.length}: expected at least 1 token")
        check_amount("test", self.test)
        check_part("tokenizer", self.tokenizer)
        known = self.tokenizer.special_tokens
        if self.end_of_text is not None and self.end_of_text not in known:
            hint = nearest(self.end_of_text, known)
            raise RequestError(f"end_of_text={self.end_of_text!r} is not among tokenizer.special_tokens; {hint}")

    def _name(self) -> str:
        return f"path={self.path!r}" if hasattr(self, "path") else type(self).__name__

    def _text(self, data: bytes, name: str) -> str | bytes:
        """The content of a file, in the form that the tokenizer reads."""
        return data if isinstance(self.tokenizer, ByteTokenizer) else to_text(data, name)

    def _held_out(
        self, documents: Sequence[Document], field: Literal["test", "validation"]
    ) -> tuple[Sequence[Document], Sequence[Document]]:
        amount = getattr(self, field)
        if amount == 0:
            return documents, ()
        if len(documents) == 1:
            ((text, name),) = documents
            # The training part is rounded down, as is usual for this split: 1,003,854 of 1,115,394 characters for 0.1.
            rest = len(text) - count(amount, len(text), field)
            rest = int(len(text) * (1 - amount)) if isinstance(amount, float) else rest
            require(
                rest > 0,
                f"{field}={amount}: leaves none of the {len(text):,} characters of {name} to train on",
            )
            return (Document(text[:rest], name),), (Document(text[rest:], name),)
        texts = list(dict.fromkeys(document.text for document in documents))
        require(len(texts) > 1, f"{self._name()}: {len(documents)} documents with the same text, none to hold out")
        purpose = {"test": 1, "validation": 2}[field]
        held = {texts[i] for i in hold_out(len(texts), amount, self.split_seed, purpose, field)[1]}
        rest = [document for document in documents if document.text not in held]
        return rest, [document for document in documents if document.text in held]

    def _columns(self, split: str, documents: Sequence[Document], tokenizer: Tokenizer) -> dict[str, Any]:
        dtype = np.uint8 if tokenizer.vocab_size <= 2**8 else np.uint16 if tokenizer.vocab_size <= 2**16 else np.int32
        end = np.array([] if self.end_of_text is None else [tokenizer.token_id(self.end_of_text)], np.int32)
        rows = []
        for text, name in documents:
            with prefixed(f"{name} ({split} split): "):
                tokens = tokenizer.encode(text)
            rows.append(np.concatenate([tokens, end]).astype(dtype))
        columns = self._packed(split, rows) if self.layout == "packed" else self._windows(split, np.concatenate(rows))
        spelled = tokenizer.spelled()
        if split != "train" and spelled is not None:
            counted, targets = predicted(columns), columns["targets"][:]
            for name, table in zip(("characters", "bytes"), spelled, strict=True):
                columns[name] = np.where(counted, table[targets], 0).sum(1).astype(np.int32)
        return columns

    def _packed(self, split: str, rows: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        columns = pack(rows, self.length)
        require(len(columns["tokens"]) > 0, f"{self._name()}: no document of the {split} split has two tokens")
        return columns

    def _windows(self, split: str, text: np.ndarray) -> dict[str, Any]:
        """Windows at every offset for training; consecutive ones, the last padded, for evaluation."""
        pairs = len(text) - 1
        if split == "train":
            given = f"{self._name()}: {counted(len(text), 'token')} to train on"
            require(pairs >= self.length, f"{given}, expected more than length={self.length}")
            return {"tokens": Windows(text[:-1], self.length), "targets": Windows(text[1:], self.length)}
        require(pairs >= 1, f"{self._name()}: the {split} split has one token, so there is nothing to predict")
        starts = np.arange(0, pairs, self.length)
        text = np.pad(text, (0, starts[-1] + self.length - pairs))
        return {
            "tokens": Windows(text[:-1], self.length, self.length),
            "targets": Windows(text[1:], self.length, self.length),
            "length": np.minimum(pairs - starts, self.length).astype(np.int32),
        }


class Tokens(Columns):
    """Rows of tokens, with their tokenizer."""

    def __init__(self, columns: Mapping[str, Any], tokenizer: Tokenizer):
        super().__init__(columns)
        self.tokenizer = tokenizer

    def take(self, indices: np.ndarray) -> Tokens:
        return Tokens(super().take(indices).arrays(), self.tokenizer)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextFiles(Corpus):
    """A UTF-8 text file, or those of a folder and its subfolders, sorted by path; also gzipped (.gz).

    >>> data = TextFiles(path="shakespeare.txt", length=64, tokenizer=CharTokenizer())

    Attributes:
      path: the file or folder.
      pattern: the files to read in a folder; "*.txt" matches .txt and .txt.gz.
    """

    path: str
    pattern: str = "*.txt"

    def documents(self) -> Sequence[Document]:
        read = ((_content(file), str(file)) for file in document_files(self.path, self.pattern))
        return [Document(self._text(data, name), name) for data, name in read if data]


@dataclasses.dataclass(frozen=True, kw_only=True)
class JSONLines(Corpus):
    """One column of JSON lines, from a file (also .gz) or folder; every line is an object and becomes a document.

    >>> data = JSONLines(path="reviews.jsonl.gz", column="text", length=128, layout="packed")

    Attributes:
      path: the file or folder.
      column: the key of the text.
      pattern: the files to read in a folder.
    """

    path: str
    column: str = "text"
    pattern: str = "*.jsonl"

    def documents(self) -> Sequence[Document]:
        read = (read_json_lines(file) for file in document_files(self.path, self.pattern))
        lines = (line for file in read for line in file)
        texts = [Document(text_of(line, self.column, name), name) for line, name in lines]
        return [document for document in texts if document.text]


def read_json_lines(path: epath.PathLike) -> Iterator[tuple[dict[str, Any], str]]:
    """Yields (object, name for error messages) of every non-blank line of a file (also .gz).

    Raises:
      RequestError: the file is unreadable, or a line is not a JSON object; names the file and line.
    """
    text = to_text(_content(epath.Path(path)), str(path))
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        name = f"{path}, line {number}"
        try:
            value = json.loads(line.removeprefix("\ufeff"))  # files with byte-order marks may have been joined
        except json.JSONDecodeError as error:
            raise RequestError(f"{name}: not JSON: {error.msg} at character {error.pos}") from None
        except RecursionError:
            raise RequestError(f"{name}: nested too deeply") from None
        require(isinstance(value, dict), f"{name}: expected an object, got {type(value).__name__}")
        yield value, name


def text_of(line: Mapping[str, Any], column: str, name: str) -> str:
    """The text in a column of a JSON object.

    Raises:
      RequestError: the column is missing or does not hold a string of whole characters.
    """
    if column not in line:
        raise RequestError(f"{name}: no {column!r}; {nearest(column, line)}")
    require(isinstance(line[column], str), f"{name}: {column!r} is {type(line[column]).__name__}, expected a text")
    check_characters(line[column], f"{name}: {column!r}")
    return line[column]


def predicted(columns: Mapping[str, Any]) -> Any:
    """True where a token has a target, bool [rows, length], for NumPy and JAX columns in either layout."""
    if "segments" in columns:
        return columns["segments"] > 0
    if "length" in columns:
        return columns["length"][:, None] > np.arange(columns["tokens"].shape[1])
    return np.ones(columns["tokens"].shape, bool)


def document_files(path: str, pattern: str) -> list[epath.Path]:
    """The file at `path`, or the matching files of that folder and its subfolders, sorted; also gzipped (.gz).

    Raises:
      RequestError: no file matches.
    """
    root = epath.Path(path)
    if not root.is_dir():
        check_file(root)
        return [root]
    files = list(visible_files(root))
    found = sorted(file for file in files if fnmatch(file.name.removesuffix(".gz"), pattern))
    kinds = Counter(epath.Path(file.name.removesuffix(".gz")).suffix or file.name for file in files)
    others = ", ".join(f"{n:,} {kind}" for kind, n in kinds.most_common(3))
    said = f"path={path!r}: no {pattern} in this folder or the folders in it"
    require(bool(found), f"{said}; there are {others}: set pattern" if others else said)
    return found


def _content(file: epath.Path) -> bytes:
    """The bytes of a file, unpacked, without a byte-order mark."""
    data = file.read_bytes()
    try:
        return without_mark(gzip.decompress(data) if file.suffix == ".gz" else data)
    except (OSError, EOFError, zlib.error) as error:
        raise RequestError(f"{file}: cannot be unpacked: {error}") from None
