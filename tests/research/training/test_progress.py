"""Progress messages are readable."""

import io

import numpy as np
import pytest

from research.training.progress import TextProgress


@pytest.mark.parametrize(("rate", "left"), [(50.0, ", 2.0 s left"), (1000.0, ""), (0.01, ", 2.8 h left"), (None, "")])
def test_a_plain_line_says_how_long_it_takes_yet(rate, left):
    stream = io.StringIO()
    progress = TextProgress(stream)
    progress.start(0, 200, ["a", "b"])
    progress.update(100, np.array([0.5, 1.5]), rate)
    line = stream.getvalue().strip()
    assert line.startswith("a and 1 more: step 100/200, loss 1") and line.endswith(left or ("steps/s" if rate else "1"))
    assert ("left" in line) == bool(left)


def test_a_line_says_where_in_the_sweep_its_trials_are():
    stream = io.StringIO()
    progress = TextProgress(stream)
    progress.placed("trials 4 to 6 of 15", 3000)
    progress.start(0, 200, ["d", "e", "f"])
    progress.update(200, np.array([0.5]), None)
    progress.close()
    assert stream.getvalue().startswith("trials 4 to 6 of 15: d and 2 more: step 200/200, ")


def test_what_a_terminal_would_obey_does_not_reach_it():
    stream = io.StringIO()
    progress = TextProgress(stream)
    progress.start(5, 200, ["\x1b[31mred"])
    progress.evaluated(100, "validation", [{"\x1b]0;loss": 0.5}])
    progress.update(200, np.array([0.5]), 1.0)
    progress.close()
    progress.note("\x07done")
    assert "\x1b" not in stream.getvalue() and "\x07" not in stream.getvalue()
    assert "red: step 200/200" in stream.getvalue() and "loss 0.5" in stream.getvalue()
