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

_MEANT = {
    "swish": ("silu",),
    "linear": ("identity",),
    "gelu_new": ("gelu_tanh",),
    "avg": ("average", "mean"),
    "mean": ("average",),
    "average": ("mean",),
    "cls": ("token",),
    "rope": ("rotary",),
    "rnn": ("elman",),
    "vanilla": ("elman",),
    "bahdanau": ("additive",),
    "luong": ("multiplicative",),
    "l1": ("mae",),
    "l2": ("mse",),
    "bf16": ("bfloat16",),
    "fp32": ("float32",),
    "fp64": ("float64",),
    "classification": ("class",),
    "regression": ("number",),
}
"""{another word of the field: what options may call it}.  Their spellings differ, or are closer to another option's."""

_LISTED = 32  # options; a longer list is not readable
_FACES = os.path.join(os.path.dirname(__file__), "faces.py")  # for a wrong name, errors point to the caller
_PACKAGES = tuple(os.path.join(os.path.dirname(os.path.dirname(__file__)), name, "") for name in ("research", "launch"))
_ANNOTATIONS = re.compile(r" \[[\w ]+='")  # TensorStore appends: [os_error_code='28'] [tensorstore_spec='{…


class RequestError(ValueError):
    """An invalid request.  The message is one line: what was given, what was expected, and what to type instead.

    The launcher prints it without a traceback and exits with status 2.
    """


class Stopped(Exception):
    """Training ends without a result, although no trial has failed."""


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
    meant = likely(name, options)
    if len(options) <= _LISTED:
        listed = f"one of: {', '.join(options)}"
        return f"did you mean {meant!r}? ({listed})" if meant else listed
    some = ", ".join(_closest(name, options, _LISTED // 4, 0.0))
    return f"did you mean {meant!r}?" if meant else f"one of {len(options)}: {some}, …"


def likely(name: str, options: Iterable[str]) -> str | None:
    """Returns the option that `name` probably stands for, by its meaning or its spelling; None if none is close.

    >>> likely("swish", ["relu", "hard_swish", "silu"]), likely("Relu", ["relu"]), likely("tokens", ["relu"])
    ('silu', 'relu', None)
    """
    options = list(options)
    meant = [word for word in _MEANT.get(str(name).lower(), ()) if word in options]
    return next(iter(meant or _closest(name, options, 1, 0.5)), None)


def _closest(name: str, options: Iterable[str], n: int, cutoff: float) -> list[str]:
    spelled = {option.lower(): option for option in options}
    return [spelled[match] for match in difflib.get_close_matches(str(name).lower(), spelled, n, cutoff)]


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
    """Formats an error as one line that starts with its place: the innermost line of the user's own code, or else of
    this project.
    """
    if isinstance(error, SyntaxError):
        return f"{error.filename}, line {error.lineno}: SyntaxError: {error.msg}"
    return f"{_place(error, _is_library)}{one_line(error)}"


def placed(error: BaseException) -> str:
    """Formats an error as one line that starts with the innermost line of the user's own code, if there is one."""
    return one_line(error) if isinstance(error, RequestError) else f"{_place(error, _is_ours)}{one_line(error)}"


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


def refusal(error: RequestError) -> str:
    """The line that a terminal shows; words that nobody would read to their end are cut.

    >>> refusal(RequestError("steps=" + "9" * 1000 + ": expected less"))[:40], len(refusal(RequestError("9" * 5000)))
    ('error: steps=999999999999999999999999999', 107)
    """
    words = (word if len(word) <= 300 else f"{word[:80]}… ({len(word):,} characters)" for word in str(error).split())
    return f"error: {' '.join(words)}"


def command(main: Callable[P, int | None]) -> Callable[P, int | None]:
    """Wraps the `main` of a script: a RequestError becomes one line on standard error and exit status 2."""

    @functools.wraps(main)
    def told(*args: P.args, **kwargs: P.kwargs) -> int | None:
        write_what_it_can(sys.stdout)
        try:
            return main(*args, **kwargs)
        except RequestError as error:
            say(refusal(error), sys.stderr)
            return 2

    return told


def _place(error: BaseException, leaves_out: Callable[[str], bool]) -> str:
    """Returns "FILE, line 3: " of the innermost frame, if possible one outside this project; "" if all are left out."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not leaves_out(frame.filename)]
    users = [frame for frame in frames if not _is_ours(frame.filename)]
    return "".join(f"{frame.filename}, line {frame.lineno}: " for frame in (users or frames)[-1:])


def _is_ours(file: str) -> bool:
    return file.startswith(_PACKAGES) or _is_library(file)


def _is_library(file: str) -> bool:
    return "site-packages" in file or file.startswith(("<", os.path.dirname(os.__file__), _FACES))
