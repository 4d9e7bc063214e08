"""Shared behaviour of data sets: held-out splits, subsampling, encoding, and an independent seed."""

import dataclasses

import numpy as np
import pytest
import toys

from research.data.source import Columns
from research.data.sources.arrays import Arrays
from research.data.sources.classes import Classes
from research.data.spec import Data, Splits, check_labels
from research.errors import RequestError
from research.tasks.classification import Classification
from research.tasks.language_modeling import LanguageModeling


@dataclasses.dataclass(frozen=True)
class Toy(Data):
    """100 examples of four unequal classes, and 20 test examples."""

    own_validation: bool = False

    def read(self) -> Splits:
        label = np.repeat([0, 1, 2, 3], [40, 30, 20, 10])
        train = Columns({"id": np.arange(100), "label": label})
        test = Columns({"id": np.arange(100, 120), "label": label[::5]})
        return Splits(train, test if self.own_validation else None, test)


def ids(source):
    return source.arrays()["id"].tolist()


def test_validation_is_carved_from_train():
    train, validation, test = Toy(validation=0.2).load()
    assert sorted(ids(train) + ids(validation)) == list(range(100))
    assert np.bincount(validation.arrays()["label"]).tolist() == [8, 6, 4, 2]
    assert ids(test) == list(range(100, 120))


def test_a_validation_split_of_its_own_is_kept():
    train, validation, _ = Toy(own_validation=True, validation=0.2).load()
    assert len(train) == 100 and len(validation) == 20


def test_no_validation():
    assert Toy(validation=0).load().validation is None


def test_train_examples_are_stratified_and_leave_validation_alone():
    whole, part = Toy(validation=10).load(), Toy(validation=10, train_examples=9).load()
    assert ids(whole.validation) == ids(part.validation)
    assert set(ids(part.train)) < set(ids(whole.train))
    assert np.bincount(part.train.arrays()["label"]).tolist() in ([4, 3, 2, 0], [3, 3, 2, 1], [4, 2, 2, 1])


def test_split_seed_moves_the_splits():
    assert ids(Toy().load().validation) == ids(Toy().load().validation)
    assert ids(Toy().load().validation) != ids(Toy(split_seed=1).load().validation)


def test_fit_without_anything_to_fill():
    data = Toy()
    assert data.fit(data.load().train) is data


def test_encode_takes_arrays():
    encoded = Toy().encode({"features": [[0.5, 1], [2, 3]], "label": [1, 2]})
    assert encoded["features"].dtype == np.float32 and encoded["label"].dtype == np.int32


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ([1, 2], "expected a dict of arrays"),
        ({"x": np.zeros(2), "y": np.zeros(3)}, "the input: the numbers of examples differ"),
        ({"x": ["a"]}, "'x' is text"),
        ({}, "the input: there are none"),
    ],
)
def test_encode_refuses(raw, message):
    with pytest.raises(RequestError, match=f"^{message}"):
        Toy().encode(raw)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"validation": 1.0}, "validation=1.0: expected a fraction below 1"),
        ({"validation": -1}, "validation=-1"),
        ({"split_seed": -1}, "split_seed=-1: expected at least 0"),
        ({"train_examples": 0}, "train_examples=0: expected at least 1"),
        ({"workers": -1}, "workers=-1"),
        ({"storage": "devise"}, "storage='devise': expected one of .*; did you mean 'device'"),
    ],
)
def test_check(fields, message):
    Toy().check()
    with pytest.raises(RequestError, match=f"^{message}"):
        Toy(**fields).check()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"validation": 100}, "validation=100: expected a fraction below 1, or a number of examples below the 100"),
        ({"train_examples": 200}, "train_examples=200: the training split has 90 examples"),
    ],
)
def test_more_than_there_is(fields, message):
    with pytest.raises(RequestError, match=f"^{message}"):
        Toy(**fields).load()


@pytest.mark.parametrize("bad", [-1, 4])
def test_labels_out_of_range_are_named(bad):
    check_labels(Toy().load(), 4)
    splits = Splits(Columns({"label": np.array([0, 1])}), None, Columns({"label": np.array([3, bad, 3])}))
    with pytest.raises(RequestError, match=f"^test: example 1 has label {bad}, expected 0 to 3"):
        check_labels(splits, 4)


def test_data_sets_are_values():
    assert Toy() == Toy() and hash(Toy()) == hash(Toy())
    assert dataclasses.replace(Toy(), validation=0.2) == Toy(validation=0.2) != Toy()


@pytest.mark.parametrize("label", ["digit", "label"])
def test_splits_are_stratified_by_the_label_of_the_task(tmp_path, label):
    """Each split has equally many examples of each class, also if the label is not called "label"."""
    digits = np.random.default_rng(0).permutation(np.arange(500) % 10)
    np.savez(tmp_path / "digits.npz", x=np.zeros((500, 2), np.float32), **{label: digits})
    data = Arrays(str(tmp_path / "digits.npz"), test=0.2, validation=0.25, train_examples=200)
    experiment = toys.experiment(data=data, task=Classification(classes=10, input="x", label=label))
    for split, each in zip(experiment.load(), (20, 10, 10), strict=True):
        assert np.bincount(split.arrays()[label]).tolist() == [each] * 10
    assert data == experiment.data == data.stratified_by("other")  # not recorded


def test_selected_classes_are_stratified_by_their_label(tmp_path):
    digits = np.random.default_rng(0).permutation(np.arange(500) % 10)
    np.savez(tmp_path / "digits.npz", x=np.zeros((500, 2), np.float32), digit=digits)
    data = Classes(Arrays(str(tmp_path / "digits.npz"), test=0.2), keep=(1, 3), label="digit")
    test = toys.experiment(data=data, task=Classification(classes=2, input="x", label="digit")).load().test
    assert np.bincount(test.arrays()["digit"]).tolist() == [10, 10]
    assert toys.experiment(task=LanguageModeling(vocab_size=9)).label == "label"
