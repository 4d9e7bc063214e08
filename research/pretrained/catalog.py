"""The model families with published weights, looked up by name, model or config."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from typing import Any

from flax import linen as nn

from research.config.checks import MOST_LAYERS, check_types
from research.config.serialization import value_fields
from research.errors import RequestError, nearest, prefixed, require
from research.pretrained import (
    convnext,
    detr,
    dit,
    efficientnet,
    gnn,
    gpt2,
    llama,
    marian,
    resnet,
    rnn,
    timm_config,
    unet,
    vit,
    whisper,
    yolos,
    yolox,
)
from research.pretrained.family import Family, Variant
from research.pretrained.files import is_hub_id

FAMILIES: tuple[Family, ...] = (
    resnet.FAMILY,
    efficientnet.FAMILY,
    convnext.FAMILY,
    vit.FAMILY,
    gpt2.FAMILY,
    llama.FAMILY,
    *rnn.FAMILIES,
    marian.FAMILY,
    whisper.FAMILY,
    unet.FAMILY,
    dit.FAMILY,
    *gnn.FAMILIES,
    detr.FAMILY,
    yolos.FAMILY,
    yolox.FAMILY,
)


def variants() -> dict[str, Variant]:
    """All published sizes, by name."""
    return {name: variant for family in FAMILIES for name, variant in family.variants.items()}


def find_variant(name: str) -> tuple[Family, Variant]:
    """Finds a variant and its family by name.

    Raises:
      RequestError: the name is unknown; suggests our name for a model of timm, torchvision or the hub, or the nearest
        one.
    """
    for family in FAMILIES:
        if name in family.variants:
            return family, family.variants[name]
    raise RequestError(f"model={name!r}: no published model of this name; {_meant(name)}")


def _meant(name: str) -> str:
    """Suggests a replacement for an unknown name."""
    ours = {name: name for name in variants()}
    for variant, found in variants().items():
        ours |= {other.lower(): variant for other in (found.hub, *found.elsewhere) if other is not None}
    plain = name.lower()
    # timm's names may start with an organisation and end with the training data of the weights.
    architecture = plain.rpartition("/")[2].partition(".")[0]
    if (variant := ours.get(plain) or ours.get(architecture)) is not None:
        return f"did you mean {variant!r}?"
    if any(architecture in family.architectures for family in FAMILIES) or is_hub_id(name):
        return f"did you mean 'auto', with {'it' if is_hub_id(name) else 'the folder that holds it'} as the source?"
    close = difflib.get_close_matches(plain, ours, 1, 0.8)
    if close and ours[close[0]] != close[0]:
        return f"did you mean {ours[close[0]]!r}?"
    return nearest(name, (*variants(), "auto"))


def family_of(model: nn.Module) -> Family:
    """The family of one of our models.

    Raises:
      RequestError: no published weights are mapped to models of this class.
    """
    for family in FAMILIES:
        if type(model) is family.model:
            return family
    known = ", ".join(family.model.__name__ for family in FAMILIES)
    raise RequestError(f"{type(model).__name__}: no published weights are mapped for it, only for {known}")


def from_config(config: Mapping[str, Any]) -> tuple[Family, nn.Module]:
    """Builds the model described by a config.json: Hugging Face's, diffusers', which has a `_class_name`, or timm's,
    which has an `architecture`.

    Raises:
      RequestError: its model_type, class or architecture is unknown, it asks for an unsupported feature, or a value is
        invalid.
    """
    family, architecture = family_in(config), config.get("architecture")
    if family is None:
        keys = {"architecture": [name for x in FAMILIES for name in x.architectures]}
        for x in FAMILIES:
            keys.setdefault(x.type_key, []).append(x.model_type)
        key = next((key for key in keys if config.get(key) is not None), "model_type")
        known = keys[key]
        raise RequestError(f"{key}={config.get(key)!r} in the config: {nearest(str(config.get(key)), known)}")
    if architecture is None:
        model = family.from_config(config)
    else:
        model = family.from_timm({**family.architectures[architecture], **timm_config.arguments(config)})
    with prefixed("config: "):
        check_types(model)
        check_sizes(model)
        check_layers(family, model, MOST_LAYERS)
        model.check()
    return family, model


_LARGEST = 2**31 - 1


def check_layers(family: Family, model: nn.Module, most: int) -> None:
    """Raises RequestError if a model has more than `most` layers, before it is built."""
    layers = family.layers(model)
    require(layers <= most, f"{layers:,.0f} layers: expected at most {most:,}")


def check_sizes(value: Any, above: str = "") -> None:
    """Raises RequestError if a whole number in a model's fields is beyond any array's size."""
    for field in value_fields(type(value)):
        items = getattr(value, field.name)
        for item in items if isinstance(items, tuple) else (items,):
            if dataclasses.is_dataclass(item):
                check_sizes(item, f"{above}{field.name}.")
            elif type(item) is int:
                require(abs(item) <= _LARGEST, f"{above}{field.name}={str(item):.40}: expected at most {_LARGEST}")


def family_in(config: Mapping[str, Any]) -> Family | None:
    """The family of the model that a config.json describes, or None if it is unknown."""
    architecture = config.get("architecture")
    for family in FAMILIES:
        named = config.get(family.type_key) == family.model_type
        if named if architecture is None else architecture in tuple(family.architectures):
            return family
    return None
