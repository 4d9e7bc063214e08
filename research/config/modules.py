"""Imports the modules and files of experiments, and detects changed files."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import pathlib
import sys
from types import ModuleType

from research.errors import RequestError, located, require

FILE_PREFIX = "file:"
"""The prefix of a module name for a user's file: "file:/path/to/mine.py"."""


def file_hash(path: str) -> str:
    """SHA-256 of a file's bytes, 64 hexadecimal digits."""
    return hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()


def load_module(name: str) -> ModuleType:
    """Imports `package.module`, or executes `file:/path/to/mine.py` once per process.

    Raises:
      RequestError: the file or module is missing, or its import fails.
    """
    if name in sys.modules:
        return sys.modules[name]
    if not name.startswith(FILE_PREFIX):
        try:
            return importlib.import_module(name)
        except Exception as error:
            if isinstance(error, ModuleNotFoundError) and f"{name}.".startswith(f"{error.name}."):
                raise RequestError(f"no module {name!r}") from None
            raise RequestError(located(error)) from error
    path = pathlib.Path(name.removeprefix(FILE_PREFIX))
    if not path.is_file():
        raise RequestError(f"{path}: no such file")
    spec = importlib.util.spec_from_file_location(name, path)
    require(spec is not None, f"{path}: no Python file; expected a name that ends with .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look up their module while a class is created
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise RequestError(located(error)) from error
    return module
