"""Reads timm's config.json: an `architecture`, the `model_args` that change it, and constants in `pretrained_cfg`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from research.errors import require


def constants(config: Mapping[str, Any]) -> dict[str, Any]:
    """Constants published with the weights: `mean`, `std`, `input_size`, `num_classes`, `label_names`, ...

    They are in `pretrained_cfg`, or at the top level, where older files have all of them and newer files may override
    some.
    """
    nested = config.get("pretrained_cfg", {})
    require(isinstance(nested, Mapping), f"pretrained_cfg={nested!r:.80} in config.json: expected an object")
    return {**nested, **config}


def arguments(config: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments that the config adds to those of its `architecture`."""
    known = constants(config)
    given = {name: known[name] for name in ("num_classes", "global_pool") if known.get(name) is not None}
    size = known.get("input_size")
    if known.get("fixed_input_size") and size is not None:
        listed = isinstance(size, list | tuple) and len(size) == 3
        require(listed, f"input_size={size!r:.80} in config.json: expected [channels, height, width]")
        given["img_size"] = size[1:]
    changed = config.get("model_args") or {}
    require(isinstance(changed, Mapping), f"model_args={changed!r:.80} in config.json: expected an object")
    return given | dict(changed)
