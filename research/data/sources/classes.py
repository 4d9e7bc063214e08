"""Selects some classes of another data set and renumbers them, to pre-train on some and transfer to the others.

Classes(TFDS("fashion_mnist"), keep=(1, 3, 5))      # labels 0, 1, 2 are trousers, dresses and sandals
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, Self

import numpy as np

from research.data.source import Columns, Source, column, examples, shared, subset, where
from research.data.spec import Data, Splits
from research.errors import require


@dataclasses.dataclass(frozen=True)
class Classes(Data):
    """Keeps the examples of `of` whose label is in `keep`; the new label is the index in `keep`.

    `validation`, `split_seed`, `train_examples` and `storage` are set here and apply to the kept examples; the same
    fields of `of` are ignored, and what `of` fits, such as the categories of a table, comes from all its training rows.

    >>> splits = Classes(data.Sklearn("digits"), keep=(3, 8)).load()
    >>> sorted({int(splits.test[i]["label"]) for i in range(len(splits.test))})
    [0, 1]

    Attributes:
      of: the data set.
      keep: the labels to keep, in their new order.
      label: the column of labels.
    """

    of: Data
    keep: tuple[int, ...]
    label: str = "label"

    def read(self) -> Splits:
        return _read(self.of, self.keep, self.label)

    def fit(self, train: Source) -> Self:
        return dataclasses.replace(self, of=self.of.fit(_whole(self.of, self.label).train))

    def inferred(self, train: Source) -> list[dict[str, str]]:
        """Describes how the columns of `of` are read, with the values of all its classes."""
        return self.of.inferred(_whole(self.of, self.label).train)

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """The names of the kept classes."""
        names = self.of.class_names
        return None if names is None else tuple(names[number] for number in self.keep)

    def encode(self, raw: Any) -> dict[str, np.ndarray]:
        return self.of.encode(raw)

    def check(self) -> None:
        super().check()
        self.of.check()
        require(len(self.keep) >= 2, f"keep={self.keep}: expected at least 2 classes")
        require(len(set(self.keep)) == len(self.keep), f"keep={self.keep}: a class is named twice")


# A sweep makes many splits of the same examples, which are read once.


@functools.lru_cache(maxsize=4)
def _whole(of: Data, label: str) -> Splits:
    """All examples of `of`: its training split is not divided any further."""
    return dataclasses.replace(of, validation=0, train_examples=None).stratified_by(label).load()


@functools.lru_cache(maxsize=4)
def _read(of: Data, keep: tuple[int, ...], label: str) -> Splits:
    read = _whole(of, label)._asdict()
    return Splits(**{split: source and _kept(source, keep, label, split) for split, source in read.items()})


def _kept(source: Source, keep: tuple[int, ...], label: str, split: str) -> Source:
    labels = column(source, label)
    require(
        labels is not None and labels.ndim == 1 and labels.dtype.kind in "iu",
        f"label={label!r}: the {split} split has no column of integers of that name",
    )
    for number in keep:
        require(number in labels, f"keep={keep}: no example of the {split} split has {label} {number}")
    chosen = np.flatnonzero(np.isin(labels, keep))
    order = np.argsort(keep)
    numbers = order[np.searchsorted(keep, labels[chosen], sorter=order)].astype(np.int32)
    rest = subset(source, chosen)
    if hasattr(rest, "arrays"):
        return Columns(rest.arrays() | {label: numbers}, shared(rest))
    return _Relabelled(rest, label, numbers)


class _Relabelled:
    """A source with one column replaced by in-memory values."""

    def __init__(self, source: Source, name: str, values: np.ndarray):
        self._source, self._name, self._values = source, name, values

    def __len__(self) -> int:
        return len(self._values)

    def __getitem__(self, i: int) -> dict[str, np.ndarray]:
        return self._source[i] | {self._name: self._values[i]}

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, np.ndarray]]:
        found = examples(self._source, indices)
        return [example | {self._name: self._values[i]} for example, i in zip(found, indices, strict=True)]

    def column(self, name: str) -> np.ndarray | None:
        return self._values if name == self._name else column(self._source, name)

    def where(self, i: int) -> str:
        return where(self._source, i)

    def shared(self) -> dict[str, np.ndarray]:
        return shared(self._source)
