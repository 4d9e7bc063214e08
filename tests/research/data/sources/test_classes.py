"""Selected classes of another data set, with new numbers."""

import dataclasses

import numpy as np
import pytest

from research.data.source import Columns, Subset, materialize
from research.data.sources.arrays import Arrays
from research.data.sources.classes import Classes
from research.data.sources.labeled_text import LabeledText
from research.data.sources.tables import Table
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


def table(tmp_path):
    rows = [f"{i % 7}.5,{'ab'[i % 2]},{'pqr'[i % 3]}\n" for i in range(60)]
    (tmp_path / "rows.csv").write_text("size,colour,kind\n" + "".join(rows))
    return Table(str(tmp_path / "rows.csv"), "kind")


def labeled_text(tmp_path):
    rows = [f"text {i},{'pqr'[i % 3]}\n" for i in range(60)]
    (tmp_path / "texts.csv").write_text("text,label\n" + "".join(rows))
    return LabeledText(path=str(tmp_path / "texts.csv"), length=8)


@pytest.mark.parametrize(("make", "column", "shape"), [(table, "features", (3,)), (labeled_text, "tokens", (8,))])
def test_classes_of_data_that_are_encoded_after_reading(tmp_path, make, column, shape):
    data = Classes(make(tmp_path), keep=(2, 0), validation=0.25)
    train, validation, test = data.load()
    assert data.fit(train).class_names == ("r", "p")
    for source, each in ((train, 12), (validation, 4), (test, 4)):
        columns = materialize(source)
        assert columns[column].shape[1:] == shape and np.bincount(columns["label"]).tolist() == [each] * 2


def test_columns_of_the_whole_data_set_are_described(tmp_path):
    data = Classes(table(tmp_path), keep=(2, 0))
    train = data.load().train
    said = [list(column.values())[:3] for column in data.fit(train).inferred(train)]
    assert said == [
        ["size", "number", "7"],
        ["colour", "category, 2 features", "2"],
        ["kind", "target, 3 classes", "3"],
    ]
