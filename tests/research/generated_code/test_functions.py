"""Functions that end, parse, are long enough, and are not copies."""

import numpy as np
import pytest

from research.errors import RequestError
from research.generated_code.functions import Copies, Judged, body_lines, judge, parses, whole_function

pytestmark = pytest.mark.usefixtures("sandbox")

HEAD = "def f(x):\n"


def test_a_function_is_whole_once_something_follows_it():
    assert whole_function(HEAD, "    y = 1\n    return y\n\ndef g") == HEAD + "    y = 1\n    return y\n\n"
    assert whole_function(HEAD, "    y = 1\n    return (y,") is None


def test_lines_that_count():
    assert body_lines(HEAD, HEAD + "    # one\n\n    y = 1\n    return y\n") == 2


@pytest.mark.parametrize(
    ("source", "good"),
    [
        ("def f():\n    return 1\n", True),
        ("def f():\n    return '\\d'\n", True),
        ("def f():\n", False),
        ("def f(:\n    pass\n", False),
        ("x = '\0'", False),
        ("(" * 5000, False),
    ],
)
def test_parses(source, good):
    assert parses(source) is good


def test_copies_are_runs_of_tokens():
    rng = np.random.default_rng(0)
    text = rng.integers(50, size=5000).astype(np.uint16)
    copied = Copies(text, 8)
    assert copied(text[100:108]) and copied(np.concatenate([[1, 2, 3], text[-8:]]))
    assert not copied(text[100:107])
    changed = text[100:115].astype(np.int32)
    changed[7] += 1
    assert not copied(changed)
    assert not any(copied(rng.integers(50, size=200)) for _ in range(20))
    with pytest.raises(RequestError, match="^run=9: expected 1 to the 8 tokens"):
        Copies(text[:8], 9)


def test_judge_counts_each_sample_once():
    training = np.arange(100)
    new, old = np.arange(20)[::-1], np.arange(20)
    samples = [
        ("    a = 1\n    return a\nx", new),  # own
        ("    a = 1\n    return a\nx", old),  # copied
        ("    a = (\n    return a\nx", new),  # does not parse
        ("    return 1\nx", new),  # short
        ("    a = 1\n    return a", new),  # goes on
    ]
    completions, tokens = zip(*samples, strict=True)
    assert judge([HEAD] * 5, completions, tokens, Copies(training, 10), 2) == Judged(5, 4, 3, 2, 1)
