"""Converts values to JSON and back: dataclasses and Linen modules only, without pickle or eval.

A dataclass becomes an object with `"_type": "module:Class"`.  For a class from a file outside any package, this is
`"_type": "file:/path/to/mine.py:Class"` together with the file's hash, so that changes to the file are detected.

Reading a record imports modules of this project only, since whoever wrote the record may have named any code.  Classes
that the program has already imported are used; other files and modules are imported if the caller trusts the record,
and a file only if it has the hash in the record.

A value that JSON cannot hold, such as arrays in memory, has a method `describe()`, whose description is recorded, and a
class method `recalled(description)` that makes a value to stand for it.

A class that was defined in a notebook, or in the script that Python was started with, is `"__main__:Class"`; its code
is not recorded.  It is found again in the same notebook, or where a class of that name has been defined in `__main__`.

Records from before a class moved or a field was renamed still load (research/config/migration.py).
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import sys
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import numpy as np
from flax import linen as nn

from research.config.migration import REMOVED_FIELDS, current_name
from research.config.modules import FILE_PREFIX, executed_hash, load_module, of_project
from research.errors import RequestError, nearest, require


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
            record["_sha256"] = executed_hash(cls.__module__)
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


def from_json(record: Any, *, trust: bool = False) -> Any:
    """Rebuilds the value that `to_json` wrote.

    Args:
      trust: also import files and modules outside of this project, which runs their code.

    Raises:
      RequestError: an unknown class or field, a class of code that is not trusted, a changed file, a class of a
        notebook that is not defined here, or deep nesting.
    """
    try:
        return _rebuilt(record, trust)
    except RecursionError:
        raise RequestError("a record that is nested too deeply to be read") from None


def _rebuilt(record: Any, trust: bool) -> Any:
    if isinstance(record, list):
        return tuple(_rebuilt(child, trust) for child in record)
    if not isinstance(record, Mapping):
        return record
    if "_type" not in record:
        return {key: _rebuilt(child, trust) for key, child in record.items()}
    cls = _find_class(record["_type"], record.get("_sha256"), trust)
    if "_description" in record:
        require(hasattr(cls, "recalled"), f"{cls.__name__}: has no recalled() to be rebuilt by from a description")
        try:
            return cls.recalled(record["_description"])
        except (AttributeError, KeyError, TypeError, ValueError) as error:  # somebody has edited the record
            raise RequestError(f"{record['_type']}: cannot be rebuilt from its description: {error}") from None
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
        return cls(**{key: _rebuilt(child, trust) for key, child in given.items()})
    except TypeError as error:
        raise RequestError(f"{record['_type']}: {error}") from None


def canonical(value: Any) -> str:
    """One line of JSON, the same for equal values."""
    return json.dumps(to_json(value), sort_keys=True, separators=(",", ":"), allow_nan=False)


def stable_hash(value: Any) -> str:
    """12 hexadecimal digits that depend only on the value, not on the process, the machine or the field order."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()[:12]


def _find_class(name: str, sha256: str | None, trust: bool) -> type:
    module_name, _, class_name = name.rpartition(":") if isinstance(name, str) else ("", "", "")
    if not (module_name and class_name):
        raise RequestError(f"_type={name!r}: expected 'module:Class'")
    module_name, class_name = current_name(module_name, class_name)
    module = _module(module_name, class_name, sha256, trust)
    cls = getattr(module, class_name, None)
    require(
        module_name != "__main__" or cls is not None,
        f"{class_name!r} was defined in the notebook or script that wrote this record: define it here, too, or keep it "
        "in a file that both import",
    )
    if not (isinstance(cls, type) and dataclasses.is_dataclass(cls)):
        named = {key: getattr(module, key) for key in dir(module)}
        known = [key for key, x in named.items() if isinstance(x, type) and dataclasses.is_dataclass(x)]
        raise RequestError(f"{module_name} has no dataclass {class_name!r}; {nearest(class_name, known)}")
    return cls


def _module(name: str, class_name: str, sha256: str | None, trust: bool) -> ModuleType:
    """The module of a class; executes no code outside of this project unless it is trusted and unchanged."""
    path = name.removeprefix(FILE_PREFIX)
    if name not in sys.modules and not of_project(name):
        require(
            trust,
            f"{path}: not of this project, and this record would run its code for {class_name!r}; if you trust the "
            "code, say so by trust=True or --trust",
        )
        require(path == name or bool(sha256), f"{path}: this record lacks the file's hash, so its code is not run")
    module = load_module(name, sha256 if path != name else None)
    changed = path != name and sha256 is not None and executed_hash(name) != sha256
    require(not changed, f"{path} has changed since this record was written")
    return module
