"""Lines for terminals that cannot show every character, or that obey some."""

import io
import sys

import pytest

from research.console import say, write_what_it_can


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
@pytest.mark.parametrize("errors", ["strict", "surrogateescape"])
def test_what_a_terminal_lacks_is_replaced(encoding, errors):
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors=errors)
    write_what_it_can(stream)
    say("α 0.9 ± 0.1\ud83d\nnext", stream)
    stream.flush()
    shown = stream.buffer.getvalue().decode(encoding)
    assert shown.endswith("\nnext\n") and " 0.9 " in shown
    assert ("±" in shown) == (encoding != "ascii") and ("α" in shown) == (encoding == "utf-8")


def test_a_stream_that_replaces_already_or_has_no_encoding_stays_as_it_is():
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="backslashreplace")
    for own in (stream, io.StringIO()):
        write_what_it_can(own)
    assert stream.errors == "backslashreplace"


def test_what_a_terminal_would_obey_does_not_reach_it(capsys):
    say("\x1b[31mred\x1b]0;title\x07\r\nand\u202eso")
    say("on", sys.stderr)
    assert capsys.readouterr() == ("�[31mred�]0;title��\nand�so\n", "on\n")
