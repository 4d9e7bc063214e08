"""Fields that may differ from trial to trial without a new compilation: floats, carried in `TrainState.hparams`.

A dataclass marks such a field with `hparam`:

    @dataclasses.dataclass(frozen=True)
    class AdamW:
        learning_rate: float = hparam(1e-3)

`hparams(value)` reads them all by dotted path; `bind(value, {path: x})` puts others, traced ones too, in their place.
A field that is None is structure, not a number: None and 0.1 are two programs.  A tuple of floats, such as the means of
the features, is one array.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np


def hparam(default: Any = dataclasses.MISSING, **kwargs: Any) -> Any:
    """A dataclass field whose float value a sweep may vary inside one compiled program."""
    return dataclasses.field(default=default, metadata={"hparam": True}, **kwargs)


def is_hparam(field: dataclasses.Field) -> bool:
    """Whether the field was declared with `hparam`."""
    return bool(field.metadata.get("hparam", False))


def hparams(value: Any, prefix: str = "") -> dict[str, float | tuple[float, ...]]:
    """The marked fields of a dataclass, nested ones and tuples included, by dotted path; None is left out."""
    found: dict[str, float | tuple[float, ...]] = {}
    for name, child, marked in _children(value):
        path = f"{prefix}{name}"
        if not marked:
            found |= hparams(child, f"{path}.")
        elif child is not None:
            found[path] = tuple(float(x) for x in child) if isinstance(child, tuple) else float(child)
    return found


def blank(value: Any) -> Any:
    """`value` with every marked field 0: equal for two that differ in those fields alone."""
    zeros = {path: (0.0,) * len(x) if isinstance(x, tuple) else 0.0 for path, x in hparams(value).items()}
    return bind(value, zeros)


def bind(value: Any, values: dict[str, Any]) -> Any:
    """`value` with the marked fields at the dotted paths of `values` replaced, by floats or by traced scalars."""
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


def concrete(value: Any) -> bool:
    """Whether `value` is a plain number, and so may be compared; inside a compiled step an hparam is not."""
    return isinstance(value, int | float | np.number)


def _children(value: Any) -> list[tuple[str, Any, bool]]:
    if isinstance(value, tuple):
        return [(str(i), child, False) for i, child in enumerate(value)]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = [f for f in dataclasses.fields(value) if f.init]
        return [(f.name, getattr(value, f.name, None), is_hparam(f)) for f in fields]
    return []
