"""Adds inherited fields to docstrings: `help(AdamW)` also describes `frozen`, a field of `Optimizer`."""

from __future__ import annotations

import inspect
import re

_ENTRY = re.compile(r"  (\w+(?:, \w+)*): ")


def describe_inherited(cls: type) -> None:
    """Adds to the docstring of `cls` the descriptions of inherited fields that it lacks, from the "Attributes:" of its
    bases.

    For `__init_subclass__` of a base class.  "Attributes:" must be the last section of a docstring.
    """
    if cls.__doc__ is None:
        return
    text = inspect.cleandoc(cls.__doc__)
    own = _entries(text)
    described = {name for names in own for name in names}
    inherited = {}
    for base in cls.__mro__[1:]:
        for names, entry in _entries(inspect.cleandoc(base.__doc__ or "")).items():
            if described.isdisjoint(names):
                inherited.setdefault(names, entry)
    if inherited:
        cls.__doc__ = text + ("\n" if own else "\n\nAttributes:\n") + "\n".join(inherited.values()) + "\n"


def _entries(docstring: str) -> dict[tuple[str, ...], str]:
    """Parses the section "Attributes:" of a docstring without indentation: {names: lines}."""
    _, found, section = docstring.partition("\nAttributes:\n")
    entries: dict[tuple[str, ...], str] = {}
    names: tuple[str, ...] = ()
    for line in section.rstrip().splitlines() if found else ():
        start = _ENTRY.match(line)
        if start:
            names = tuple(start.group(1).split(", "))
            entries[names] = line
        elif names:
            entries[names] += f"\n{line}"
    return entries
