"""What the `check()` of a spec or a model says of its fields, in the same words everywhere.

    def check(self) -> None:
        check_types(self)
        check_counts(self, "width", "depths", "classes")
        check_rates(self, "dropout")

Each raises RequestError with the field's name first.  Where a type allows None, so do the others, which leave it to the
default; a tuple is checked item by item.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from research.conform import conform, field_types
from research.errors import require


def check_types(spec: Any) -> None:
    """Every field is of its type: a Literal one of its choices, an int a whole number."""
    for name, hint in field_types(type(spec)).items():
        conform(getattr(spec, name), hint, name)


def check_counts(spec: Any, *names: str, least: int = 1) -> None:
    """Each of the fields is at least `least`."""
    _check_items(spec, names, lambda item: item >= least, f"expected at least {least}")


def check_rates(spec: Any, *names: str) -> None:
    """Each of the fields is a probability below 1: of dropout, of dropping a path."""
    _check_items(spec, names, lambda item: 0 <= item < 1, "expected 0 <= {name} < 1")


def check_factors(spec: Any, *names: str) -> None:
    """Each of the fields is above 0."""
    _check_items(spec, names, lambda item: item > 0, "expected a number above 0")


def check_stages(spec: Any, *names: str, stages: str = "depths") -> None:
    """Each of the fields has an item for every stage, of which there are as many as `stages` has items."""
    expected = len(getattr(spec, stages))
    for name in names:
        value = getattr(spec, name)
        require(len(value) == expected, f"{name}={value}: expected {expected}, one per stage of {stages}")


def _check_items(spec: Any, names: tuple[str, ...], good: Callable[[Any], bool], expected: str) -> None:
    for name in names:
        value = getattr(spec, name)
        items = value if isinstance(value, tuple) else (value,)
        require(all(item is None or good(item) for item in items), f"{name}={value}: {expected.format(name=name)}")
