"""Marks and characters of text files that are no text: byte-order marks, and halves of surrogate pairs."""

from __future__ import annotations

import codecs

from research.errors import RequestError


def without_mark(data: bytes) -> bytes:
    """Removes the byte-order mark that Notepad, PowerShell and Excel write at the beginning of a UTF-8 file.

    >>> without_mark(b"\\xef\\xbb\\xbfhello")
    b'hello'
    """
    return data.removeprefix(codecs.BOM_UTF8)


def check_characters(text: str, name: str = "text") -> bytes:
    """Returns a text as UTF-8.

    Raises:
      RequestError: it holds half of a surrogate pair, as a JSON file may; begins with `name`.
    """
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        wrong = f"U+{ord(text[error.start]):04X} at {error.start}"
        raise RequestError(f"{name}: {wrong} is half of a surrogate pair and no character") from None
