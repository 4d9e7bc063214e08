"""The one error that speaks to a person: a wrong request, said in a line, before anything is compiled."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class RequestError(ValueError):
    """What was asked cannot be done as asked.  The message is one line: given, expected, what to type instead.

    The launcher prints it without a traceback and exits with status 2.
    """


def nearest(name: str, options: Iterable[str]) -> str:
    """A tail for an error line: the option closest in spelling to `name`, then all of them.

    >>> nearest("wdith", ["width", "depth"])
    "did you mean 'width'? (one of: depth, width)"
    """
    options = sorted({str(option) for option in options})
    if not options:
        return "there is none to choose from"
    listed = f"one of: {', '.join(options)}"
    close = difflib.get_close_matches(str(name), options, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}? ({listed})" if close else listed


def require(condition: bool, message: str) -> None:
    """Raises `RequestError(message)` unless `condition` holds."""
    if not condition:
        raise RequestError(message)
