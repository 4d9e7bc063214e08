"""Converts many values that share parts, such as the experiments of a sweep; each part is converted once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any, TypeVar

from research.config.modules import FILE_PREFIX
from research.config.serialization import canonical, to_json, value_fields

T = TypeVar("T")


class Once:
    """Calls functions once for each object and keeps what they return; the objects must not change.

    >>> once, part = Once(), (1, 2)
    >>> once(list, part) is once(list, part)
    True
    """

    def __init__(self):
        self._kept: dict[tuple[Callable, int], tuple[Any, Any]] = {}

    def __call__(self, function: Callable[[Any], T], part: Any) -> T:
        key = function, id(part)
        if key not in self._kept:
            self._kept[key] = part, function(part)  # the part is kept, so that no other object gets its id
        return self._kept[key][1]


def json_of(value: Any, once: Once) -> Any:
    """Returns `to_json(value)`."""
    if not _has_parts(value):
        return to_json(value)
    return {"_type": _name(value)} | {name: once(to_json, part) for name, part in _parts(value)}


def hash_of(value: Any, once: Once) -> str:
    """Returns `stable_hash(value)`."""
    if not _has_parts(value):
        text = canonical(value)
    else:
        texts = {name: once(canonical, part) for name, part in _parts(value)} | {"_type": json.dumps(_name(value))}
        text = "{" + ",".join(f'"{name}":{texts[name]}' for name in sorted(texts)) + "}"
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _has_parts(value: Any) -> bool:
    """True for a dataclass of this library or of a package, which `to_json` converts field by field."""
    return hasattr(value, "__dataclass_fields__") and not (
        hasattr(value, "describe") or type(value).__module__.startswith(FILE_PREFIX)
    )


def _name(value: Any) -> str:
    return f"{type(value).__module__}:{type(value).__qualname__}"


def _parts(value: Any) -> list[tuple[str, Any]]:
    return [(f.name, getattr(value, f.name)) for f in value_fields(type(value))]
