"""What a data set is to an experiment: a value that loads its splits, and encodes what a user brings to predict on.

A new data set is a subclass with one method, `read`, that returns the splits the files hold:

    @dataclasses.dataclass(frozen=True)
    class Spirals(Data):
        noise: float = 0.1

        def read(self) -> Splits:
            return Splits(train=Columns({"features": x, "label": y}), test=Columns(...))

`load` then carves the validation split out of train, unless there is one, and subsamples.
"""

from __future__ import annotations

import abc
import dataclasses
from typing import Any, Literal, NamedTuple, Self

import numpy as np
from etils import epath

from research.config.checks import check_types
from research.data.source import Source, canonical, column, same_length, subset
from research.data.split import count, hold_out, stratified_order
from research.errors import RequestError, nearest, require

Storage = Literal["auto", "device", "host", "workers"]

_PURPOSES = {"test": 1, "validation": 2, "train_examples": 3}  # orders of one split_seed that do not coincide


class Splits(NamedTuple):
    """The examples to train on, to select by, and to report on."""

    train: Source
    validation: Source | None = None
    test: Source | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Data(abc.ABC):
    """The fields all data sets share.

    `validation`: the part of the training split to select by, a fraction or a number of examples; 0 for none.  A data
    set that brings a validation split keeps it.  `split_seed` fixes who is in which split, so that an experiment's
    seed does not.  `train_examples`: how many examples of the training split to use, None for all.  Both are
    stratified by `label`, where the data has an integer label per example.

    `storage`: where the decoded examples live while training ("auto": on the device if they fit, else in host memory,
    else read by `workers` processes).  It changes the speed, never a batch.
    """

    validation: float | int = 0.1
    split_seed: int = 0
    train_examples: int | None = None
    storage: Storage = "auto"
    workers: int = 2

    @abc.abstractmethod
    def read(self) -> Splits:
        """The splits as they are on disk."""

    def load(self) -> Splits:
        """The splits of an experiment: those of `read`, a validation split carved from train, train subsampled."""
        train, validation, test = self.read()
        if validation is None:
            train, validation = self.hold_out(train, "validation")
        if self.train_examples is not None:
            require(
                self.train_examples <= len(train),
                f"train_examples={self.train_examples}: the training split has {len(train):,} examples",
            )
            chosen = stratified_order(_strata(train), self.split_seed, _PURPOSES["train_examples"])
            train = subset(train, np.sort(chosen[: self.train_examples]))
        return Splits(train, validation, test)

    def hold_out(self, source: Source, field: Literal["validation", "test"]) -> tuple[Source, Source | None]:
        """(rest, held): the share of `source` that the field of that name asks for, held out; None for 0."""
        amount = getattr(self, field)
        if count(amount, len(source), field) == 0:
            return source, None
        rest, held = hold_out(_strata(source), amount, self.split_seed, _PURPOSES[field], field)
        return subset(source, rest), subset(source, held)

    def fit(self, train: Source) -> Self:
        """This data set with the fields that are None filled in from the training split that `load` returned."""
        return self

    def example(self) -> dict[str, np.ndarray] | None:
        """Zeros of the shapes and dtypes of one example, where they are known without the files; else None."""
        return None

    def encode(self, raw: Any) -> dict[str, np.ndarray]:
        """What a user brings to predict on, as columns [example, ...]; needs no data set.  Here: arrays by name."""
        require(isinstance(raw, dict), f"expected a dict of arrays [example, ...], got {type(raw).__name__}")
        columns = {name: canonical(x, f"{name!r}") for name, x in raw.items()}
        same_length(columns, "the input")
        return columns

    def check(self) -> None:
        """Raises RequestError for a field that cannot be meant."""
        check_types(self)
        check_amount("validation", self.validation)
        for name, least in (("split_seed", 0), ("workers", 0), ("train_examples", 1)):
            value = getattr(self, name)
            require(value is None or value >= least, f"{name}={value}: expected at least {least}")


def check_amount(name: str, amount: float | int) -> None:
    """Raises RequestError unless `amount` is a number of examples or a fraction below 1."""
    good = amount >= 0 and (isinstance(amount, int) or amount < 1)
    require(good, f"{name}={amount}: expected a fraction below 1, or a number of examples as an integer")


def check_file(path: epath.Path) -> None:
    """Raises RequestError, with the name nearest in its folder, unless `path` is a file."""
    if path.is_dir():
        raise RequestError(f"path={str(path)!r}: expected a file, this is a folder")
    if not path.exists():
        siblings = [p.name for p in path.parent.iterdir()] if path.parent.exists() else []
        hint = nearest(path.name, siblings) if siblings and len(siblings) <= 20 else "no such file"
        raise RequestError(f"path={str(path)!r} does not exist; {hint}")


def check_labels(splits: Splits, classes: int, field: str = "label") -> None:
    """Raises RequestError for a label outside [0, classes)."""
    for split, source in zip(Splits._fields, splits, strict=True):
        labels = None if source is None else column(source, field)
        if labels is not None and len(labels) and not (labels.min() >= 0 and labels.max() < classes):
            bad = int(np.argmax((labels < 0) | (labels >= classes)))
            raise RequestError(f"{split}: example {bad} has {field} {labels[bad]}, expected 0 to {classes - 1}")


def _strata(source: Source) -> np.ndarray | int:
    """The labels to split by, or the number of examples where there is no integer label per example."""
    labels = column(source, "label")
    return labels if labels is not None and labels.ndim == 1 and labels.dtype.kind in "iub" else len(source)
