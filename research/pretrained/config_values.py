"""Reads values of published JSON configs; an unexpected type is one clear error."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from research.errors import require


def number(config: Mapping[str, Any], key: str, default: float | None = None, file: str = "the config") -> float:
    """The number under a key; the default if it is missing or null."""
    value = default if config.get(key) is None else config[key]
    require(_plain(value), f"{key}={value!r} in {file}: expected a number")
    return float(value)


def whole(config: Mapping[str, Any], key: str, default: int | None = None, file: str = "the config") -> int:
    """The integer under a key; the default if it is missing or null."""
    value = default if config.get(key) is None else config[key]
    require(type(value) is int, f"{key}={value!r} in {file}: expected a whole number")
    return value


def numbers(config: Mapping[str, Any], key: str, file: str = "the config") -> tuple[float, ...]:
    """The number or list of numbers under a key; empty if it is missing or null."""
    value = config.get(key)
    values = () if value is None else tuple(value) if isinstance(value, list | tuple) else (value,)
    require(all(map(_plain, values)), f"{key}={value!r} in {file}: expected a number, or a list of numbers")
    return values


def row(config: Mapping[str, Any], key: str, default: tuple[int, ...]) -> tuple[int, ...]:
    """The list of integers under a key; the default if it is missing or null.  May be empty only if the default is."""
    value = default if config.get(key) is None else config[key]
    listed = isinstance(value, list | tuple) and all(type(item) is int for item in value)
    expected = "a list of whole numbers" + (", one for each stage" if default else "")
    require(listed and (bool(value) or not default), f"{key}={value!r} in the config: expected {expected}")
    return tuple(value)


def one(config: Mapping[str, Any], key: str, default: int) -> Any:
    """The number under a key that may also list one per side or stage: [8, 8] is 8."""
    value = config.get(key, default)
    items = list(value) if isinstance(value, list | tuple) else [value]
    same = bool(items) and all(item == items[0] for item in items)
    require(same, f"{key}={value!r} in the config: expected one number, or a list of equal ones")
    return items[0]


def side(config: Mapping[str, Any], key: str, default: int) -> Any:
    """The side length of square images, or their (height, width)."""
    value = config.get(key, default)
    return tuple(value) if isinstance(value, list | tuple) else value


def _plain(value: Any) -> bool:
    finite = isinstance(value, int | float) and abs(value) <= sys.float_info.max  # excludes NaN
    return finite and not isinstance(value, bool)
