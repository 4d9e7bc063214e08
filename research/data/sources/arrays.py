"""Your own arrays, from an .npz file or from memory."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import zipfile
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from etils import epath

from research.data.source import Columns, Source, canonical, column, same_length
from research.data.spec import Data, Splits, check_amount, check_file, check_labels
from research.errors import RequestError, require

_SPLITS = Splits._fields


@dataclasses.dataclass(frozen=True)
class Arrays(Data):
    """Reads the columns of an .npz file.

    Keys are columns of a split (train_image, train_label, validation_image, ..., test_label) or plain columns (image,
    label), from which `test` is held out.  Every array is [example, ...].

    >>> data = Arrays("mine.npz", test=0.2)

    Attributes:
      path: the .npz file.
      test: the fraction or number of examples to hold out, if the keys do not name splits.
      classes: the number of labels; None for one more than the largest in the training split.  A `label` beyond it, in
        any split, is an error.
    """

    path: str
    test: float | int = 0.2
    classes: int | None = None

    def read(self) -> Splits:
        arrays = _load_npz(self.path)
        by_split = {split: {} for split in _SPLITS}
        plain = {}
        for key, x in arrays.items():
            split, _, name = key.partition("_")
            if split in by_split and name:
                by_split[split][name] = x
            else:
                plain[key] = x
        if plain and any(by_split.values()):
            raise RequestError(
                f"path={self.path!r}: {', '.join(sorted(plain))} belong to no split; "
                "expected every key to start with train_, validation_ or test_, or none"
            )
        if plain:
            train, test = self.hold_out(_columns(plain, self.path), "test")
            splits = Splits(train=train, test=test)
        else:
            splits = _given_splits({split: columns or None for split, columns in by_split.items()}, self.path)
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


@dataclasses.dataclass(frozen=True, eq=False)
class InMemory(Data):
    """Uses arrays from memory, each [example, ...].

    Two values are equal if all their fields and every byte of their arrays are equal.  Files record only shapes and a
    hash (`describe`), so use `Arrays(path)` for a run that should be rebuilt from its folder or run in another process.

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

    def read(self) -> Splits:
        splits = _given_splits(self._given(), "InMemory")
        _check_classes(splits, None)
        return splits

    def describe(self) -> dict[str, Any]:
        """Shapes by split, and the SHA-256 of names, dtypes, shapes and contents."""
        shapes = {
            split: {name: f"{np.asarray(x).dtype}{list(np.shape(x))}" for name, x in sorted(columns.items())}
            for split, columns in self._given().items()
            if columns is not None
        }
        return shapes | {"sha256": self.sha256}

    @functools.cached_property
    def sha256(self) -> str:
        """The hash of the arrays, computed once: do not write to them afterwards."""
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


def _load_npz(path: str) -> dict[str, np.ndarray]:
    file = epath.Path(path)
    check_file(file)
    try:
        with file.open("rb") as f, np.load(f, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (zipfile.BadZipFile, ValueError, AttributeError, OSError, EOFError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise RequestError(f"path={path!r}: expected an .npz archive of numeric arrays ({reason})") from None


def _given_splits(columns: dict[str, Mapping[str, np.ndarray] | None], what: str) -> Splits:
    require(bool(columns["train"]), f"{what}: no training arrays; expected image, label, ... or train_image, ...")
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
