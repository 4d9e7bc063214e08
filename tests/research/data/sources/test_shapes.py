"""Columns of which only the shapes are known have an example, and cannot be read."""

import pytest

from research.data.sources.shapes import Shapes
from research.errors import RequestError


def test_an_example_has_the_shapes_and_dtypes():
    example = Shapes((("image", (8, 8, 3), "uint8"), ("label", (), "int32"))).example()
    assert {name: (x.shape, str(x.dtype)) for name, x in example.items()} == {
        "image": ((8, 8, 3), "uint8"),
        "label": ((), "int32"),
    }


def test_there_is_nothing_to_train_on():
    with pytest.raises(RequestError, match="can be compiled, but not trained on"):
        Shapes((("image", (8,), "uint8"),)).load()


@pytest.mark.parametrize(("column", "says"), [(((0,), "uint8"), "at least 1"), (((2,), "unit8"), "such as int32")])
def test_a_wrong_column_is_one_line(column, says):
    with pytest.raises(RequestError, match=says):
        Shapes((("image", *column),)).check()
