"""Values of a published config: how each key is read, and which values are refused."""

import re

import pytest

from research.errors import RequestError
from research.pretrained.config_values import number, numbers, row, whole


@pytest.mark.parametrize("config", [{}, {"x": None}], ids=["missing", "null"])
def test_none_and_null_are_the_default(config):
    assert number(config, "x", 0.5) == 0.5
    assert whole(config, "x", 3) == 3
    assert numbers(config, "x") == ()


def test_a_number_is_a_float_and_a_single_one_a_list_of_one():
    assert isinstance(number({"x": 2}, "x"), float)
    assert numbers({"x": 2}, "x") == (2,)
    assert numbers({"x": [1, 0.5]}, "x") == (1, 0.5)


@pytest.mark.parametrize(
    ("read", "value", "expected"),
    [
        (number, "2", "a number"),
        (number, True, "a number"),
        (number, [2], "a number"),
        (number, float("inf"), "a number"),
        (number, float("nan"), "a number"),
        (number, 10**400, "a number"),
        (number, None, "a number"),
        (whole, 2.0, "a whole number"),
        (whole, True, "a whole number"),
        (whole, None, "a whole number"),
        (numbers, "2", "a number, or a list of numbers"),
        (numbers, [1, True], "a number, or a list of numbers"),
    ],
)
def test_anything_else_is_refused_by_key_value_and_file(read, value, expected):
    with pytest.raises(RequestError, match=re.escape(f"x={value!r} in file.json: expected {expected}") + "$"):
        read({"x": value}, "x", file="file.json")


def test_an_empty_row_is_none_but_where_the_default_is():
    assert row({"x": None}, "x", (1, 2)) == row({}, "x", (1, 2)) == (1, 2)
    assert row({"x": []}, "x", ()) == ()
    with pytest.raises(RequestError, match=r"^x=\[\] in the config: expected a list of whole numbers, one for each st"):
        row({"x": []}, "x", (1, 2))
