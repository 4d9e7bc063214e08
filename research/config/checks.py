"""Checks of fields, for the `check()` of a value or a model, with uniform messages.

    def check(self) -> None:
        super().check()
        check_counts(self, "width", "classes")
        check_depths(self, "depths")
        check_rates(self, "dropout")

Each raises RequestError, starting with the field's name.  Fields may be None where their types allow it; tuples are
checked item by item.  `check_part` is for a field with its own `check`, `check_images` for `__call__`, and `check_size`
for a name.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterable
from typing import Any

import jax

from research.config.once import Once
from research.config.types import conform, field_types
from research.errors import nearest, prefixed, require

MOST_LAYERS = 2_000
"""Building a model takes time for each layer; published ones have a few hundred at most."""


def check_types(spec: Any, above: str = "") -> None:
    """Checks that every field has its type: a Literal one of its choices, an int a whole number.

    Args:
      above: the prefix of field names if the spec is part of another one: "stages.0.".
    """
    for name, hint in field_types(type(spec)).items():
        conform(getattr(spec, name), hint, above + name)


def check_counts(spec: Any, *names: str, least: int = 1) -> None:
    """Checks that each field is at least `least`."""
    _check_items(spec, names, lambda item: item >= least, f"expected at least {least}")


def check_depths(spec: Any, *names: str) -> None:
    """Checks that each field is a number of layers that a model can be made of."""
    check_counts(spec, *names)
    _check_items(spec, names, lambda item: item <= MOST_LAYERS, f"expected at most {MOST_LAYERS:,} layers")


def check_rates(spec: Any, *names: str) -> None:
    """Checks that each field is a probability below 1, such as a dropout rate."""
    _check_items(spec, names, lambda item: 0 <= item < 1, "expected 0 <= {name} < 1")


def check_shares(spec: Any, *names: str) -> None:
    """Checks that each field is from 0 to 1, such as the momentum of a running mean."""
    _check_items(spec, names, lambda item: 0 <= item <= 1, "expected 0 <= {name} <= 1")


def check_factors(spec: Any, *names: str) -> None:
    """Checks that each field is positive and finite, such as an epsilon."""
    _check_items(spec, names, lambda item: 0 < item < math.inf, "expected a finite number above 0")


def check_part(path: str, part: Any, *context: Any, once: Once | None = None) -> None:
    """Calls `part.check(*context)` if the part has one; its errors start with `path`: "schedule.final=2: …".

    With `once`, a part without a context is checked only once.
    """
    if hasattr(part, "check"):
        with prefixed(f"{path}."):
            if once is None or context:
                part.check(*context)
            else:
                once(_check, part)


def _check(part: Any) -> None:
    part.check()


def check_stages(spec: Any, *names: str, stages: str = "depths") -> None:
    """Checks that each field has one item per item of the field `stages`, of which there is at least one."""
    expected = len(getattr(spec, stages))
    require(expected > 0, f"{stages}=(): expected at least one stage")
    for name in names:
        value = getattr(spec, name)
        require(len(value) == expected, f"{name}={value}: expected {expected}, one per stage of {stages}")


def check_size(model: str, size: Any, sizes: Iterable[str]) -> None:
    """Checks that `size` is one of the model's `sizes`; the error suggests the size that it misspells, abbreviates
    or spells out.
    """
    known, given = list(sizes), str(size).lower()
    meant = difflib.get_close_matches(given, known, 1, cutoff=0.8)
    meant += [name for name in known if given and (name.startswith(given) or given.startswith(name))]
    close = nearest(meant[0] if meant else given, known)
    require(isinstance(size, str) and size in known, f"size={size!r}: no such {model}; {close}")


def check_images(x: jax.Array, model: str, *, least: int = 1, multiple: int = 1) -> None:
    """Checks that `x` is [batch, height, width, channels], with sides of at least `least` pixels, multiples of
    `multiple`.

    Args:
      model: the model, with the fields that determine the limits: "ViT with patch_size=16".
    """
    require(x.ndim == 4, f"x has shape {list(x.shape)}: expected images [batch, height, width, channels]")
    height, width = x.shape[1:3]
    given = f"images of {height}×{width}: {model} needs"
    require(min(height, width) >= least, f"{given} at least {least}×{least}")
    require(height % multiple == width % multiple == 0, f"{given} sides that are multiples of {multiple}")


def _check_items(spec: Any, names: tuple[str, ...], good: Callable[[Any], bool], expected: str) -> None:
    for name in names:
        value = getattr(spec, name)
        items = value if isinstance(value, tuple) else (value,)
        require(all(item is None or good(item) for item in items), f"{name}={value}: {expected.format(name=name)}")
