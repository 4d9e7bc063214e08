"""Numbers written as text: with a decimal comma, thousands separators, percent signs or currencies."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

_BLANKS = " \u00a0\u2009\u202f"  # those of a thousands separator
_GROUPED = re.compile(rf"\d{{1,3}}(?:([{_BLANKS}.,'’_])\d{{3}})(?:\1\d{{3}})*([.,]\d+)?")
_SIGNS = re.compile(r"[+\-\u2212]?\s?[$€£¥]?\s?([\d.,].*?)\s?[%‰$€£¥]?")


def plain_numbers(values: pa.Array, decimal: str, thousands: str) -> pa.Array:
    """Rewrites the numbers among texts with a decimal point and without thousands separators.

    >>> plain_numbers(pa.array(["1.234,5", "7", "a,b"]), ",", ".").to_pylist()
    ['1234.5', '7', 'a,b']
    """
    separator = f"[{_BLANKS if thousands == ' ' else re.escape(thousands)}]" if thousands else ""
    grouped = rf"\d{{1,3}}(?:{separator}\d{{3}})+|" if thousands else ""
    point = re.escape(decimal)
    number = rf"^[+-]?(?:(?:{grouped}\d+)(?:{point}\d*)?|{point}\d+)(?:[eE][+-]?\d+)?$"
    whole = pc.replace_substring_regex(values, separator, "") if thousands else values
    return pc.if_else(pc.match_substring_regex(values, number), pc.replace_substring(whole, decimal, "."), values)


def number_advice(words: Sequence[str]) -> str | None:
    """Returns advice on the distinct values of a column if they are numbers in a notation that is not read; else None.

    >>> number_advice(["0,5", "1"])
    "holds numbers such as '0,5': set decimal=','"

    None for other text: at most half of the values are numbers, or all numbers are plain and there are few of them.
    """
    notes = [(word, remedy(word)) for word in words]
    unread = next(((word, note) for word, note in notes if note), None)
    others = [word for word, note in notes if note is None]
    numbers = len(words) - len(others)
    if unread and numbers > len(others):
        return f"holds numbers such as {unread[0]!r}: {unread[1]}"
    if others and numbers >= max(10, 9 * len(others)):
        return f"holds numbers and {others[0]!r}: add {others[0]!r} to missing"
    return None


def remedy(word: str) -> str | None:
    """Returns how to have a number read; "" if it is read as it is, None for a word that is no number."""
    if _is_float(word):
        return ""
    signs = _SIGNS.fullmatch(word)
    digits = signs[1] if signs else ""
    grouped = _GROUPED.fullmatch(digits)
    if not (grouped or re.fullmatch(r"\d*,\d+|\d+,|\d+\.?\d*|\.\d+", digits)):
        return None
    sign = word[0].replace("\u2212", "-") if word[0] in "+-\u2212" else ""
    if sign + digits != word:
        return f"write {sign + digits} instead"
    if not grouped:
        return "set decimal=','"
    separator, fraction = (" " if grouped[1] in _BLANKS else grouped[1]), grouped[2]
    if fraction and fraction[0] == ",":
        return f"set decimal=',' and thousands={separator!r}"
    return f"set thousands={separator!r}" + (" (or decimal=',')" if digits.count(",") == 1 and not fraction else "")


def _is_float(word: str) -> bool:
    try:
        pa.scalar(word).cast(pa.float64())
    except pa.ArrowInvalid:
        return False
    return True
