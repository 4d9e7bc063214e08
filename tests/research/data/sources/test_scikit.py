"""scikit-learn's bundled data: shapes, dtypes, stratified test splits."""

import numpy as np
import pytest

from research.data.sources.scikit import Sklearn
from research.errors import RequestError


@pytest.mark.parametrize(
    ("name", "n", "d", "classes"),
    [("iris", 150, 4, 3), ("wine", 178, 13, 3), ("breast_cancer", 569, 30, 2), ("diabetes", 442, 10, None)],
)
def test_vectors(name, n, d, classes):
    data = Sklearn(name)
    data.check()
    splits = data.load()
    assert sum(map(len, splits)) == n and len(splits.test) == round(0.2 * n)
    columns = splits.train.arrays()
    assert columns["features"].shape[1:] == (d,) and columns["features"].dtype == np.float32
    if classes is None:
        assert columns["target"].dtype == np.float32 and data.fit(splits.train).class_names is None
        assert columns["features"][:, 0].min() >= 19  # age in years: raw units
    else:
        assert set(columns["label"]) == set(range(classes))
        assert len(data.fit(splits.train).class_names) == classes


def test_digits():
    splits = Sklearn("digits").load()
    image, label = (splits.train.arrays()[name] for name in ("image", "label"))
    assert image.shape == (1294, 8, 8, 1) and image.dtype == np.uint8 and image.max() == 16
    assert label.dtype == np.int32
    assert [len(split) for split in splits] == [1294, 144, 359]
    shares = np.bincount(splits.test.arrays()["label"]) / 359 - np.bincount(label) / 1294
    assert np.abs(shares).max() < 0.005
    assert Sklearn("digits").fit(splits.train).class_names == tuple("0123456789")


def test_no_example_is_in_two_splits():
    splits = Sklearn("diabetes").load()
    rows = [tuple(row) for split in splits for row in split.arrays()["features"]]
    assert len(set(rows)) == 442


@pytest.mark.parametrize(
    ("fields", "message"),
    [({"name": "digit"}, "name='digit': expected one of .*; did you mean 'digits'"), ({"test": 1.5}, "test=1.5")],
)
def test_check(fields, message):
    with pytest.raises(RequestError, match=f"^{message}"):
        Sklearn(**fields).check()
