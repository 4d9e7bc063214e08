"""`load_pretrained` and `export_pretrained`: published weights into our parameters, and back.

    model, variables = load_pretrained("resnet50", "model.safetensors")
    model, variables = load_pretrained("vit_b16", "google/vit-base-patch16-224", classes=10, image_size=384)
    export_pretrained(model, variables, "out/model.safetensors")

Reading is strict: every tensor of the file is used once, every parameter of the model is filled.
"""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from research.errors import RequestError, nearest, require
from research.layers.dtypes import DType
from research.pretrained import files, mapping
from research.pretrained.catalog import FAMILIES
from research.pretrained.family import Family, Variant
from research.pretrained.mapping import KeyMap
from research.pretrained.preprocessing import Preprocessing, from_hf


class Pretrained(tuple[nn.Module, dict[str, Any]]):
    """`(model, variables)`, to be unpacked, with what else was published beside the weights.

    Attributes:
      model, variables: the pair.
      preprocessing: how to prepare images for the model; None where it takes none.
      publisher: whose names the file uses ("huggingface", "timm", "torchvision", ...).
    """

    model: nn.Module
    variables: dict[str, Any]
    preprocessing: Preprocessing | None
    publisher: str

    def __new__(cls, model: nn.Module, variables: dict[str, Any], preprocessing: Preprocessing | None, publisher: str):
        both = super().__new__(cls, (model, variables))
        both.model, both.variables, both.preprocessing, both.publisher = model, variables, preprocessing, publisher
        return both


def load_pretrained(
    model: str | nn.Module | Mapping[str, Any],
    source: str | os.PathLike | None = None,
    *,
    classes: int | None = None,
    image_size: int | None = None,
    dtype: DType | None = None,
    seed: int = 0,
) -> Pretrained:
    """Reads published weights from a local file, folder or index of shards, or from the hub.

    Args:
      model: a variant's name ("resnet50"; `variants()` lists them), a model of ours, a Hugging Face config (the parsed
        config.json), or "auto": the config.json beside the weights says.  A named variant takes the number of classes
        and the publisher's details (padding, epsilon) from the file; the others are taken as they are.
      source: a .safetensors file, its index, a folder, or "org/name" on the hub; None: the variant's usual repository.
      classes: a new head with so many classes, initialised from `seed`; None keeps the published head.
      image_size: side of the images that the model is to see, in pixels; learned positions are interpolated to it.
      dtype: what the model computes in, None as it is built; parameters are kept in float32.

    Returns:
      `model, variables` (unpack it), with `.preprocessing`.

    Raises:
      RequestError: the name is unknown, the source cannot be read, or the file does not fit; then every missing,
        unknown and misshapen tensor is named.
    """
    name = model if isinstance(model, str) and model != "auto" else ""
    if name:
        family, variant = find_variant(name)
        source = variant.hub if source is None else source
    require(source is not None, "source: expected a .safetensors file, a folder, or a hub repository (org/name)")
    path = files.locate(os.fspath(source))
    if name:
        built = variant.build()
    elif isinstance(model, nn.Module):
        family, built = family_of(model), model
    else:
        config = files.beside(path, "config.json") if model == "auto" else model
        require(config is not None, f"{path}: no config.json beside it; name the model instead of 'auto'")
        family, built = from_config(config)

    tensors = files.open_checkpoint(path)
    errors = []
    for key_map in fitting(family, built, tensors):
        try:
            built, variables = _read(family, built, name, key_map, tensors, classes=classes, dtype=dtype, seed=seed)
        except RequestError as error:
            errors.append(error)
        else:
            break
    else:
        raise errors[0]

    preprocessing = family.preprocessing(built, key_map.publisher)
    published = files.beside(path, "preprocessor_config.json")
    if preprocessing is not None and published is not None:
        preprocessing = from_hf(published, preprocessing)
    if image_size is not None:
        require(preprocessing is not None, f"image_size={image_size}: {family.model.__name__} takes no images")
        preprocessing = preprocessing.resized(image_size)
        if family.resized is not None:
            built, variables = family.resized(built, variables, image_size)
    return Pretrained(built, variables, preprocessing, key_map.publisher)


def read_into(
    model: nn.Module, source: str | os.PathLike, *, channels: int | None = None, fresh: Sequence[str] = ()
) -> dict[str, Any]:
    """The variables of a model of ours from published weights, in NumPy: what a training starts from.

    The model is taken as it is; learned positions are interpolated to its `image_size`.

    Args:
      source: as for `load_pretrained`.
      channels: of the images that the model is to see; None: those of its family.
      fresh: paths of leaves ("params/head/bias") that are not to be read; the result lacks them.

    Raises:
      RequestError: no published weights are mapped for such a model, or these cannot be read or do not fit.
    """
    family = family_of(model)
    tensors = files.open_checkpoint(files.locate(os.fspath(source)))
    errors = []
    for key_map in fitting(family, model, tensors):
        published = model
        if family.resized is not None:
            shapes = _shapes_in_file(family, model, key_map, tensors)
            published = model.clone(image_size=family.adapted(model, "", key_map.publisher, shapes).image_size)
        expected = family.shapes(published, channels)
        try:
            variables = mapping.to_ours(key_map, tensors, expected, fresh=tuple(fresh), source=str(tensors.source))
        except RequestError as error:
            errors.append(error)
            continue
        if published != model:
            _, variables = family.resized(published, variables, model.image_size)
        return jax.tree.map(np.asarray, variables)
    raise RequestError(f"{errors[0]}; name what is to stay fresh in init_skip, such as 'params/head/*'")


def export_pretrained(
    model: nn.Module,
    variables: Mapping[str, Any],
    path: str | os.PathLike,
    *,
    publisher: str | None = None,
) -> pathlib.Path:
    """Writes variables of a model of ours as a safetensors file under a publisher's names; returns its path.

    What `load_pretrained` read is written back bit for bit (in float32); collections without weights are left out.
    Beside a `model.safetensors` of Hugging Face's names stands a config.json, so that
    `transformers.AutoModel…from_pretrained` takes the folder.

    Args:
      publisher: "huggingface", "timm", ...; None is the first that the family knows, Hugging Face where there is one.

    Raises:
      RequestError: this model has no mapping, this publisher has none for it, a parameter is missing or misshapen, or
        no config.json could say what the model is.
    """
    path = pathlib.Path(path)
    require(path.suffix == ".safetensors", f"{path}: weights are written to .safetensors files")
    family = family_of(model)
    key_maps = {key_map.publisher: key_map for key_map in family.key_maps(model)}
    publisher = next(iter(key_maps)) if publisher is None else publisher
    require(publisher in key_maps, f"publisher={publisher!r}: {nearest(publisher, key_maps)}")

    leaves = {name: np.asarray(x) for name, x in mapping.flatten(dict(variables)).items()}
    channels = leaves[family.input_kernel].shape[-2] if family.input_kernel in leaves else None
    expected = mapping.flatten(family.shapes(model, channels))
    leaves = {name: x for name, x in leaves.items() if name in expected}
    wrong = [
        f"{name} {list(leaves[name].shape) if name in leaves else 'missing'} (expected {list(x.shape)})"
        for name, x in expected.items()
        if name not in leaves or leaves[name].shape != x.shape
    ]
    require(not wrong, f"variables do not fit the model: {', '.join(wrong)}")
    config = None
    if publisher == "huggingface" and path.name == "model.safetensors" and family.to_config is not None:
        config = _config(family, model) | ({} if channels is None else {"num_channels": channels})
    files.write(path, mapping.to_theirs(key_maps[publisher], mapping.unflatten_leaves(leaves)))
    if config is not None:
        (path.parent / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    return path


_NOT_IN_CONFIGS = frozenset(
    ("parent", "name", "dtype", "kernel", "scan_layers", "remat", "axis_name", "zero_init", "dropout", "drop_path",
     "attention_dropout", "drop_connect", "stochastic_depth", "momentum", "expand_momentum")
)  # fmt: skip
"""Fields of which a trained model's outputs do not depend."""


def _config(family: Family, model: nn.Module) -> dict[str, Any]:
    """The config.json of a model, from which `from_config` makes one that computes the same.

    Raises:
      RequestError: there is no such config.
    """
    config = {"model_type": family.model_type, "dtype": "float32", **family.to_config(model)}
    again = family.from_config(config)
    given = {field.name: getattr(model, field.name) for field in dataclasses.fields(model)}
    lost = [
        f"{name}={value!r}"
        for name, value in given.items()
        if name not in _NOT_IN_CONFIGS and value is not None and value != getattr(again, name)
    ]
    require(
        not lost,
        f"{type(model).__name__}: no config.json of Hugging Face's says {', '.join(lost)}; name the file other than "
        "model.safetensors to write the weights alone",
    )
    return config


def from_config(config: Mapping[str, Any]) -> tuple[Family, nn.Module]:
    """The family and the model that a Hugging Face config.json describes.

    Raises:
      RequestError: its model_type is none of ours, or it asks for what the model does not do.
    """
    by_type = {family.model_type: family for family in FAMILIES}
    model_type = config.get("model_type")
    require(model_type in by_type, f"model_type={model_type!r} in the config: {nearest(str(model_type), by_type)}")
    return by_type[model_type], by_type[model_type].from_config(config)


def variants() -> dict[str, Variant]:
    """Every published size by name."""
    return {name: variant for family in FAMILIES for name, variant in family.variants.items()}


def find_variant(name: str) -> tuple[Family, Variant]:
    """The family and the variant of that name."""
    for family in FAMILIES:
        if name in family.variants:
            return family, family.variants[name]
    raise RequestError(f"model={name!r}: no published model of this name; {nearest(name, variants())}")


def family_of(model: nn.Module) -> Family:
    """The family of a model of ours."""
    for family in FAMILIES:
        if type(model) is family.model:
            return family
    known = ", ".join(family.model.__name__ for family in FAMILIES)
    raise RequestError(f"{type(model).__name__}: no published weights are mapped for it, only for {known}")


def fitting(family: Family, model: nn.Module, names: Mapping[str, Any]) -> list[KeyMap]:
    """The key maps that most names in a file fit: one, but where publishers differ in nothing but shapes."""
    leaves = mapping.flatten(family.shapes(model))

    def count(key_map: KeyMap) -> int:
        in_file = set(mapping.canonical(key_map, names).values())
        return sum(name in in_file for name in mapping.published_names(key_map, leaves))

    counts = [(count(key_map), key_map) for key_map in family.key_maps(model)]
    most = max(fits for fits, _ in counts)
    return [key_map for fits, key_map in counts if fits == most]


def _read(
    family: Family,
    model: nn.Module,
    name: str,
    key_map: KeyMap,
    tensors: files.Checkpoint,
    *,
    classes: int | None,
    dtype: DType | None,
    seed: int,
) -> tuple[nn.Module, dict[str, Any]]:
    """The model as the file has it, and its variables."""
    shapes = _shapes_in_file(family, model, key_map, tensors)
    if name:
        model = family.adapted(model, name, key_map.publisher, shapes)
        if family.head_bias in shapes:
            model = model.clone(classes=shapes[family.head_bias][0])
    if classes is not None:
        require(bool(family.head), f"classes={classes}: {family.model.__name__} has no classification head")
        model = model.clone(classes=classes)
    if dtype is not None:
        model = model.clone(dtype=dtype)
    if hasattr(model, "check"):
        model.check()
    channels = shapes[family.input_kernel][1] if family.input_kernel in shapes else None

    expected = family.shapes(model, channels)
    fresh = family.head if classes is not None else ()
    variables = mapping.to_ours(key_map, tensors, expected, fresh=fresh, source=str(tensors.source))
    leaves = mapping.flatten(variables)
    absent = [path for path in mapping.flatten(expected) if path not in leaves]
    leaves |= _initialized(family, model, channels, absent, seed)
    return model, mapping.unflatten_leaves({path: jnp.asarray(leaves[path]) for path in mapping.flatten(expected)})


def _shapes_in_file(
    family: Family, model: nn.Module, key_map: KeyMap, tensors: files.Checkpoint
) -> dict[str, tuple[int, ...]]:
    """The published shape of what fills each leaf, as far as the file holds it."""
    in_file = {new: old for old, new in mapping.canonical(key_map, tensors).items()}
    return {
        path: tensors.shape(in_file[step.theirs[0]])
        for step in mapping.plan(key_map, mapping.flatten(family.shapes(model)))
        for path in step.ours
        if step.theirs[0] in in_file
    }


def _initialized(
    family: Family, model: nn.Module, channels: int | None, paths: list[str], seed: int
) -> dict[str, jax.Array]:
    """Freshly initialised leaves at `paths`; what else `init` would make is never computed."""
    if not paths:
        return {}

    def init(key: jax.Array) -> dict[str, jax.Array]:
        inputs = {name: jnp.zeros(x.shape, x.dtype) for name, x in family.arguments(model, channels).items()}
        leaves = mapping.flatten(model.init(key, **inputs))
        return {path: leaves[path] for path in paths}

    return jax.jit(init)(jax.random.key(seed))
