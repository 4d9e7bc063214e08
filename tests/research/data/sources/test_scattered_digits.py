import numpy as np
import pytest

from research.data import ScatteredDigits
from research.errors import RequestError


def test_boxes_are_around_the_ink():
    """Without noise, what lies outside of all boxes is nearly black, and a box's border touches ink."""
    train = ScatteredDigits(examples=30, test=5, noise=0.0, validation=0).load().train.arrays()
    seen = 0
    for image, boxes, labels in zip(train["image"][..., 0], train["boxes"], train["labels"], strict=True):
        rest = image.copy()
        for left, top, right, bottom in boxes[labels >= 0].astype(int):
            inside = image[top:bottom, left:right]
            assert all(edge.max() > 40 for edge in (inside[0], inside[-1], inside[:, 0], inside[:, -1]))
            rest[top:bottom, left:right] = 0
            seen += 1
        assert rest.max() <= 40 and not boxes[labels < 0].any()
    assert 45 < seen < 105 and (train["labels"] < 0).all(1).any()  # some canvases are empty


def test_a_seed_makes_the_same_canvases_and_another_one_others():
    a, b, c = (ScatteredDigits(examples=10, test=4, split_seed=s).load().test.arrays() for s in (0, 0, 1))
    assert all(np.array_equal(a[name], b[name]) for name in a)
    assert not np.array_equal(a["image"], c["image"])


def test_bad_fields_are_named():
    with pytest.raises(RequestError, match=r"sides=\(12, 80\): expected two rising numbers from 8 to the canvas's 64"):
        ScatteredDigits(sides=(12, 80)).check()
    with pytest.raises(RequestError, match="noise=-1"):
        ScatteredDigits(noise=-1.0).check()
