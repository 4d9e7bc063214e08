"""Selected classes of another data set, with new numbers."""

import dataclasses

import numpy as np
import pytest

from research.data.source import Columns, Subset, materialize
from research.data.sources.arrays import Arrays
from research.data.sources.classes import Classes
from research.data.spec import Data, Splits
from research.errors import RequestError


@dataclasses.dataclass(frozen=True)
class Toy(Data):
    """60 examples of six classes and 12 test examples; decoded one by one if `lazy`."""

    lazy: bool = False

    def read(self) -> Splits:
        def part(n: int):
            columns = Columns({"id": np.arange(n), "label": np.arange(n) % 6})
            return Subset(columns, np.arange(n)) if self.lazy else columns

        return Splits(train=part(60), test=part(12))


@pytest.mark.parametrize("lazy", [False, True])
def test_labels_are_places_in_keep(lazy):
    train, validation, test = Classes(Toy(lazy=lazy), keep=(4, 1), validation=0.2).load()
    assert len(train) == 16 and len(validation) == 4 and len(test) == 4
    for source in (train, validation, test):
        columns = materialize(source)
        np.testing.assert_array_equal(columns["id"] % 6, np.array([4, 1])[columns["label"]])
        assert columns["label"].dtype == np.int32


def test_budgets_are_so_many_of_each_class_and_nested():
    def ids(budget):
        data = Classes(Toy(), keep=(0, 2, 5), validation=0, train_examples=3 * budget)
        columns = data.load().train.arrays()
        assert np.bincount(columns["label"]).tolist() == [budget] * 3
        return set(columns["id"].tolist())

    assert ids(2) < ids(5) < ids(10)


def test_what_the_whole_data_set_says_of_itself_is_kept(tmp_path):
    np.savez(tmp_path / "it.npz", train_image=np.zeros((6, 2)), train_label=np.arange(6) % 3)
    data = Classes(Arrays(path=str(tmp_path / "it.npz")), keep=(2, 0), validation=0)
    fitted = data.fit(data.load().train)
    assert fitted.of.classes == 3 and fitted.load().train.arrays()["label"].tolist() == [1, 0, 1, 0]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (Classes(Toy(), keep=(1,)), "keep=(1,): expected at least 2 classes"),
        (Classes(Toy(), keep=(1, 1)), "keep=(1, 1): a class is named twice"),
        (Classes(Toy(), keep=(1, 6)), "keep=(1, 6): no example of the train split has label 6"),
        (Classes(Toy(), keep=(1, 2), label="id2"), "label='id2': the train split has no column of integers"),
    ],
)
def test_what_cannot_be_is_one_line(data, says):
    with pytest.raises(RequestError, match="^[^\n]+$") as error:
        data.check()
        data.load()
    assert says in str(error.value)
