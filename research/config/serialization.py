"""Converts values to JSON and back: dataclasses and Linen modules only, without pickle or eval.

A dataclass becomes an object with `"_type": "module:Class"`.  For a class from a file outside any package, this is
`"_type": "file:/path/to/mine.py:Class"` together with the file's hash, so that changes to the file are detected.

Records from before a class moved or a field was renamed still load (research/config/migration.py).
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from flax import linen as nn

from research.config.migration import REMOVED_FIELDS, current_name
from research.config.modules import FILE_PREFIX, file_hash, load_module
from research.errors import RequestError, nearest


def value_fields(cls: type) -> list[dataclasses.Field]:
    """The fields that make up a value: those of `__init__` without Linen's own `parent` and `name`."""
    hidden = {"parent", "name"} if issubclass(cls, nn.Module) else set()
    return [f for f in dataclasses.fields(cls) if f.init and f.name not in hidden]


def to_json(value: Any) -> Any:
    """Converts `value` to JSON-compatible Python: dict, list, str, int, float, bool, None.

    >>> to_json(optimizers.SGD(learning_rate=0.5))["learning_rate"]
    0.5

    Raises:
      RequestError: any other type (such as a function or an array); the message names it.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        cls = type(value)
        record = {"_type": f"{cls.__module__}:{cls.__qualname__}"}
        if cls.__module__.startswith(FILE_PREFIX):
            record["_sha256"] = file_hash(cls.__module__.removeprefix(FILE_PREFIX))
        if hasattr(value, "describe"):  # a value that JSON cannot hold, such as arrays in memory
            return record | {"_description": value.describe()}
        return record | {f.name: to_json(getattr(value, f.name)) for f in value_fields(cls)}
    if isinstance(value, Mapping):
        return {str(key): to_json(child) for key, child in value.items()}
    if isinstance(value, tuple | list):
        return [to_json(child) for child in value]
    if isinstance(value, np.generic):
        return to_json(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        raise RequestError(f"{value}: a configuration holds only finite numbers")
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise RequestError(
        f"a configuration cannot hold a {type(value).__name__} ({value!r:.60}); use a name or a dataclass"
    )


def from_json(record: Any) -> Any:
    """Rebuilds the value that `to_json` wrote.

    Raises:
      RequestError: an unknown class or field, a changed file, a value that existed only in memory, or deep nesting.
    """
    try:
        return _rebuilt(record)
    except RecursionError:
        raise RequestError("a record that is nested too deeply to be read") from None


def _rebuilt(record: Any) -> Any:
    if isinstance(record, list):
        return tuple(_rebuilt(child) for child in record)
    if not isinstance(record, Mapping):
        return record
    if "_type" not in record:
        return {key: _rebuilt(child) for key, child in record.items()}
    cls = _find_class(record["_type"], record.get("_sha256"))
    if "_description" in record:
        raise RequestError(
            f"{cls.__name__}({record['_description']}) existed only in memory: build the experiment again in Python"
        )
    renamed = getattr(cls, "renamed_fields", {})
    removed = REMOVED_FIELDS.get((cls.__module__, cls.__qualname__), {})
    given = {
        renamed.get(key, key): child
        for key, child in record.items()
        if not key.startswith("_") and not (key in removed and child in removed[key])
    }
    names = [f.name for f in value_fields(cls)]
    for key in given:
        if key not in names:
            raise RequestError(f"{record['_type']} has no field {key!r}; {nearest(key, names)}")
    try:
        return cls(**{key: _rebuilt(child) for key, child in given.items()})
    except TypeError as error:
        raise RequestError(f"{record['_type']}: {error}") from None


def canonical(value: Any) -> str:
    """One line of JSON, the same for equal values."""
    return json.dumps(to_json(value), sort_keys=True, separators=(",", ":"), allow_nan=False)


def stable_hash(value: Any) -> str:
    """12 hexadecimal digits that depend only on the value, not on the process, the machine or the field order."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()[:12]


def _find_class(name: str, sha256: str | None) -> type:
    module_name, _, class_name = name.rpartition(":") if isinstance(name, str) else ("", "", "")
    if not (module_name and class_name):
        raise RequestError(f"_type={name!r}: expected 'module:Class'")
    module_name, class_name = current_name(module_name, class_name)
    module = load_module(module_name)
    if sha256 and file_hash(module_name.removeprefix(FILE_PREFIX)) != sha256:
        raise RequestError(f"{module_name.removeprefix(FILE_PREFIX)} has changed since this record was written")
    cls = getattr(module, class_name, None)
    if not (isinstance(cls, type) and dataclasses.is_dataclass(cls)):
        named = {key: getattr(module, key) for key in dir(module)}
        known = [key for key, x in named.items() if isinstance(x, type) and dataclasses.is_dataclass(x)]
        raise RequestError(f"{module_name} has no dataclass {class_name!r}; {nearest(class_name, known)}")
    return cls
