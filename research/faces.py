"""Faces of packages: names that are imported when they are first used.

    __getattr__, __dir__, __all__ = face(__name__, __file__)

The names are those of the stub beside `__init__.py`, `__init__.pyi`, which editors and type checkers read too.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from typing import Any

import lazy_loader

from research.errors import nearest


def face(package: str, file: str) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """The `__getattr__`, `__dir__` and `__all__` of a package, from the stub beside its `file`.

    A name that is not there is an AttributeError, or an ImportError in `from package import name`, that tells the
    nearest one.
    """
    load, names, public = lazy_loader.attach_stub(package, file)

    def attribute(name: str) -> Any:
        if name in public:
            return load(name)
        message = f"{package} has no {name!r}; {nearest(name, public)}"
        # In `from package import name`, Python swallows an AttributeError and raises an ImportError that suggests
        # nothing.  It looks for a submodule of the name first, so only what is none is refused here.
        importing = sys._getframe(1).f_code.co_name == "_handle_fromlist"
        if importing and importlib.util.find_spec(f"{package}.{name}") is None:
            raise ImportError(message, name=package)
        raise AttributeError(message)

    return attribute, names, public
