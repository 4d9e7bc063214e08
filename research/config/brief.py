"""Values as text for people: their class and the fields that differ from their defaults."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
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


def written(value: Any, indent: int = 0) -> str:
    """Python code that makes a value, on as many lines as it needs, of which the first begins at `indent`.

    Long texts and long lists of numbers are shortened.

    >>> from research.optimizers import AdamW
    >>> print(written((AdamW(learning_rate=3e-4), AdamW(learning_rate=3e-4, b2=0.95, weight_decay=0.1, b1=0.8))))
    (
        AdamW(learning_rate=0.0003),
        AdamW(learning_rate=0.0003, weight_decay=0.1, b1=0.8, b2=0.95),
    )
    """
    if hasattr(value, "describe"):  # arrays in memory have a short text of their own
        return repr(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = [f"{name}={written(own, indent + 4)}" for name, own in changed(value)]
        return calling(type(value).__name__, fields, indent)
    if isinstance(value, tuple) and not _is_long(value):
        return calling("", [written(child, indent + 4) for child in value], indent)
    if isinstance(value, tuple):
        return f"({', '.join(_clipped(child) for child in value[:4])}, … {len(value):,} values)"
    return _clipped(value)


def calling(name: str, parts: Sequence[str], indent: int = 0, *, lines: bool = False) -> str:
    """Code that calls `name` with arguments, on one line if it fits; `lines` gives each argument a line of its own."""
    line = f"{name}({', '.join(parts)}{',' * (not name and len(parts) == 1)})"
    if not lines and indent + len(line) <= LONGEST and "\n" not in line:
        return line
    inside = "".join(f"{' ' * (indent + 4)}{part},\n" for part in parts)
    return f"{name}(\n{inside}{' ' * indent})"


def changed(value: Any) -> Iterator[tuple[str, Any]]:
    """(name, value) of each field that differs from its default."""
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
            yield field.name, own


def _is_long(value: tuple) -> bool:
    return len(value) > 16 and not any(dataclasses.is_dataclass(child) for child in value)


def _clipped(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= LONGEST else f"{text[:36]} …{text[-1]}"


def _told(value: Any) -> Iterator[str]:
    """`name=value` of each field that differs from its default."""
    return (f"{name}={_short(own)}" for name, own in changed(value))


def _short(value: Any) -> str:
    if dataclasses.is_dataclass(value):
        return f"{type(value).__name__}({'…' if any(_told(value)) else ''})"
    if isinstance(value, tuple | list) and len(value) > 6:
        return f"({len(value)} values)"
    if isinstance(value, tuple | list) and any(dataclasses.is_dataclass(child) for child in value):
        return f"({', '.join(_short(child) for child in value)})"
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:36]} …{text[-1]}"
