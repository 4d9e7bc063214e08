"""Passes the fields of a model on to its blocks and parts."""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar

from flax import linen as nn

Part = TypeVar("Part", bound=nn.Module)


@dataclasses.dataclass(frozen=True)
class Fields:
    """The fields of a module, by name: `Block(fields(self), ...)`, and in the block `self.spec.width`.

    A block cannot hold the module itself, because Linen would register the module as a child of the block.
    """

    items: tuple[tuple[str, Any], ...]

    def __getattr__(self, name: str) -> Any:
        for key, value in object.__getattribute__(self, "items"):
            if key == name:
                return value
        raise AttributeError(name)


def fields(module: nn.Module) -> Fields:
    """The fields of `module`, except its place in the module tree (`parent`, `name`)."""
    return Fields(tuple((name, getattr(module, name)) for name in _names(module)))


def like(module: nn.Module, part: type[Part], **others: Any) -> Part:
    """Builds a `part` with the fields of `module` that both have; `others` override them."""
    shared = {name: getattr(module, name) for name in _names(part) if name in _names(module)}
    return part(**shared | others)


def _names(module: nn.Module | type[nn.Module]) -> list[str]:
    return [field.name for field in dataclasses.fields(module) if field.name not in ("parent", "name")]
