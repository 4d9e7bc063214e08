"""Imports optional libraries where they are used; a missing one is an error of one line."""

from __future__ import annotations

import importlib
from types import ModuleType

from research.errors import RequestError


def from_extra(module: str, extra: str, purpose: str) -> ModuleType:
    """Imports an optional library.

    Args:
      module: its name.
      extra: the extra of this project that installs it.
      purpose: what needs the library; the error starts with it.

    Raises:
      RequestError: the library is not installed; the message says what to type.
    """
    try:
        return importlib.import_module(module)
    except ImportError:
        raise RequestError(f"{purpose} needs {module}, which is not installed: pip install -e '.[{extra}]'") from None
