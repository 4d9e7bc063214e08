"""The modules and files that experiments come from: importing them, and telling whether a file has changed."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import pathlib
import sys
from types import ModuleType

from research.errors import RequestError, located

FILE_PREFIX = "file:"
"""Begins the name of a module that is a file of the user's: "file:/path/to/mine.py"."""


def file_hash(path: str) -> str:
    """SHA-256 of a file's bytes, 64 hexadecimal digits."""
    return hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()


def load_module(name: str) -> ModuleType:
    """Imports `package.module`, or executes `file:/path/to/mine.py` once per process.

    Raises:
      RequestError: the file or the module is not there, or fails while it is imported.
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
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up while the class is made
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise RequestError(located(error)) from error
    return module
