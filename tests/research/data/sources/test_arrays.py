""".npz files and arrays in memory."""

import numpy as np
import pytest

from research.config.serialization import canonical, from_json, to_json
from research.data.feed import make_feed
from research.data.sources.arrays import Arrays, InMemory
from research.errors import RequestError

X, Y = np.arange(40.0).reshape(20, 2), np.arange(20) % 2


def save(tmp_path, name="data", **arrays):
    path = tmp_path / f"{name}.npz"
    np.savez(path, **arrays)
    return str(path)


def test_plain_columns_are_split(tmp_path):
    data = Arrays(save(tmp_path, features=X, label=Y), test=0.25, validation=5)
    data.check()
    splits = data.load()
    assert [len(split) for split in splits] == [10, 5, 5]
    features = np.concatenate([split.arrays()["features"] for split in splits])
    assert sorted(features[:, 0]) == X[:, 0].tolist() and features.dtype == np.float32
    assert data.fit(splits.train).classes == 2


def test_given_splits_are_kept(tmp_path):
    path = save(tmp_path, train_x=X, train_label=Y, validation_x=X[:4], validation_label=Y[:4], test_x=X, test_label=Y)
    splits = Arrays(path).load()
    assert [len(split) for split in splits] == [20, 4, 20]
    assert Arrays(save(tmp_path, train_x=X), validation=0).load()[1:] == (None, None)


@pytest.mark.parametrize(
    "names",
    [
        ("train_x", "train_label", "validation_x", "validation_label", "test_x", "test_label"),
        ("x_train", "label_train", "x_val", "label_val", "x_test", "label_test"),
        ("Train_x", "Train_label", "valid_x", "valid_label", "testing_x", "testing_label"),
    ],
)
def test_a_split_is_the_first_or_the_last_word_of_a_key(tmp_path, names):
    arrays = {name: [X, Y][i % 2][: (20, 4, 6)[i // 2]] for i, name in enumerate(names)}
    splits = Arrays(save(tmp_path, **arrays)).load()
    assert [len(split) for split in splits] == [20, 4, 6]
    assert all(split.arrays().keys() == {"x", "label"} for split in splits)


def test_the_last_word_is_a_split_only_beside_a_training_split(tmp_path):
    data = Arrays(save(tmp_path, x=X, label=Y, is_test=Y == 1), test=0.25, validation=5)
    assert [len(split) for split in data.load()] == [10, 5, 5]
    assert data.load().train.arrays().keys() == {"x", "label", "is_test"}


@pytest.mark.parametrize("ends", [("", ""), ("_train", "_test"), ("", "_test")])
def test_a_file_of_its_own_for_the_test_split(tmp_path, ends):
    train = {f"x{ends[0]}": X, f"label{ends[0]}": Y}
    test = save(tmp_path, "test", **{f"x{ends[1]}": X[:6] + 1, f"label{ends[1]}": Y[:6]})
    splits = Arrays(save(tmp_path, **train), test_path=test, validation=4).load()
    assert [len(split) for split in splits] == [16, 4, 6]
    np.testing.assert_array_equal(splits.test.arrays()["x"], X[:6] + 1)


def test_keys_are_mapped_to_columns(tmp_path):
    path = save(tmp_path, X_train=X, y_train=Y, X_test=X[:5], y_test=Y[:5])
    splits = Arrays(path, keys=(("X", "image"), ("y", "label"))).load()
    assert all(split.arrays().keys() == {"image", "label"} for split in (splits.train, splits.test))
    path = save(tmp_path, pictures=X, held=X[:5])
    splits = Arrays(path, keys=(("pictures", "train_image"), ("held", "test_image")), validation=0).load()
    assert [split and len(split) for split in splits] == [20, None, 5]
    path = save(tmp_path, a=X, b=Y)
    train = Arrays(path, keys=(("a", "b"), ("b", "a")), test=0, validation=0).load().train
    assert train.arrays()["b"].ndim == 2 and train.arrays()["a"].ndim == 1


def test_a_test_file_that_is_none_is_refused(tmp_path):
    path, whole = save(tmp_path, x=X), save(tmp_path, "whole", train_x=X, test_x=X)
    with pytest.raises(RequestError, match="^test_path=.*whole.npz' holds a test split, too"):
        Arrays(whole, test_path=path).load()
    with pytest.raises(RequestError, match="^test_path=.*holds the train split, expected test"):
        Arrays(path, test_path=whole).load()
    with pytest.raises(RequestError, match="^.*: x, y is in only one of train and test"):
        Arrays(path, test_path=save(tmp_path, "other", y=X)).load()
    with pytest.raises(RequestError, match="no-file.npz' does not exist"):
        Arrays(path, test_path=str(tmp_path / "no-file.npz")).load()


def test_a_target_is_no_class(tmp_path):
    data = Arrays(save(tmp_path, x=X, target=X[:, 0]))
    assert data.fit(data.load().train).classes is None


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"train_x": X, "label": Y}, r"path=.*: label belong to no split; expected every key to start with train_"),
        ({"x": X, "label": Y[:7]}, r"the numbers of examples differ \(x 20, label 7\)|.*differ \(x 20, label 7\)"),
        ({"test_x": X}, ".*no training arrays"),
        ({"train_x": X, "test_y": X}, ".*x, y is in only one of train and test"),
        ({"x": np.array(["a", "b"])}, "column 'x' is text"),
        ({"train_label": Y, "test_label": Y + 1}, "test: example 1 has label 2, expected 0 to 1"),
        ({"train_label": Y - 1}, "train: example 0 has label -1"),
        ({"x": np.float32(1)}, ".*x has no axis of examples"),
    ],
)
def test_arrays_that_make_no_data_set(tmp_path, arrays, message):
    with pytest.raises(RequestError, match=f"^{message}"):
        Arrays(save(tmp_path, **arrays)).load()


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ((("z", "image"),), "keys: no array has the name 'z'; one of: label, x"),
        ((("x", "label"),), "path=.*: two arrays are called 'label'"),
    ],
)
def test_keys_that_fit_nothing(tmp_path, keys, message):
    with pytest.raises(RequestError, match=f"^{message}"):
        Arrays(save(tmp_path, x=X, label=Y), keys=keys).load()


def test_labels_beyond_the_classes_given(tmp_path):
    with pytest.raises(RequestError, match="^train: example 1 has label 1, expected 0 to 0"):
        Arrays(save(tmp_path, train_label=Y), classes=1).load()


def test_numbers_that_are_not_finite(tmp_path):
    x = X.copy()
    x[3, 1] = np.nan
    with pytest.raises(RequestError, match="^example 3: 'x' holds nan"):
        make_feed(Arrays(save(tmp_path, train_x=x), validation=0).load().train)


def test_files_that_are_none(tmp_path):
    path = save(tmp_path, x=X)
    with pytest.raises(RequestError, match=r"date.npz' does not exist; did you mean 'data.npz'\?"):
        Arrays(path.replace("data.npz", "date.npz")).load()
    with pytest.raises(RequestError, match="expected a file, this is a folder"):
        Arrays(str(tmp_path)).load()
    for content in (b"", b"not a zip", b"PK\x03\x04 cut"):
        (tmp_path / "data.npz").write_bytes(content)
        with pytest.raises(RequestError, match="expected an .npz archive of numeric arrays"):
            Arrays(path).load()
    np.savez(path, x=np.array([{}, None], dtype=object))  # would need pickle
    with pytest.raises(RequestError, match="expected an .npz archive of numeric arrays"):
        Arrays(path).load()


def test_arrays_in_memory():
    data = InMemory({"x": X, "label": Y}, test={"x": X, "label": Y}, validation=4)
    data.check()
    splits = data.load()
    assert [len(split) for split in splits] == [16, 4, 20]
    own = InMemory({"x": X}, validation_split={"x": X[:3]})
    assert [split and len(split) for split in own.load()] == [20, 3, None]


def test_arrays_in_memory_are_compared_by_content():
    data, same = InMemory({"x": X, "label": Y}), InMemory({"label": Y.copy(), "x": X.copy()})
    assert data == same and hash(data) == hash(same)
    others = [
        InMemory({"x": X + 1, "label": Y}),
        InMemory({"x": X.astype(np.float32), "label": Y}),
        InMemory({"x": X.reshape(20, 1, 2), "label": Y}),
        InMemory({"z": X, "label": Y}),
        InMemory({"x": X, "label": Y}, test={"x": X, "label": Y}),
        InMemory({"x": X, "label": Y}, validation=0.2),
    ]
    assert len({data, *others}) == 1 + len(others)


def test_arrays_in_memory_are_described_not_written():
    description = InMemory({"x": X, "label": Y}).describe()
    assert description["train"] == {"label": "int64[20]", "x": "float64[20, 2]"}
    assert len(description["sha256"]) == 64 and "test" not in description
    assert "sha256" in repr(InMemory({"x": X})) and len(repr(InMemory({"x": X}))) < 200


def test_fields_that_choose_examples_are_described_and_recalled():
    data, fewer = InMemory({"x": X, "label": Y}), InMemory({"x": X, "label": Y}, train_examples=5, validation=4)
    assert canonical(fewer) != canonical(data) and "fields" not in data.describe()
    recalled = from_json(to_json(fewer))
    assert recalled == fewer and recalled.validation == 4 and to_json(recalled) == to_json(fewer)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: InMemory({}), "InMemory: no training arrays"),
        (lambda: InMemory({"x": X, "y": Y[:3]}), "InMemory: train: the numbers of examples differ"),
        (lambda: InMemory({"x": X}, test={"z": X}), "InMemory: x, z is in only one of train and test"),
    ],
)
def test_arrays_in_memory_that_make_no_data_set(make, message):
    with pytest.raises(RequestError, match=f"^{message}"):
        make().load()
