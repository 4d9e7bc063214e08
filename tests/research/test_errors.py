"""An error as one line: the cause stays when paths and a store's own notes are long."""

import pytest

from research.errors import RequestError, one_line

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
