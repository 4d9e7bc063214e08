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

_PROJECT = pathlib.Path(__file__).resolve().parents[2]
_PACKAGES = ("research", "experiments")


def file_hash(path: str) -> str:
    """SHA-256 of a file's bytes, 64 hexadecimal digits."""
    return hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()


def executed_hash(name: str) -> str:
    """The hash of the bytes that were executed for `file:/path/to/mine.py`; in a process that got its classes from
    another one, the hash of the file.
    """
    if name in sys.modules:
        return vars(sys.modules[name])["__sha256__"]
    return file_hash(name.removeprefix(FILE_PREFIX))


def import_own_package(package: str) -> None:
    """Imports a package of this project, also where a package in the working directory has the same name."""
    if package not in sys.modules:
        folder = _PROJECT / package
        spec = importlib.util.spec_from_file_location(
            package, folder / "__init__.py", submodule_search_locations=[str(folder)]
        )
        module = importlib.util.module_from_spec(spec)
        sys.modules[package] = module
        spec.loader.exec_module(module)


def of_project(name: str) -> bool:
    """True for the name of a module in this project's own packages; imports nothing of others."""
    first, *others = name.split(".")
    if first not in _PACKAGES or "__main__" in others or not all(part.isidentifier() for part in others):
        return False
    import_own_package(first)
    spec = importlib.util.find_spec(first)
    return spec is not None and spec.origin is not None and pathlib.Path(spec.origin).resolve().parents[1] == _PROJECT


def load_module(name: str, sha256: str | None = None) -> ModuleType:
    """Imports `package.module`, or executes `file:/path/to/mine.py` once per process.

    Args:
      sha256: executes a file only if its bytes have this hash; None executes it as it is.

    Raises:
      RequestError: the file or module is missing, the file has another hash, or its import fails.
    """
    if name in sys.modules:
        return sys.modules[name]
    if not name.startswith(FILE_PREFIX):
        if name.partition(".")[0] in _PACKAGES:
            import_own_package(name.partition(".")[0])
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
    try:
        source = path.read_bytes()
    except OSError as error:
        raise RequestError(f"{path}: {error.strerror}") from None
    found = hashlib.sha256(source).hexdigest()
    require(sha256 in (None, found), f"{path} has changed since this record was written")
    module = importlib.util.module_from_spec(spec)
    module.__dict__["__sha256__"] = found
    sys.modules[name] = module  # dataclasses look up their module while a class is created
    try:
        exec(compile(source, str(path), "exec", dont_inherit=True), module.__dict__)  # the very bytes that were hashed
    except Exception as error:
        del sys.modules[name]
        raise RequestError(located(error)) from error
    return module
