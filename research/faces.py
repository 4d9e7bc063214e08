"""Package faces: names that are imported on first use.

    __getattr__, __dir__, __all__ = face(__name__, __file__)

The names come from the stub `__init__.pyi` next to `__init__.py`, which editors and type checkers read too.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from typing import Any

import lazy_loader

from research.errors import nearest


def face(package: str, file: str) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """Returns the `__getattr__`, `__dir__` and `__all__` of a package, from the stub next to its `file`.

    A missing name raises AttributeError, or ImportError in `from package import name`, with the nearest name.
    """
    load, names, public = lazy_loader.attach_stub(package, file)

    def attribute(name: str) -> Any:
        if name in public:
            return load(name)
        message = f"{package} has no {name!r}; {nearest(name, public)}"
        # In `from package import name`, Python replaces an AttributeError by an ImportError without suggestions.  It
        # tries a submodule of that name first, so the error is raised here only if there is none.
        importing = sys._getframe(1).f_code.co_name == "_handle_fromlist"
        if importing and importlib.util.find_spec(f"{package}.{name}") is None:
            raise ImportError(message, name=package)
        raise AttributeError(message)

    return attribute, names, public
