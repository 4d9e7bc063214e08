"""Float fields that may differ between trials without a new compilation, carried in `TrainState.hparams`.

A dataclass marks such a field with `hparam`:

    @dataclasses.dataclass(frozen=True)
    class AdamW:
        learning_rate: float = hparam(1e-3)

`hparams(value)` reads all of them by dotted path; `bind(value, {path: x})` replaces them, also by traced values.
None is part of the structure and not a number, so None and 0.1 need two programs.  A tuple of floats, such as the means
of features, is one array.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Hashable
from typing import Any

import numpy as np

from research.config.serialization import canonical, value_fields


def hparam(default: Any = dataclasses.MISSING, **kwargs: Any) -> Any:
    """A dataclass field whose float value a sweep may vary within one compiled program."""
    return dataclasses.field(default=default, metadata={"hparam": True}, **kwargs)


def is_hparam(field: dataclasses.Field) -> bool:
    """True if the field was declared with `hparam`."""
    return bool(field.metadata.get("hparam", False))


def hparams(value: Any, prefix: str = "") -> dict[str, float | tuple[float, ...]]:
    """Returns the marked fields of a dataclass by dotted path, including nested ones and tuples, without None."""
    found: dict[str, float | tuple[float, ...]] = {}
    for name, child, marked in _children(value):
        path = f"{prefix}{name}"
        if not marked:
            found |= hparams(child, f"{path}.")
        elif child is not None:
            found[path] = tuple(float(x) for x in child) if isinstance(child, tuple) else float(child)
    return found


def bind(value: Any, values: dict[str, Any]) -> Any:
    """Replaces the marked fields at the dotted paths of `values` by floats or traced scalars."""
    if not values:
        return value
    here = {path: x for path, x in values.items() if "." not in path}
    below: dict[str, dict[str, Any]] = {}
    for path, x in values.items():
        if "." in path:
            head, rest = path.split(".", 1)
            below.setdefault(head, {})[rest] = x
    if isinstance(value, tuple):
        return tuple(bind(child, below.get(str(i), {})) for i, child in enumerate(value))
    children = {name: child for name, child, _ in _children(value)}
    return dataclasses.replace(value, **here, **{name: bind(children[name], inner) for name, inner in below.items()})


def structure(value: Any) -> Hashable:
    """Returns something that is equal for values that differ only in marked fields, None or not.

    >>> one, other = (optimizers.SGD(learning_rate=rate) for rate in (0.1, 0.2))
    >>> structure(one) == structure(other), structure(one) == structure(optimizers.Adam(learning_rate=0.1))
    (True, False)
    """
    if value is None or isinstance(value, bool | int | str):
        return type(value), value
    if isinstance(value, tuple):
        return tuple(structure(child) for child in value)
    if not dataclasses.is_dataclass(value) or isinstance(value, type) or hasattr(value, "describe"):
        return canonical(value)
    parts = ((getattr(value, name), marked) for name, marked in marked_fields(type(value)))
    return type(value), *(_shape(part) if marked else structure(part) for part, marked in parts)


@functools.cache
def marked_fields(cls: type) -> tuple[tuple[str, bool], ...]:
    """The names of the fields that make up a value, and whether each is marked."""
    return tuple((field.name, is_hparam(field)) for field in value_fields(cls))


def _shape(x: Any) -> int | None:
    return len(x) if isinstance(x, tuple) else None if x is None else -1


def concrete(value: Any) -> bool:
    """True for a plain number, which can be compared; hparams in a compiled step are not."""
    return isinstance(value, int | float | np.number)


def _children(value: Any) -> list[tuple[str, Any, bool]]:
    if isinstance(value, tuple):
        return [(str(i), child, False) for i, child in enumerate(value)]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = [f for f in dataclasses.fields(value) if f.init]
        return [(f.name, getattr(value, f.name, None), is_hparam(f)) for f in fields]
    return []
