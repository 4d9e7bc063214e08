"""A value in one line for people: its class and the fields that differ from their defaults."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

LONGEST = 88


def brief(value: Any) -> str:
    """One line of at most about `LONGEST` characters; fields that do not fit are left out.

    >>> from research.optimizers import AdamW
    >>> brief(AdamW(learning_rate=3e-4, b2=0.95))
    'AdamW(learning_rate=0.0003, b2=0.95)'
    """
    name = type(value).__name__
    shown: list[str] = []
    for field in _told(value):
        if len(name) + sum(map(len, shown)) + len(field) > LONGEST:
            shown.append("…")
            break
        shown.append(field)
    return f"{name}({', '.join(shown)})"


def _told(value: Any) -> Iterator[str]:
    """`name=value` of each field that differs from its default."""
    if not dataclasses.is_dataclass(value):
        return
    for field in dataclasses.fields(value):
        if not field.init or not field.repr or field.name == "parent":
            continue
        own = getattr(value, field.name)
        default = field.default
        if default is dataclasses.MISSING and field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        if own is not default and not (type(own) is type(default) and own == default):
            yield f"{field.name}={_short(own)}"


def _short(value: Any) -> str:
    if dataclasses.is_dataclass(value):
        return f"{type(value).__name__}({'…' if any(_told(value)) else ''})"
    if isinstance(value, tuple | list) and len(value) > 6:
        return f"({len(value)} values)"
    if isinstance(value, tuple | list) and any(dataclasses.is_dataclass(child) for child in value):
        return f"({', '.join(_short(child) for child in value)})"
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:36]} …{text[-1]}"
