"""Changes a value by dotted path: `override(experiment, {"model.widths": (64,), "optimizer.learning_rate": 3e-4})`.

Paths lead through nested dataclasses, Linen modules, tuples (by index) and dicts (by key).  New values are checked
against the type of the field; text from a command line is parsed as that type (`parse_assignment`, then
`override(..., parse=True)`).
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import json
import math
import pkgutil
import typing
from collections.abc import Iterator, Mapping
from typing import Any, Literal, TypeVar

from flax import linen as nn

from research.config.serialization import from_json, value_fields
from research.config.types import Mismatch, arms, conform, conform_arm, describe, field_types, spelling
from research.errors import RequestError, nearest, prefixed

T = TypeVar("T")


def override(value: T, changes: Mapping[str, Any], *, parse: bool = False) -> T:
    """Returns a copy of `value` with the fields at the dotted paths of `changes` replaced.

    A part and its fields may be changed together ({"optimizer": SGD(), "optimizer.momentum": 0.9}); shorter paths are
    applied first.  With `parse`, new values are texts, parsed as the type of their field.  Parts that are not changed
    stay the same objects.

    Raises:
      RequestError: unknown path, wrong type, or a number that is not finite or needs more than 64 bits; the message
        names the nearest path.
    """
    tree = _Changes()
    for path in sorted(changes, key=lambda p: p.count(".")):
        tree.add(path.split("."), path, changes[path])
    return _changed(value, Any, tree, parse, value)


class _Changes:
    """Changes of a value and of its fields: `new` is its (path, new value) or None, `below` the changes of fields."""

    def __init__(self):
        self.new: tuple[str, Any] | None = None
        self.below: dict[str, _Changes] = {}
        self.path = ""

    def add(self, keys: list[str], path: str, new: Any) -> None:
        self.path = self.path or path
        if keys:
            self.below.setdefault(keys[0], _Changes()).add(keys[1:], path, new)
        else:
            self.new = path, new


def conformed(value: T) -> T:
    """Returns `value` after checking every field against its type, which Python does not do; a file may say
    steps="600".

    Raises:
      RequestError: a field does not have its type, or a number is not finite.
    """
    return override(value, dict(leaf_paths(value)))


def parse_assignment(text: str) -> tuple[str, str]:
    """Splits 'PATH=VALUE' into (path, value)."""
    path, equals, value = text.partition("=")
    if not equals or not path.strip():
        raise RequestError(f"--set {text}: expected PATH=VALUE, such as optimizer.learning_rate=3e-4")
    return path.strip(), value.strip()


def leaf_paths(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields (dotted path, value) of every field that is not itself a dataclass, in order of declaration."""
    for name, child in _children(value):
        if _children(child):
            yield from leaf_paths(child, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", child


def _children(value: Any) -> list[tuple[str, Any]]:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [(f.name, getattr(value, f.name)) for f in value_fields(type(value))]
    if isinstance(value, tuple) and any(dataclasses.is_dataclass(child) for child in value):
        return [(str(i), child) for i, child in enumerate(value)]
    return []


def _changed(node: Any, hint: Any, changes: _Changes, parse: bool, root: Any) -> Any:
    if changes.new is not None:
        path, new = changes.new
        node = _accepted(_parsed(new, hint, node, path) if parse else conform(new, hint, path), path)
    if not changes.below:
        return node
    if dataclasses.is_dataclass(node):
        hints = field_types(type(node))
        changed = {}
        for key, below in changes.below.items():
            if key not in hints:
                raise _unknown(below.path, key, node, hints, root)
            changed[key] = _changed(getattr(node, key), hints[key], below, parse, root)
        return dataclasses.replace(node, **changed)
    if isinstance(node, tuple) and node:
        items = list(node)
        for key, below in changes.below.items():
            if not (key.isdecimal() and int(key) < len(node)):
                raise RequestError(f"{below.path}: {key!r} is not an index; expected 0 to {len(node) - 1}")
            items[int(key)] = _changed(items[int(key)], _element_type(hint, int(key)), below, parse, root)
        return tuple(items)
    if isinstance(node, Mapping):
        changed = {}
        for key, below in changes.below.items():
            if key not in node:
                raise _unknown(below.path, key, node, node, root)
            changed[key] = _changed(node[key], Any, below, parse, root)
        return {**node, **changed}
    key, below = next(iter(changes.below.items()))
    raise _unknown(below.path, key, node, (), root)


def _accepted(new: Any, path: str) -> Any:
    """Returns a new value of a field after checking that all its numbers are finite."""
    if isinstance(new, float) and not math.isfinite(new):
        raise RequestError(f"{path}={new}: expected a finite number")
    if not _children(new):
        return new
    with prefixed(f"{path}."):
        return conformed(new)


def _unknown(path: str, key: str, node: Any, names: Any, root: Any) -> RequestError:
    paths = [p for p, _ in leaf_paths(root)]
    same_leaf = [p for p in paths if p.rpartition(".")[2] == path.rpartition(".")[2]]
    holder = f"{type(node).__name__} has no field {key!r}" if names else f"{node!r:.40} has no fields"
    if same_leaf:
        return RequestError(f"{path}: {holder}; did you mean {' or '.join(repr(p) for p in same_leaf[:3])}?")
    return RequestError(f"{path}: {holder}; {nearest(key, names) if names else nearest(path, paths)}")


def _element_type(hint: Any, index: int) -> Any:
    for arm in arms(hint):
        if typing.get_origin(arm) is tuple:
            args = typing.get_args(arm)
            return args[0] if args[-1] is Ellipsis else args[index]
    return Any


def _parsed(text: str, hint: Any, old: Any, path: str) -> Any:
    """Parses `text` as type `hint`; a field without a declared type keeps the type of its old value."""
    if hint is Any and old is not None:
        hint = type(old)
    for arm in arms(hint):
        try:
            return conform_arm(_read(text, arm, path, old), arm, path)
        except (Mismatch, ValueError) as error:
            if isinstance(error, RequestError):
                raise
    expected = f"{describe(hint)}{_hint_to_fields(hint, path, old)}{spelling(text, hint)}"
    raise RequestError(f"{path}={text:.80}: expected {expected}")


def _hint_to_fields(hint: Any, path: str, old: Any) -> str:
    for arm in arms(hint):
        if arm is nn.Module and old is not None:
            fields = [f"{path}.{field.name}" for field in value_fields(type(old))]
            return f" as JSON, such as {path}={_form(type(old))}, or one of its fields: {', '.join(fields[:6])}"
        if dataclasses.is_dataclass(arm):
            _import_beside(arm)
            options = [cls.__name__ for cls in _subclasses(arm)]
            fields = [f"{path}.{name}" for name in field_types(arm)]
            return f" ({', '.join(options[:12])}), or one of its fields: {', '.join(fields[:6])}"
    return ""


def _subclasses(cls: type) -> list[type]:
    found = [cls, *(sub for child in cls.__subclasses__() for sub in _subclasses(child))]
    return [sub for sub in dict.fromkeys(found) if not (inspect.isabstract(sub) or sub.__name__.startswith("_"))]


def _read(text: str, arm: Any, path: str, old: Any = None) -> Any:
    if arm is type(None):
        if text.lower() in ("none", "null"):
            return None
        raise Mismatch
    if arm is bool:
        if text.lower() in ("true", "false"):
            return text.lower() == "true"
        raise Mismatch
    if arm is int:
        number = float(text)
        return int(text.replace("_", "")) if text.lstrip("+-").replace("_", "").isdigit() else _whole(number)
    if arm is float:
        return float(text)
    if arm is str:
        return text
    if typing.get_origin(arm) is Literal:
        return next((x for x in typing.get_args(arm) if str(x) == text), text)
    if typing.get_origin(arm) is tuple:
        return _read_tuple(text, typing.get_args(arm), path)
    if dataclasses.is_dataclass(arm) and text.isidentifier():
        return _default_of(text, arm, path)
    if arm is nn.Module and old is not None and text.isidentifier():
        return _default_of(text, arm, path, type(old))
    return from_json(_json(text), trust=True)


def _whole(number: float) -> int:
    """Converts numbers such as 1e4, but not 1.5, to an int."""
    if not number.is_integer():
        raise ValueError
    return int(number)


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (json.JSONDecodeError, RecursionError):
        raise Mismatch from None


def _read_tuple(text: str, args: tuple[Any, ...], path: str) -> Any:
    if text.startswith("[") and any(mark in text for mark in '"{['[:2]):
        return from_json(_json(text), trust=True)
    inside = text.strip()
    if inside[:1] + inside[-1:] in ("()", "[]"):
        inside = inside[1:-1]
    fixed = args[-1] is not Ellipsis
    separator = ":" if fixed and "," not in inside and inside.count(":") == len(args) - 1 else ","  # data:2
    parts = [part.strip() for part in inside.split(separator) if part.strip()]
    hints = args if fixed else (args[0],) * len(parts)
    if len(parts) != len(hints):
        raise Mismatch
    return tuple(_parsed(part, h, None, f"{path}.{i}") for i, (part, h) in enumerate(zip(parts, hints, strict=True)))


def _import_beside(base: type) -> None:
    """Imports the library's modules next to and below the module of `base`, so that class names are found."""
    package = base.__module__.rpartition(".")[0]
    if package.startswith("research."):
        for module in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}."):
            importlib.import_module(module.name)


def _default_of(name: str, base: type, path: str, like: type | None = None) -> Any:
    """Returns an instance with default fields of the named class, which is `base` or derives from it.

    Args:
      like: chooses only among the classes of its package.
    """
    own = like or base
    package = own.__module__.rpartition(".")[0] or own.__module__

    def known() -> list[type]:
        return [cls for cls in _subclasses(base) if like is None or f"{cls.__module__}.".startswith(f"{package}.")]

    found = next((cls for cls in known() if cls.__name__ == name), None)
    if found is None:
        _import_beside(own)
        found = next((cls for cls in known() if cls.__name__ == name), None)
    if found is None:
        kind = base.__name__ if like is None else "model"
        raise RequestError(f"{path}={name}: no {kind} of that name; {nearest(name, [x.__name__ for x in known()])}")
    needed = _needed(found)
    if needed:
        raise RequestError(f"{path}={name}: it needs {' and '.join(needed)}; expected JSON: {path}={_form(found)}")
    return found()


def _needed(cls: type) -> list[str]:
    """The names of the fields without a default."""
    missing = dataclasses.MISSING
    return [f.name for f in value_fields(cls) if f.default is missing and f.default_factory is missing]


def _form(cls: type) -> str:
    """The form in which a value is written on a command line, with the fields that it needs."""
    fields = [f'"_type": "{cls.__module__}:{cls.__qualname__}"', *(f'"{name}": …' for name in _needed(cls))]
    return f"'{{{', '.join(fields)}}}'"
