"""Your own arrays, from an .npz file or from memory."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import re
import zipfile
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Self

import numpy as np
from etils import epath

from research.data.source import Columns, Source, canonical, column, same_length
from research.data.spec import Data, Splits, check_amount, check_file, check_labels
from research.errors import RequestError, nearest, require

_SPLITS = Splits._fields
_SPLIT_OF = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}
_WORDS = f"(?P<split>{'|'.join(_SPLIT_OF)})"
_FIRST = re.compile(f"{_WORDS}_(?P<name>.+)", re.IGNORECASE)
_LAST = re.compile(f"(?P<name>.+)_{_WORDS}", re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class Arrays(Data):
    """Reads the columns of an .npz file.

    Keys are columns of a split or plain columns (image, label), from which `test` is held out.  The split is the first
    word (train_image, train_label, val_image, test_label) or, as Keras writes them, the last (x_train, y_train, x_test,
    y_test).  Every array is [example, ...].  A task names the columns that it uses: `Classification(input="x",
    label="y")`.

    >>> data = Arrays("mine.npz", test=0.2)
    >>> data = Arrays("mine.npz", test_path="held_out.npz", keys=(("X", "image"), ("y", "label")))

    Attributes:
      path: the .npz file.
      test: the fraction or number of examples to hold out, if the keys do not name splits.
      classes: the number of labels; None for one more than the largest in the training split.  A `label` beyond it, in
        any split, is an error.
      test_path: an .npz file with the test examples, under plain names or those of the test split, instead of `test`.
      keys: (key in the files, name here) pairs, such as ("pictures", "train_image"), or ("X", "image") for X_train and
        X_test, too.
    """

    path: str
    test: float | int = 0.2
    classes: int | None = None
    test_path: str | None = None
    keys: tuple[tuple[str, str], ...] = ()

    def read(self) -> Splits:
        arrays = _load_npz(self.path)
        held = None if self.test_path is None else _load_npz(self.test_path)
        self._check_keys({*arrays, *(held or {})})
        columns = _by_split(arrays, self.keys, "train", self.path)
        plain = columns.pop(None, None)
        columns |= {} if plain is None else {"train": plain}
        splits = _given_splits(columns | self._test(held, columns), self.path)
        if plain is not None and held is None:
            train, test = self.hold_out(splits.train, "test")
            splits = Splits(train=train, test=test)
        _check_classes(splits, self.classes)
        return splits

    def fit(self, train: Source) -> Self:
        """Fills in `classes` if the labels are integers."""
        labels = _labels(train)
        if self.classes is not None or labels is None:
            return self
        return dataclasses.replace(self, classes=int(labels.max()) + 1)

    def check(self) -> None:
        super().check()
        check_amount("test", self.test)
        require(self.classes is None or self.classes >= 1, f"classes={self.classes}: expected at least 1")

    def _test(self, held: Mapping[str, np.ndarray] | None, given: Collection[str]) -> dict[str, dict[str, np.ndarray]]:
        """Returns {"test": columns} of the arrays in `test_path`; {} without such a file."""
        if held is None:
            return {}
        require(bool(held), f"test_path={self.test_path!r}: holds no array")
        require("test" not in given, f"test_path={self.test_path!r}: {self.path!r} holds a test split, too")
        columns = _by_split(held, self.keys, "test", self.test_path)
        others = [split for split in columns if split not in (None, "test")]
        require(not others, f"test_path={self.test_path!r}: holds the {' and '.join(others)} split, expected test")
        return {"test": next(iter(columns.values()))}

    def _check_keys(self, there: Collection[str]) -> None:
        """Raises RequestError for a pair of `keys` that names nothing in the files."""
        parts = {match["name"] for key in there for match in (_FIRST.fullmatch(key), _LAST.fullmatch(key)) if match}
        for key, _ in self.keys:
            require(key in there or key in parts, f"keys: no array has the name {key!r}; {nearest(key, there)}")


@dataclasses.dataclass(frozen=True, eq=False)
class InMemory(Data):
    """Uses arrays from memory, each [example, ...].

    Two values are equal if all their fields and every byte of their arrays are equal.  Files record only shapes and a
    hash (`describe`): a model that was trained on the arrays can be loaded elsewhere and predict, but to
    train again or to score a split takes the arrays, so use `Arrays(path)` for a run to be rebuilt from its folder.

    >>> data = InMemory(train={"features": np.zeros((10, 3)), "label": np.arange(10) % 2}, validation=2)
    >>> {split: source and len(source) for split, source in data.load()._asdict().items()}
    {'train': 8, 'validation': 2, 'test': None}

    Attributes:
      train: {name: array} of the training split.
      test: the same for the test split, or None.
      validation_split: the same for the validation split; None holds `validation` out of train.
    """

    train: Mapping[str, np.ndarray]
    test: Mapping[str, np.ndarray] | None = None
    validation_split: Mapping[str, np.ndarray] | None = None

    _recalled = None  # the description of arrays that another process had

    @classmethod
    def recalled(cls, description: Mapping[str, Any]) -> Self:
        """Stands for arrays that another process had: encodes inputs for prediction, but has no examples."""
        names = {field.name for field in dataclasses.fields(Data)}
        data = cls(train={}, **{name: x for name, x in description.get("fields", {}).items() if name in names})
        object.__setattr__(data, "_recalled", dict(description))
        return data

    def read(self) -> Splits:
        if self._recalled is not None:
            raise RequestError("InMemory: the arrays existed only in memory; build the experiment again in Python")
        splits = _given_splits(self._given(), "InMemory")
        _check_classes(splits, None)
        return splits

    def describe(self) -> dict[str, Any]:
        """Shapes by split, the fields that differ from their defaults, and the SHA-256 of names, dtypes, shapes and
        contents.
        """
        if self._recalled is not None:
            return self._recalled
        shapes = {
            split: {name: f"{np.asarray(x).dtype}{list(np.shape(x))}" for name, x in sorted(columns.items())}
            for split, columns in self._given().items()
            if columns is not None
        }
        fields = {f.name: x for f in dataclasses.fields(Data) if (x := getattr(self, f.name)) != f.default}
        return shapes | ({"fields": fields} if fields else {}) | {"sha256": self.sha256}

    @functools.cached_property
    def sha256(self) -> str:
        """The hash of the arrays, computed once: do not write to them afterwards."""
        if self._recalled is not None:
            return str(self._recalled.get("sha256"))
        digest = hashlib.sha256()
        for split, columns in self._given().items():
            for name, x in sorted((columns or {}).items()):
                digest.update(f"{split} {name} {np.asarray(x).dtype} {np.shape(x)}\n".encode())
                digest.update(np.ascontiguousarray(canonical(x, repr(name))).reshape(-1).view(np.uint8))
        return digest.hexdigest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, InMemory) and self._identity() == other._identity()

    def __hash__(self) -> int:
        return hash(self._identity())

    def __repr__(self) -> str:
        return f"InMemory({self.describe()})"

    def _given(self) -> dict[str, Mapping[str, np.ndarray] | None]:
        return {"train": self.train, "validation": self.validation_split, "test": self.test}

    def _identity(self) -> tuple:
        return (self.sha256, *(getattr(self, field.name) for field in dataclasses.fields(Data)))


def _by_split(
    arrays: Mapping[str, np.ndarray], keys: Sequence[tuple[str, str]], expected: str, path: str
) -> dict[str | None, dict[str, np.ndarray]]:
    """Returns {split: {column: array}}, or {None: columns} if no key names a split.

    Raises:
      RequestError: only some of the keys name a split, or two of them become one column.
    """
    renamed = dict(keys)
    names = [renamed.get(key, key) for key in arrays]
    first, last = ({name: x for name in names if (x := how.fullmatch(name))} for how in (_FIRST, _LAST))
    splits = [{_SPLIT_OF[x["split"].lower()] for x in found.values()} for found in (first, last)]
    named = last if expected in splits[1] - splits[0] else first
    others = sorted(set(names) - set(named))
    if named and others:
        raise RequestError(
            f"path={path!r}: {', '.join(others)} belong to no split; "
            "expected every key to start with train_, validation_ or test_ (or to end with _train, ...), or none"
        )
    columns: dict[str | None, dict[str, np.ndarray]] = {}
    for key, name, x in zip(arrays, names, arrays.values(), strict=True):
        split, column = None, name
        if name in named:
            split, column = _SPLIT_OF[named[name]["split"].lower()], named[name]["name"]
        column = column if key in renamed else renamed.get(column, column)
        own = columns.setdefault(split, {})
        require(column not in own, f"path={path!r}: two arrays are called {column!r}{f' of {split}' if split else ''}")
        own[column] = x
    return columns


def _load_npz(path: str) -> dict[str, np.ndarray]:
    file = epath.Path(path)
    check_file(file)
    try:
        with file.open("rb") as f, np.load(f, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (zipfile.BadZipFile, ValueError, AttributeError, OSError, EOFError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise RequestError(f"path={path!r}: expected an .npz archive of numeric arrays ({reason})") from None


def _given_splits(columns: Mapping[str, Mapping[str, np.ndarray] | None], what: str) -> Splits:
    require(bool(columns.get("train")), f"{what}: no training arrays; expected image, label, ... or train_image, ...")
    splits = Splits(**{split: x and _columns(x, f"{what}: {split}") for split, x in columns.items()})
    for split, source in zip(_SPLITS[1:], splits[1:], strict=True):
        if source is not None:
            missing = sorted(splits.train.arrays().keys() ^ source.arrays().keys())
            require(not missing, f"{what}: {', '.join(missing)} is in only one of train and {split}")
    return splits


def _columns(arrays: Mapping[str, np.ndarray], what: str) -> Columns:
    same_length(arrays, what)
    return Columns(arrays)


def _labels(source: Source) -> np.ndarray | None:
    labels = column(source, "label")
    return labels if labels is not None and labels.dtype.kind in "iu" and labels.size else None


def _check_classes(splits: Splits, classes: int | None) -> None:
    labels = _labels(splits.train)
    if labels is not None:
        check_labels(splits, int(labels.max()) + 1 if classes is None else classes)
