"""Data sets as values: a `Data` loads its splits and encodes raw inputs for prediction.

A new data set is a subclass with one method, `read`, that returns the splits found in the files:

    @dataclasses.dataclass(frozen=True)
    class Spirals(Data):
        noise: float = 0.1

        def read(self) -> Splits:
            return Splits(train=Columns({"features": x, "label": y}), test=Columns(...))

`load` then takes a validation split from train if there is none, and subsamples train if asked to.
"""

from __future__ import annotations

import abc
import copy
import dataclasses
from typing import Any, Literal, NamedTuple, Self

import numpy as np
from etils import epath

from research.config.checks import check_types
from research.config.inherited import describe_inherited
from research.console import counted
from research.data.source import Source, canonical, column, same_length, subset
from research.data.split import count, hold_out, stratified_order
from research.errors import RequestError, nearest, require
from research.listing import visible

Storage = Literal["auto", "device", "host", "workers"]

_PURPOSES = {"test": 1, "validation": 2, "train_examples": 3}  # independent orders from one split_seed


class Splits(NamedTuple):
    """The examples for training, model selection and final test."""

    train: Source
    validation: Source | None = None
    test: Source | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Data(abc.ABC):
    """The base of every data set, with the fields they share.

    Splits are stratified by the label if the data have an integer label per example: by the column that `stratified_by`
    names, or else by `label`.

    Attributes:
      validation: the part of the training split held out for model selection, as a fraction or a number of examples;
        0 for none.  A data set with a validation split of its own keeps that one.
      split_seed: decides which examples go to which split; independent of the experiment's seed.
      train_examples: the number of training examples to use; None for all.
      storage: where decoded examples are kept during training; "auto" chooses the device if they fit, else host
        memory, else reading by `workers` processes.  It affects speed, never the batches.
      workers: the number of processes that read the data where it is not kept in memory.
    """

    # Without an annotation: a dataclass would put it before a subclass's fields, those without defaults among them.
    class_names = None
    """The name of each label; data sets with named classes have a field instead, which `fit` fills in."""

    _label = "label"  # set by `stratified_by`

    validation: float | int = 0.1
    split_seed: int = 0
    train_examples: int | None = None
    storage: Storage = "auto"
    workers: int = 2

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        describe_inherited(cls)

    @abc.abstractmethod
    def read(self) -> Splits:
        """Reads the splits as they are on disk."""

    def load(self) -> Splits:
        """The splits of an experiment: reads them, holds out a validation split and subsamples the training split."""
        train, validation, test = self.read()
        if validation is None:
            train, validation = self.hold_out(train, "validation")
        if self.train_examples is not None:
            require(
                self.train_examples <= len(train),
                f"train_examples={self.train_examples}: the training split has {counted(len(train), 'example')}",
            )
            chosen = stratified_order(_strata(train, self._label), self.split_seed, _PURPOSES["train_examples"])
            train = subset(train, np.sort(chosen[: self.train_examples]))
        return Splits(train, validation, test)

    def stratified_by(self, label: str) -> Self:
        """Returns a copy whose splits are stratified by the column `label`, as the task calls it; this is no field,
        and is neither compared nor recorded.
        """
        copied = copy.copy(self)
        object.__setattr__(copied, "_label", label)
        return copied

    def hold_out(self, source: Source, field: Literal["validation", "test"]) -> tuple[Source, Source | None]:
        """Holds out the share of `source` given by `self.validation` or `self.test`: (rest, held), with held None for
        0.
        """
        amount = getattr(self, field)
        if count(amount, len(source), field) == 0:
            return source, None
        rest, held = hold_out(_strata(source, self._label), amount, self.split_seed, _PURPOSES[field], field)
        return subset(source, rest), subset(source, held)

    def fit(self, train: Source) -> Self:
        """A copy with fields that are None computed from the training split, as returned by `load`."""
        return self

    def inferred(self, train: Source) -> list[dict[str, str]]:
        """Describes how each column of the files is read, {heading: text} by column, for a person to check.

        Called on a fitted data set with its training split; empty if nothing is inferred.
        """
        return []

    def example(self) -> dict[str, np.ndarray] | None:
        """Zeros with the shapes and dtypes of one example if they are known without reading files, otherwise None.

        Shared columns are among them, in a dict under "shared".
        """
        return None

    def encode(self, raw: Any) -> dict[str, np.ndarray]:
        """Encodes raw inputs for prediction as columns [example, ...], without reading the data set.

        By default the input is a dict of arrays by name; shared columns are in a dict under "shared", here and in what
        is returned.
        """
        require(isinstance(raw, dict), f"expected a dict of arrays [example, ...], got {type(raw).__name__}")
        columns = {name: canonical(x, f"{name!r}") for name, x in raw.items() if name != "shared"}
        same_length(columns, "the input")
        if "shared" not in raw:
            return columns
        given = raw["shared"]
        require(isinstance(given, dict), f"'shared': expected a dict of arrays, got {type(given).__name__}")
        return columns | {"shared": {name: canonical(x, f"shared column {name!r}") for name, x in given.items()}}

    def check(self) -> None:
        """Raises RequestError for an invalid field."""
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
    """Raises RequestError unless `path` is a file; the error suggests the nearest name in its folder."""
    if path.is_dir():
        raise RequestError(f"path={str(path)!r}: expected a file, this is a folder")
    if not path.exists():
        siblings = [p.name for p in visible(path.parent)] if path.parent.exists() else []
        hint = nearest(path.name, siblings) if siblings and len(siblings) <= 20 else "no such file"
        raise RequestError(f"path={str(path)!r} does not exist; {hint}")


def check_labels(splits: Splits, classes: int, field: str = "label") -> None:
    """Raises RequestError for a label outside [0, classes)."""
    for split, source in zip(Splits._fields, splits, strict=True):
        labels = None if source is None else column(source, field)
        if labels is not None and len(labels) and not (labels.min() >= 0 and labels.max() < classes):
            bad = int(np.argmax((labels < 0) | (labels >= classes)))
            raise RequestError(f"{split}: example {bad} has {field} {labels[bad]}, expected 0 to {classes - 1}")


def _strata(source: Source, label: str) -> np.ndarray | int:
    """The integer labels to stratify by, in the column `label` or in "label", or else the number of examples."""
    for name in dict.fromkeys((label, "label")):
        labels = column(source, name)
        if labels is not None and labels.ndim == 1 and labels.dtype.kind in "iub":
            return labels
    return len(source)
