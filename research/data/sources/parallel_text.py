"""Sentence pairs for translation: two line-aligned files, or two columns of a tab-separated file.

    ParallelText(path=("train.de.gz", "train.en.gz"), test_path=("test.de.gz", "test.en.gz"))       # German to English
    ParallelText(path=("deu-eng.zip",), columns=(1, 0), test=2000)              # Tatoeba's lines: English, tab, German

An example has `source` and `target`: tokens that end with "<eos>", padded at the end.  The tokenizer is fitted to the
training split only and then becomes part of the experiment (config.json).
"""

from __future__ import annotations

import dataclasses
import gzip
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, Self

import numpy as np
from etils import epath

from research.config.checks import check_part
from research.console import counted
from research.data.buckets import Padded, fit_shapes, longest_of
from research.data.padding import lengths_of, padded_columns, padded_rows
from research.data.source import Source
from research.data.spec import Data, Splits, check_amount, check_file
from research.data.split import count, stratified_order
from research.data.text.packing import pack_pairs
from research.data.text.tokenizers import BPETokenizer, Tokenizer, to_text
from research.errors import RequestError, nearest, prefixed, require
from research.listing import is_hidden

PAD, BOS, EOS = SPECIAL = ("<pad>", "<bos>", "<eos>")
"""The special tokens that every sequence tokenizer starts with: padding, and the start and end of a target."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ParallelText(Data):
    """Pairs of source and target sentences, one per line, from plain files, .gz, or members of a .zip.

    >>> german_to_english = ParallelText(path=("train.de.gz", "train.en.gz"), test_path=("test.de.gz", "test.en.gz"))
    >>> english_to_german = ParallelText(path=("deu-eng.zip/deu.txt",), columns=(0, 1), test=2000)

    When validation or test are held out of train, no sentence in either language appears on both sides of the split:
    pairs that share a sentence, directly or through other pairs, are kept together, and a group larger than the
    held-out split stays in train.  Common short sentences are therefore rarer in held-out splits.  Whitespace around a
    line is removed.

    Attributes:
      path: (source file, target file), aligned line by line, or (tab-separated file,).
      validation_path, test_path: likewise; None holds `validation` and `test` out of `path`.
      columns: the source and target columns of a tab-separated file.
      test: the fraction or number of pairs to hold out if there is no `test_path`.
      lowercase: lower-case both sides.
      max_length: training pairs with more tokens on either side, "<eos>" included, are dropped, and their number is
        reported with the size of the data; None keeps all.  Validation and test are never filtered.
      packed: if set, the training examples are rows of this many tokens per side, each shared by several pairs that do
        not attend to one another, all of one shape.  None gives every pair its own row, in buckets.
      tokenizer: for both languages, or for the source if there is a `target_tokenizer`.
      target_tokenizer: None for a vocabulary shared by both languages.
      buckets: the maximum number of batch shapes (`research/data/buckets.py`).
      decoded: the number of validation pairs that an evaluation decodes, for tasks that do; None for all.
      pad_to: the longest padded length, in tokens, for prediction; inputs are padded to one of a few lengths up to it,
        to compile few programs.  `fit` sets it to the longest source of all splits, which the trained model is known to
        support.
    """

    path: tuple[str, ...]
    validation_path: tuple[str, ...] | None = None
    test_path: tuple[str, ...] | None = None
    columns: tuple[int, int] = (0, 1)
    test: float | int = 0
    lowercase: bool = False
    max_length: int | None = None
    packed: int | None = None
    tokenizer: Tokenizer = BPETokenizer(8000, SPECIAL)
    target_tokenizer: Tokenizer | None = None
    buckets: int = 12
    decoded: int | None = None
    pad_to: int = 0

    def read(self) -> Splits:
        """Reads the pairs as text."""
        train, validation, test = (
            path and self._pairs(path) for path in (self.path, self.validation_path, self.test_path)
        )
        if test is None:
            train, test = self.hold_out(train, "test")
        return Splits(train, validation, test)

    def hold_out(self, source: Pairs, field: Literal["validation", "test"]) -> tuple[Pairs, Pairs | None]:
        """Holds out whole groups of pairs that share sentences, in an order drawn by `split_seed`: (rest, held)."""
        amount = count(getattr(self, field), len(source), field)
        if amount == 0:
            return source, None
        family = _families(source)
        sizes = np.bincount(family)
        held, taken = np.zeros(len(sizes), bool), 0
        for one in stratified_order(len(sizes), self.split_seed, {"test": 1, "validation": 2}[field]):
            if sizes[one] <= amount - taken:
                held[one], taken = True, taken + sizes[one]
        require(taken > 0, f"{field}={getattr(self, field)}: no group of pairs is small enough to be held out")
        return source.take(np.flatnonzero(~held[family])), source.take(np.flatnonzero(held[family]))

    def load(self) -> Splits:
        texts = super().load()
        languages = [texts.train.sources, texts.train.targets]
        if self.target_tokenizer is None:
            tokenizers = [self.tokenizer.fit([text for texts in languages for text in texts])] * 2
        else:
            both = (self.tokenizer, self.target_tokenizer)
            tokenizers = [own.fit(texts) for own, texts in zip(both, languages, strict=True)]
        tokens = {split: pairs.tokens(*tokenizers) for split, pairs in texts._asdict().items() if pairs is not None}
        kept, note = self._within_length(tokens["train"])
        tokens["train"] = [[side[i] for i in kept] for side in tokens["train"]]
        lengths = {split: dict(zip(_SIDES, map(lengths_of, sides), strict=True)) for split, sides in tokens.items()}
        longest, places = longest_of(lengths, texts._asdict() | {"train": texts.train.take(kept)})
        shapes = fit_shapes(lengths["train"], self.buckets, longest)

        def source(split: str) -> TokenPairs:
            if split == "train" and self.packed is not None:
                return self._packed(tokens[split], note, places)
            sides = {name: padded_rows(x, longest[name]) for name, x in zip(_SIDES, tokens[split], strict=True)}
            decoded = np.arange(len(tokens[split][0])) < (np.inf if self.decoded is None else self.decoded)
            first = decoded if split == "validation" else None
            columns = sides if first is None else sides | {"decoded": first}
            return TokenPairs(
                columns,
                lengths[split],
                shapes,
                first=first,
                note=note if split == "train" else "",
                longest=places,
            )

        sources = {split: source(split) for split in tokens}
        for own in sources.values():
            own.tokenizer, own.target_tokenizer = tokenizers
            own.pad_to = longest["source"]
        return Splits(**sources)

    def _packed(self, sides: Sequence[list[np.ndarray]], note: str, places: Mapping[str, str]) -> TokenPairs:
        for name, rows in zip(_SIDES, sides, strict=True):
            most = int(lengths_of(rows).max())
            require(
                most <= self.packed,
                f"packed={self.packed}: a training {name} has {most} tokens ({places[name]} has the longest); "
                "expected at least that many, or a max_length that leaves it out",
            )
        columns = pack_pairs(dict(zip(_SIDES, sides, strict=True)), self.packed)
        lengths = {name: (columns[f"{name}_segments"] > 0).sum(axis=1) for name in _SIDES}
        shapes = {name: np.array([self.packed], np.int32) for name in _SIDES}
        return TokenPairs(columns, lengths, shapes, note=note, longest=places)

    def fit(self, train: Source) -> Self:
        """Copies the tokenizers fitted to the training pairs, and the length of the longest source."""
        joint = self.target_tokenizer is None
        target = None if joint else train.target_tokenizer
        return dataclasses.replace(self, tokenizer=train.tokenizer, target_tokenizer=target, pad_to=train.pad_to)

    def encode(self, raw: str | Sequence[str] | Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Encodes sentences to translate as `source` and `source_mask` [sentence, length]; dicts of columns pass
        through.

        Raises:
          RequestError: there are none, or one is empty, not a string, or not encodable; names the sentence.
        """
        if isinstance(raw, Mapping):
            return super().encode(raw)
        given = type(raw).__name__
        require(isinstance(raw, Iterable), f"expected a sentence, or a list of them, got {given}")
        rows = []
        for i, sentence in enumerate([raw] if isinstance(raw, str) else raw):
            require(isinstance(sentence, str), f"sentence {i}: expected a text, got {type(sentence).__name__}")
            require(bool(sentence.strip()), f"sentence {i}: empty, expected at least one character")
            rows.append(ended(self.tokenizer, self._clean(sentence), f"sentence {i}"))
        require(len(rows) > 0, "expected a sentence, or a list of them, got none")
        return padded_columns("source", rows, self.pad_to)

    def check(self) -> None:
        super().check()
        check_amount("test", self.test)
        for name in ("path", "validation_path", "test_path"):
            files = getattr(self, name)
            what = f"{name}={files}: expected (source file, target file), or (tab-separated file,)"
            require(files is None or len(files) in (1, 2), what)
        good = len(set(self.columns)) == 2 and min(self.columns) >= 0
        require(good, f"columns={self.columns}: expected the numbers of two columns, from 0")
        for name, least in (("max_length", 2), ("packed", 2), ("buckets", 1), ("decoded", 0), ("pad_to", 0)):
            value = getattr(self, name)
            require(value is None or value >= least, f"{name}={value}: expected at least {least}")
        for name in ("tokenizer", "target_tokenizer"):
            check_special(name, getattr(self, name))

    def _clean(self, line: str) -> str:
        line = line.strip()
        return line.lower() if self.lowercase else line

    def _pairs(self, path: tuple[str, ...]) -> Pairs:
        if len(path) == 2:
            sides = [read_lines(file) for file in path]
            counts = ", ".join(f"{file}: {len(lines):,} lines" for file, lines in zip(path, sides, strict=True))
            require(len(sides[0]) == len(sides[1]), f"{counts}; expected equal numbers of lines")
        else:
            sides = self._split_columns(path[0])
        pairs = Pairs(path, np.arange(len(sides[0])), *([self._clean(line) for line in lines] for lines in sides))
        for name, file, lines in (("source", path[0], pairs.sources), ("target", path[-1], pairs.targets)):
            for i, line in enumerate(lines):
                require(bool(line), f"{file}, line {i + 1}: the {name} is empty; expected a sentence")
        return pairs

    def _split_columns(self, file: str) -> tuple[list[str], list[str]]:
        sides: tuple[list[str], list[str]] = ([], [])
        for i, line in enumerate(read_lines(file)):
            cells = line.split("\t")
            given = f"{file}, line {i + 1}: {len(cells)} column" + "s" * (len(cells) > 1)
            require(len(cells) > max(self.columns), f"{given}, expected tabs between {max(self.columns) + 1}")
            for side, column in zip(sides, self.columns, strict=True):
                side.append(cells[column])
        return sides

    def _within_length(self, sides: Sequence[list[np.ndarray]]) -> tuple[np.ndarray, str]:
        """Indices of the pairs within `max_length`, and a note about the dropped ones."""
        most = np.max([lengths_of(side) for side in sides], axis=0)
        kept = np.flatnonzero(most <= (np.inf if self.max_length is None else self.max_length))
        require(len(kept) > 0, f"max_length={self.max_length}: every training pair is longer")
        left_out = len(most) - len(kept)
        return kept, f"{counted(left_out, 'training pair')} over {self.max_length} tokens left out" if left_out else ""


_SIDES = ("source", "target")


class TokenPairs(Padded):
    """Tokens of both sides, with their tokenizers and the length of the longest source."""

    tokenizer: Tokenizer
    target_tokenizer: Tokenizer
    pad_to: int

    def take(self, indices: np.ndarray) -> TokenPairs:
        own = super().take(indices)
        own.tokenizer, own.target_tokenizer = self.tokenizer, self.target_tokenizer
        own.pad_to = self.pad_to
        return own


@dataclasses.dataclass(frozen=True, eq=False)
class Pairs:
    """Sentences in two languages, with the files and lines they come from."""

    files: tuple[str, ...]
    lines: np.ndarray
    sources: list[str]
    targets: list[str]

    def __len__(self) -> int:
        return len(self.sources)

    def __getitem__(self, i: int) -> dict[str, Any]:
        return {"source": self.sources[i], "target": self.targets[i]}

    def column(self, name: str) -> None:
        """Returns None: pairs have no numeric column to stratify by."""

    def where(self, i: int) -> str:
        return f"{', '.join(self.files)}, line {self.lines[i] + 1}"

    def take(self, indices: np.ndarray) -> Pairs:
        sides = ([side[i] for i in indices] for side in (self.sources, self.targets))
        return Pairs(self.files, self.lines[indices], *sides)

    def tokens(self, source: Tokenizer, target: Tokenizer) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Tokenizes both sides, each a list of [tokens of the sentence]; an error names the line."""
        languages = ((self.files[0], source, self.sources), (self.files[-1], target, self.targets))
        return tuple(
            [ended(own, text, f"{file}, line {line + 1}") for text, line in zip(texts, self.lines, strict=True)]
            for file, own, texts in languages
        )


def read_lines(path: str) -> list[str]:
    """Reads the lines of a UTF-8 file: plain, .gz, or in a .zip (its only text file, unless the path continues inside).

    Raises:
      RequestError: the file is missing, unreadable, empty or not UTF-8; names the place.
    """
    archive, inside = path, ""
    if ".zip/" in path:
        archive, inside = path.split(".zip/", 1)
        archive += ".zip"
    file = epath.Path(archive)
    check_file(file)
    try:
        if archive.endswith(".zip"):
            with file.open("rb") as f, zipfile.ZipFile(f) as members:
                data = members.read(_member(members, archive, inside))
        else:
            data = file.read_bytes()
            data = gzip.decompress(data) if archive.endswith(".gz") else data
    except RequestError:
        raise
    except Exception as error:  # decompressors raise many types on damaged bytes
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise RequestError(f"{path}: cannot be read: {reason}") from None
    text = to_text(data, path)
    lines = text.removesuffix("\n").split("\n")  # not splitlines, which also splits at U+2028 and similar characters
    return [line.removesuffix("\r") for line in lines]


def _member(members: zipfile.ZipFile, archive: str, inside: str) -> str:
    names = [name for name in members.namelist() if not name.endswith("/")]
    if inside:
        require(inside in names, f"{archive}: holds no {inside!r}; {nearest(inside, names)}")
        return inside
    texts = [name for name in names if not any(part.startswith("_") or is_hidden(part) for part in name.split("/"))]
    which = f"name one, as in {archive}/{texts[0] if texts else 'file.txt'}"
    require(len(texts) == 1, f"{archive}: holds {', '.join(names) or 'nothing'}; {which}")
    return texts[0]


def check_special(name: str, tokenizer: Tokenizer | None) -> None:
    """Raises RequestError unless the tokenizer's special tokens begin with `SPECIAL`."""
    if tokenizer is None:
        return
    begins = tokenizer.special_tokens[: len(SPECIAL)] == SPECIAL
    require(begins, f"{name}.special_tokens={tokenizer.special_tokens}: expected them to begin with {SPECIAL}")
    check_part(name, tokenizer)


def ended(tokenizer: Tokenizer, line: str, where: str) -> np.ndarray:
    """The tokens of a line followed by "<eos>", int32 [length]; an error begins with `where`."""
    with prefixed(f"{where}: "):
        return np.append(tokenizer.encode(line), tokenizer.token_id(EOS)).astype(np.int32)


def _families(pairs: Pairs) -> np.ndarray:
    """Group numbers of pairs, int [pair]: equal for pairs that share a sentence, directly or through other pairs."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    sides = (pairs.sources, pairs.targets)
    sources, targets = (np.unique(np.array(side, object), return_inverse=True)[1] for side in sides)
    targets = targets + sources.max() + 1
    links = coo_array((np.ones(len(pairs), np.int8), (sources, targets)), shape=(targets.max() + 1,) * 2)
    return np.unique(connected_components(links, directed=False)[1][sources], return_inverse=True)[1]
