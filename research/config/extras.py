"""Libraries that are not installed unless asked for: imported where they are used, and missed in one line."""

from __future__ import annotations

import importlib
from types import ModuleType

from research.errors import RequestError


def from_extra(module: str, extra: str, purpose: str) -> ModuleType:
    """Imports an optional library.

    Args:
      module: its name.
      extra: the extra of this project that installs it.
      purpose: what needs it, to begin the error with.

    Raises:
      RequestError: it is not installed; the line says what to type.
    """
    try:
        return importlib.import_module(module)
    except ImportError:
        raise RequestError(f"{purpose} needs {module}, which is not installed: pip install -e '.[{extra}]'") from None
