"""Errors as one line: the cause remains when paths and a store's own notes are long."""

import re
from typing import get_args

import pytest

from research.errors import _MEANT, RequestError, likely, located, nearest, one_line, placed
from research.layers.activations import Activation

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


def raised(folder, name, text):
    """Runs a file that raises an error, and returns the error."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    with pytest.raises(Exception) as error:  # noqa: B017, PT011
        exec(compile(text, str(path), "exec"), {})
    own = error.value
    while own.__traceback__.tb_frame.f_code.co_filename == __file__:  # the frame of this function
        own.__traceback__ = own.__traceback__.tb_next
    return own


def test_the_place_of_an_error_is_in_the_users_file(tmp_path):
    ours = "from research.models.resnet import resnet\nresnet(18, clases=3)"
    error = raised(tmp_path, "mine.py", "\n" + ours)
    assert located(error).startswith(f"{tmp_path}/mine.py, line 3: TypeError: ")
    assert placed(error) == located(error)
    error = raised(tmp_path, "site-packages/theirs.py", ours)  # no frame of the user's
    assert re.match(r".*research/models/resnet.py, line \d+: TypeError: ", located(error))
    assert placed(error) == one_line(error)
    assert placed(RequestError("width=0: expected at least 1")) == "width=0: expected at least 1"


@pytest.mark.parametrize(
    ("name", "options", "meant"),
    [
        ("swish", get_args(Activation), "silu"),
        ("Swish", get_args(Activation), "silu"),
        ("hardswish", get_args(Activation), "hard_swish"),
        ("linear", get_args(Activation), "identity"),
        ("linear", ("linear", "cosine", "sqrt"), "linear"),
        ("mean", ("token", "average"), "average"),
        ("average", ("last", "mean", "max", "none"), "mean"),
        ("avg", ("max", "average", "stride", "none"), "average"),
        ("bf16", ("float32", "bfloat16"), "bfloat16"),
        ("nothing like it", ("relu",), None),
    ],
)
def test_another_word_of_the_field_is_understood(name, options, meant):
    assert likely(name, options) == meant


def test_every_word_means_one_of_ours():
    assert set(_MEANT).isdisjoint(get_args(Activation))
