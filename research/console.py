"""Writes text to the terminal, whatever characters the names in it contain and whichever of them it can show."""

from __future__ import annotations

import sys
from typing import TextIO


def printable(text: str) -> str:
    """Replaces characters that control a terminal, such as escape codes in the name of a variant.

    >>> printable("\\x1b[31mred")
    '�[31mred'
    """
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


def counted(number: int, noun: str) -> str:
    """A number and what it counts.

    >>> counted(1, "trial"), counted(1200, "trial")
    ('1 trial', '1,200 trials')
    """
    return f"{number:,} {noun}{'s' * (number != 1)}"


def say(text: str, stream: TextIO | None = None) -> None:
    """Prints the lines of a text to a stream, standard output by default, after making each of them printable."""
    stream = sys.stdout if stream is None else stream
    stream.write("".join(f"{printable(line)}\n" for line in text.split("\n")))


def write_what_it_can(stream: TextIO) -> None:
    """Lets a stream replace the characters that its encoding lacks by "?", instead of raising UnicodeEncodeError.

    Streams that already replace them, and those without an encoding, stay as they are.
    """
    if getattr(stream, "errors", None) in ("strict", "surrogateescape") and hasattr(stream, "reconfigure"):
        stream.reconfigure(errors="replace")
