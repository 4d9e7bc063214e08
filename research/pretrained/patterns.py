"""Patterns of names with placeholders: `{i}` matches a number, `{rest*}` any text."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from typing import Any

_PLACEHOLDER = re.compile(r"\{(\w+)(\*?)\}")


@functools.cache
def _compiled(pattern: str) -> re.Pattern:
    parts, seen, end = [], set(), 0
    for hole in _PLACEHOLDER.finditer(pattern):
        name, any_text = hole.groups()
        parts.append(re.escape(pattern[end : hole.start()]))
        parts.append(f"(?P={name})" if name in seen else f"(?P<{name}>{'.+' if any_text else '[0-9]+'})")
        seen.add(name)
        end = hole.end()
    return re.compile("".join(parts) + re.escape(pattern[end:]))


def match(pattern: str, text: str) -> dict[str, str] | None:
    """Returns the values of the placeholders if `text` matches `pattern`, {} if it has none; None without a match."""
    found = _compiled(pattern).fullmatch(text)
    return found and found.groupdict()


def fitting(pattern: str, paths: Mapping[str, Any]) -> list[tuple[str, dict[str, str]]]:
    """Returns the paths that match `pattern`, each with the values of the placeholders."""
    if not _PLACEHOLDER.search(pattern):
        return [(pattern, {})] if pattern in paths else []
    return [(path, values) for path in paths if (values := match(pattern, path)) is not None]


def fill(pattern: str, values: Mapping[str, str]) -> str:
    """Returns the pattern with its placeholders replaced by `values`."""
    return _PLACEHOLDER.sub(lambda hole: values[hole[1]], pattern)


def placeholders(pattern: str) -> list[str]:
    """Returns the names of the placeholders, in order."""
    return list(dict.fromkeys(hole[1] for hole in _PLACEHOLDER.finditer(pattern)))
