"""The fields of a model, for its blocks to read."""

from __future__ import annotations

import dataclasses
from typing import Any

from flax import linen as nn


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
    names = [field.name for field in dataclasses.fields(module) if field.name not in ("parent", "name")]
    return Fields(tuple((name, getattr(module, name)) for name in names))
