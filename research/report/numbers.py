"""Number formats: one or two significant digits for a spread, the same decimals for its mean, always with n."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from research.report.statistics import Difference, Summary

NONE = "–"
MINUS = "−"
STAR = "*"
TINY = 1e-300  # smaller numbers count as zero, since floats lose digits below

_SUPERSCRIPT = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")


@dataclasses.dataclass(frozen=True)
class Format:
    """How the numbers of a column are written.

    Attributes:
      decimals: of means and spreads; None chooses them for each number.
      percent: multiplies by 100.
    """

    decimals: int | None = None
    percent: bool = False


def column(cells: Sequence[Summary | Difference], *, digits: int | None = None, percent: bool = False) -> Format:
    """The format of a column: alike for all of its cells, with the decimals that most of them need.

    >>> cells = [Summary(0.97214, 0.00381, 5), Summary(0.9612, 0.00154, 5), Summary(0.97, 0.0042, 5)]
    >>> [measure(x, column(cells)) for x in cells]
    ['0.972 ± 0.004 (5)', '0.961 ± 0.002 (5)', '0.970 ± 0.004 (5)']
    >>> measure(cells[1], column(cells, digits=1, percent=True))
    '96.1 ± 0.2 (5)'
    """
    if digits is not None:
        return Format(digits, percent)
    scale = 100.0 if percent else 1.0
    known = [(scale * x.mean, scale * _spread(x)) for x in cells if x.mean is not None]
    if not known or any(_exponent(mean, spread) for mean, spread in known):  # powers of ten suit one number only
        return Format(None, percent)
    telling = [(mean, spread) for mean, spread in known if spread > max(1e-9 * abs(mean), TINY)]
    significant = 3 if isinstance(cells[0], Difference) else 4
    needed = sorted(_decimals(mean, spread, significant) for mean, spread in telling or known)
    return Format(needed[len(needed) // 2 if telling else 0], percent)


def _spread(x: Summary | Difference) -> float:
    """The standard deviation, or half the interval; 0.0 if it is not known."""
    if isinstance(x, Summary):
        return x.std or 0.0
    return 0.0 if x.low is None else (x.high - x.low) / 2


def measure(x: Summary, form: Format = Format()) -> str:  # noqa: B008
    """Formats `0.972 ± 0.004 (5)`: mean ± standard deviation (n); `0.972 (1)` for a single value.

    >>> measure(Summary(0.97214, 0.00381, 5)), measure(Summary(0.97214, None, 1)), measure(Summary(None, None, 0))
    ('0.972 ± 0.004 (5)', '0.9721 (1)', '– (0)')
    """
    if x.mean is None:
        return f"{NONE} (0)"
    times = 100.0 if form.percent else 1.0
    mean, std = times * x.mean, None if x.std is None else times * x.std
    exponent = 0 if form.decimals is not None else _exponent(mean, std or 0.0)
    scale = 10.0**exponent
    mean, std = mean / scale, None if std is None else std / scale
    decimals = _decimals(mean, std) if form.decimals is None else form.decimals
    if std is None:
        return _fixed(mean, decimals) + _power(exponent) + f" ({x.n})"
    return _times(f"{_fixed(mean, decimals)} ± {_fixed(std, decimals)}", exponent) + f" ({x.n})"


def difference(x: Difference, form: Format = Format()) -> str:  # noqa: B008
    """Formats `−0.034 [−0.040, −0.028] (5)*`: mean difference, interval, number of pairs, and * if it is clear."""
    if x.mean is None:
        return NONE
    times = 100.0 if form.percent else 1.0
    mean = times * x.mean
    if x.low is None or x.high is None:
        decimals = _decimals(mean, None, 3) if form.decimals is None else form.decimals
        return f"{_signed(mean, decimals)} [{NONE}] ({x.n})"
    half = times * (x.high - x.low) / 2
    exponent = 0 if form.decimals is not None else _exponent(mean, half)
    scale = 10.0**exponent
    decimals = _decimals(mean / scale, half / scale, 3) if form.decimals is None else form.decimals
    mean, low, high = (_signed(times * value / scale, decimals) for value in (x.mean, x.low, x.high))
    return _times(f"{mean} [{low}, {high}]", exponent) + f" ({x.n}){STAR if x.clear else ''}"


def plain(x: float | None, digits: int = 3) -> str:
    """Formats a single number to `digits` significant digits; whole numbers keep all digits.

    >>> plain(0.123456), plain(1234.56), plain(3e-05), plain(None)
    ('0.123', '1,235', '3×10⁻⁵', '–')
    """
    if x is None or not math.isfinite(x):
        return NONE
    if abs(x) > TINY and not 1e-3 <= abs(x) < 1e7:
        exponent = math.floor(math.log10(abs(x)))
        mantissa = f"{x / 10.0**exponent:.{digits - 1}f}".rstrip("0").rstrip(".")
        return f"{mantissa}×10{str(exponent).translate(_SUPERSCRIPT)}".replace("-", MINUS)
    text = f"{x:,.{_decimals(x, None, digits)}f}"
    return text.replace("-", MINUS)


def value(x: Any, scientific: float = 1e-2) -> str:
    """Formats the value of a setting: `3e-3`, `0.5`, `relu`, `(128, 128)`, `none`; with an exponent below `scientific`.

    >>> value(0.003), value(64), value(True), value([128, 64]), value(None)
    ('3e-3', '64', 'true', '(128, 64)', 'none')
    """
    if x is None:
        return "none"
    if isinstance(x, bool):
        return str(x).lower()
    if isinstance(x, float):
        mantissa, _, exponent = f"{x:.6g}".partition("e")
        if not exponent and 0 < abs(x) < scientific:
            mantissa, _, exponent = f"{x:.5e}".partition("e")
            mantissa = mantissa.rstrip("0").rstrip(".")
        return f"{mantissa}e{int(exponent)}" if exponent else mantissa
    if isinstance(x, list | tuple):
        return f"({', '.join(value(item) for item in x)})"
    if isinstance(x, dict):
        fields = ", ".join(f"{key}={value(item)}" for key, item in x.items() if key != "_type")
        kind = str(x.get("_type", "")).rsplit(":", 1)[-1]
        return f"{kind}({fields})"
    return str(x)


def _decimals(mean: float, spread: float | None, digits: int = 4) -> int:
    """The decimals that show one significant digit of the spread, two if it starts with 1 or 2; at most 7 digits of the
    mean.

    Without a spread, they show `digits` significant digits of the mean.
    """
    order = math.floor(math.log10(abs(mean))) if abs(mean) > TINY else None
    if not spread or spread < max(1e-9 * abs(mean), TINY):  # equal up to rounding
        return max(digits - 1 - order, 0) if order is not None else 0
    place = math.floor(math.log10(spread))
    decimals = -place + (1 if spread / 10.0**place < 2.95 else 0)
    return decimals if order is None else min(decimals, max(6 - order, 0))


def _exponent(mean: float, spread: float) -> int:
    """The power of ten to factor out of both numbers; 0 if they are easy to read without."""
    size = max(abs(mean), abs(spread))
    return 0 if size < TINY or 1e-3 <= size < 1e6 else math.floor(math.log10(size))


def _fixed(x: float, decimals: int) -> str:
    text = f"{round(x, decimals):.{max(decimals, 0)}f}"
    if float(text) == 0:
        text = text.lstrip("-") if x == 0 or decimals < 1 else f"{0:.{decimals}f}"
    return text.replace("-", MINUS)


def _signed(x: float, decimals: int) -> str:
    text = _fixed(x, decimals)
    return text if text.startswith(MINUS) or not any(digit in text for digit in "123456789") else f"+{text}"


def _times(text: str, exponent: int) -> str:
    return f"({text}){_power(exponent)}" if exponent else text


def _power(exponent: int) -> str:
    return f"×10{str(exponent).translate(_SUPERSCRIPT)}" if exponent else ""
