"""The error for invalid requests, reported in one line before anything is compiled."""

from __future__ import annotations

import contextlib
import difflib
import functools
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from typing import ParamSpec

from research.console import say, write_what_it_can

P = ParamSpec("P")

_LISTED = 32  # options; a longer list is not readable
_FACES = os.path.join(os.path.dirname(__file__), "faces.py")  # for a wrong name, errors point to the caller
_ANNOTATIONS = re.compile(r" \[[\w ]+='")  # TensorStore appends: [os_error_code='28'] [tensorstore_spec='{…


class RequestError(ValueError):
    """An invalid request.  The message is one line: what was given, what was expected, and what to type instead.

    The launcher prints it without a traceback and exits with status 2.
    """


class TooLong(RequestError):
    """An example is longer than a model allows; `column` names the column of the batch."""

    def __init__(self, column: str, length: int, unit: str, expected: str):
        super().__init__(f"{column}: {length} {unit}, expected at most {expected}")
        self.column = column


def nearest(name: str, options: Iterable[str]) -> str:
    """Ends an error message with the option closest in spelling to `name`, then all options unless they are many.

    >>> nearest("wdith", ["width", "depth"])
    "did you mean 'width'? (one of: depth, width)"
    """
    options = sorted({str(option) for option in options})
    if not options:
        return "there is none to choose from"
    spelled = {option.lower(): option for option in options}

    def closest(n: int, cutoff: float) -> list[str]:
        return [spelled[match] for match in difflib.get_close_matches(str(name).lower(), spelled, n, cutoff)]

    likely = [f"did you mean {option!r}?" for option in closest(1, 0.5)]
    if len(options) <= _LISTED:
        listed = f"one of: {', '.join(options)}"
        return f"{likely[0]} ({listed})" if likely else listed
    return likely[0] if likely else f"one of {len(options)}: {', '.join(closest(_LISTED // 4, 0.0))}, …"


def require(condition: bool, message: str) -> None:
    """Raises `RequestError(message)` unless `condition` holds.

    >>> require(2 > 1, "never raised")
    """
    if not condition:
        raise RequestError(message)


def one_line(error: BaseException) -> str:
    """Formats an error as one line: its type and the first line of its message."""
    if isinstance(error, RequestError):
        return str(error)
    lines = [line for line in str(error).splitlines() if line.strip()]
    if lines and lines[0].endswith("Traceback (most recent call last):"):  # the error of a callback in a program
        lines = [line for line in lines[1:] if not line[0].isspace()] or lines
    text = _ANNOTATIONS.split(lines[0].strip())[0] if lines else ""
    if len(text) > 300:  # messages of storage libraries end with the cause, after long paths
        text = f"{text[:140]} … {text[-140:]}"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def located(error: BaseException) -> str:
    """Formats an error as one line, starting with the innermost file and line that are not in a library."""
    if isinstance(error, SyntaxError):
        return f"{error.filename}, line {error.lineno}: SyntaxError: {error.msg}"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not _is_library(frame.filename)]
    return f"{frames[-1].filename}, line {frames[-1].lineno}: {one_line(error)}" if frames else one_line(error)


@contextlib.contextmanager
def prefixed(prefix: str) -> Iterator[None]:
    """Adds a prefix, such as a path or a file name, to the message of a RequestError."""
    try:
        yield
    except RequestError as error:
        raise RequestError(f"{prefix}{error}") from None


@contextlib.contextmanager
def in_one_line(prefix: str = "") -> Iterator[None]:
    """Turns any error of a user's own code into a RequestError: one line with `prefix` and the place of the error."""
    try:
        yield
    except RequestError as error:
        raise RequestError(f"{prefix}{error}") from error
    except Exception as error:
        raise RequestError(f"{prefix}{located(error)}") from error


def command(main: Callable[P, int | None]) -> Callable[P, int | None]:
    """Wraps the `main` of a script: a RequestError becomes one line on standard error and exit status 2."""

    @functools.wraps(main)
    def told(*args: P.args, **kwargs: P.kwargs) -> int | None:
        write_what_it_can(sys.stdout)
        try:
            return main(*args, **kwargs)
        except RequestError as error:
            say(f"error: {' '.join(str(error).split())}", sys.stderr)
            return 2

    return told


def _is_library(file: str) -> bool:
    return "site-packages" in file or file.startswith(("<", os.path.dirname(os.__file__), _FACES))
