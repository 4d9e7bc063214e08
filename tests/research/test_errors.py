"""Errors as one line: the cause remains when paths and a store's own notes are long."""

import pytest

from research.errors import RequestError, nearest, one_line

FOLDER = "/scratch/" + "a-long-name/" * 20
CAUSE = f'OUT_OF_RANGE: Error writing "params" in "{FOLDER}": Failed writing: "{FOLDER}d/e9f4": File too large'


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RequestError("width=0: expected at least 1"), "width=0: expected at least 1"),
        (ValueError("no\nmore"), "ValueError: no"),
        (KeyError(), "KeyError"),
        (ValueError("Traceback (most recent call last):\n  File x\nOSError: gone"), "ValueError: OSError: gone"),
    ],
)
def test_an_error_is_its_kind_and_what_it_says_first(error, said):
    assert one_line(error) == said


@pytest.mark.parametrize(
    "notes", ["", " [os_error_code='27']", f" [os_error_code='27'] [tensorstore_spec='{{{'x' * 900}}}']"]
)
def test_the_cause_stays_in_a_long_one(notes):
    said = one_line(ValueError(CAUSE + notes))
    assert said.startswith("ValueError: OUT_OF_RANGE") and said.endswith("File too large") and len(said) < 320


def test_of_many_options_the_nearest_is_named():
    assert nearest("layr_7", [f"layer_{i}" for i in range(500)]) == "did you mean 'layer_7'?"


def test_of_many_options_none_of_them_near_some_are_named_all_the_same():
    said = nearest("?", [f"layer_{i}" for i in range(500)])
    assert said.startswith("one of 500: layer_") and said.endswith(", …") and len(said) < 200
