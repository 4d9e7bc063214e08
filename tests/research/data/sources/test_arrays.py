""".npz files and arrays in memory."""

import numpy as np
import pytest

from research.data.feed import make_feed
from research.data.sources.arrays import Arrays, InMemory
from research.errors import RequestError

X, Y = np.arange(40.0).reshape(20, 2), np.arange(20) % 2


def save(tmp_path, **arrays):
    path = tmp_path / "data.npz"
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
