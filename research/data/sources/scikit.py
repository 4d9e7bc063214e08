"""The small classic data sets bundled with scikit-learn: nothing to download, seconds to train on."""

from __future__ import annotations

import dataclasses
from typing import Literal, Self

import numpy as np

from research.data.source import Columns, Source
from research.data.spec import Data, Splits, check_amount

Name = Literal["digits", "iris", "wine", "breast_cancer", "diabetes"]


@dataclasses.dataclass(frozen=True)
class Sklearn(Data):
    """One of scikit-learn's bundled data sets, with a stratified test split.

    digits: image uint8 [8, 8, 1] (0 to 16), label int32 []; 1,797 examples, 10 classes.  iris (150 × 4, 3 classes),
    wine (178 × 13, 3), breast_cancer (569 × 30, 2): features float32 [d], label int32 [].  diabetes (442 × 10):
    features float32 [d], target float32 [], in raw units, since scikit-learn's own scaling uses the test examples too.

    >>> splits = Sklearn("iris").load()
    >>> len(splits.train), len(splits.validation), len(splits.test)
    (108, 12, 30)

    Attributes:
      name: the data set.
      test: the fraction or number of examples to hold out as the test split, by `split_seed`.
      class_names: the names of the classes; `fit` fills them in.
    """

    name: Name = "digits"
    test: float | int = 0.2
    class_names: tuple[str, ...] | None = None

    def read(self) -> Splits:
        x, y = self._bunch().data, self._bunch().target
        if self.name == "digits":
            columns = {"image": x.reshape(-1, 8, 8, 1).astype(np.uint8), "label": y}
        else:
            columns = {"features": x, "target" if self.name == "diabetes" else "label": y}
        train, test = self.hold_out(Columns(columns), "test")
        return Splits(train=train, test=test)

    def fit(self, train: Source) -> Self:
        """Fills in `class_names`."""
        if self.class_names is not None or self.name == "diabetes":
            return self
        return dataclasses.replace(self, class_names=tuple(str(name) for name in self._bunch().target_names))

    def check(self) -> None:
        super().check()
        check_amount("test", self.test)

    def _bunch(self):
        from sklearn import datasets

        return datasets.load_diabetes(scaled=False) if self.name == "diabetes" else _loader(datasets, self.name)()


def _loader(datasets, name: str):
    return {
        "digits": datasets.load_digits,
        "iris": datasets.load_iris,
        "wine": datasets.load_wine,
        "breast_cancer": datasets.load_breast_cancer,
    }[name]
