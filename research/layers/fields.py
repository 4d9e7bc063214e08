"""The fields of a model: for its blocks to read, for its parts to be made with."""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar

from flax import linen as nn

Part = TypeVar("Part", bound=nn.Module)


@dataclasses.dataclass(frozen=True)
class Fields:
    """What a module was made with, by name: `Block(fields(self), ...)`, and in the block `self.spec.width`.

    A block that held the module itself would be taken for its parent: Linen adopts modules that stand in fields.
    """

    items: tuple[tuple[str, Any], ...]

    def __getattr__(self, name: str) -> Any:
        for key, value in object.__getattribute__(self, "items"):
            if key == name:
                return value
        raise AttributeError(name)


def fields(module: nn.Module) -> Fields:
    """The fields of `module`, but for where it stands (`parent`, `name`)."""
    return Fields(tuple((name, getattr(module, name)) for name in _names(module)))


def like(module: nn.Module, part: type[Part], **others: Any) -> Part:
    """A `part` with the fields of `module` that bear the names of its own; `others` change them, or say where it is."""
    shared = {name: getattr(module, name) for name in _names(part) if name in _names(module)}
    return part(**shared | others)


def _names(module: nn.Module | type[nn.Module]) -> list[str]:
    return [field.name for field in dataclasses.fields(module) if field.name not in ("parent", "name")]
