"""Checks values strictly against the types of fields, and describes types in words."""

from __future__ import annotations

import functools
import math
import types
import typing
from typing import Any, Literal, Union

import numpy as np

from research.config.serialization import value_fields
from research.errors import RequestError, likely

_LARGEST = float(np.finfo(np.float32).max)


@functools.cache
def field_types(cls: type) -> dict[str, Any]:
    """Returns {field name: its type}, with annotations resolved."""
    hints = typing.get_type_hints(cls)
    return {f.name: hints.get(f.name, Any) for f in value_fields(cls)}


def arms(hint: Any) -> tuple[Any, ...]:
    """The alternatives of a type, narrower ones first: 5 is an int before it is a float."""
    if typing.get_origin(hint) not in (Union, types.UnionType):
        return (hint,)
    return tuple(sorted(typing.get_args(hint), key=lambda arm: {float: 1, str: 2}.get(arm, 0)))


def describe(hint: Any) -> str:
    """Describes a type in words: "a whole number", "one of relu, gelu or none"."""
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "text", type(None): "none"}
    if len(arms(hint)) > 1:
        return " or ".join(describe(arm) for arm in arms(hint))
    if typing.get_origin(hint) is Literal:
        return f"one of {', '.join(map(str, typing.get_args(hint)))}"
    if typing.get_origin(hint) is tuple:
        args = typing.get_args(hint)
        if args[-1] is Ellipsis:
            return f"a tuple, each entry {describe(args[0])}"
        return f"a tuple ({', '.join(describe(arg) for arg in args)})"
    return names.get(hint) or getattr(hint, "__name__", str(hint))


def conform(value: Any, hint: Any, path: str) -> Any:
    """Returns `value` if it has type `hint`; an int may be a float, a list a tuple.

    Raises:
      RequestError: it does not; the message starts with `path`.
    """
    if isinstance(value, np.generic):
        value = value.item()
    for arm in arms(hint):
        try:
            return conform_arm(value, arm, path)
        except Mismatch:
            continue
    raise RequestError(f"{path}={value!r:.80}: expected {describe(hint)}{spelling(value, hint)}")


class Mismatch(Exception):
    """A value does not have a type; another alternative of the type may still fit."""


def conform_arm(value: Any, arm: Any, path: str) -> Any:
    """Like `conform` for one alternative of a type; raises `Mismatch`."""
    origin = typing.get_origin(arm)
    if arm is Any:
        return value
    if arm in (int, float):
        if isinstance(value, int | arm) and not isinstance(value, bool):
            return arm(_bounded(value, path))
        raise Mismatch
    if origin is Literal:
        if value in typing.get_args(arm):
            return value
        raise Mismatch
    if origin is tuple:
        args = typing.get_args(arm)
        fixed = args[-1] is not Ellipsis
        if not isinstance(value, tuple | list) or (fixed and len(value) != len(args)):
            raise Mismatch
        hints = args if fixed else (args[0],) * len(value)
        return tuple(conform(child, h, f"{path}.{i}") for i, (child, h) in enumerate(zip(value, hints, strict=True)))
    cls = origin or arm
    if isinstance(cls, type) and isinstance(value, cls):
        return value
    raise Mismatch


def _bounded(number: float, path: str) -> float:
    """Returns a number after checking that it is finite, and fits into 64 bits as a whole number, or into float32."""
    if isinstance(number, int) and not -(2**63) <= number < 2**63:
        raise RequestError(f"{path}={str(number)[:20]}…: expected a whole number below 2**63")
    if not math.isfinite(number):
        raise RequestError(f"{path}={number}: expected a finite number")
    if isinstance(number, float) and abs(number) > _LARGEST:
        raise RequestError(f"{path}={number}: expected a number of at most {_LARGEST:.2g}, the largest of float32")
    return number


def spelling(value: Any, hint: Any) -> str:
    """Returns the end of an error message: the literal of the type that the value resembles most."""
    options = [str(x) for arm in arms(hint) if typing.get_origin(arm) is Literal for x in typing.get_args(arm)]
    meant = likely(value, options) if isinstance(value, str) else None
    return f"; did you mean {meant!r}?" if meant else ""
