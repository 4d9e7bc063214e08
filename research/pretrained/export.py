"""Writes our variables in a publisher's format, with the accompanying config files.

export_pretrained(model, variables, "out/model.safetensors")
"""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from flax import linen as nn

from research.errors import nearest, require
from research.pretrained import class_names as labels
from research.pretrained import files, generation_config, mapping
from research.pretrained.catalog import family_of
from research.pretrained.family import Family
from research.pretrained.fitting import FitWithin
from research.pretrained.preprocessing import Preprocessing
from research.whole_files import write_whole


def export_pretrained(
    model: nn.Module,
    variables: Mapping[str, Any],
    path: str | os.PathLike,
    *,
    publisher: str | None = None,
    preprocessing: Preprocessing | FitWithin | None = None,
    class_names: Sequence[str] | None = None,
    decoding: generation_config.Decoding | None = None,
) -> pathlib.Path:
    """Writes variables of one of our models as a safetensors file with a publisher's names; returns its path.

    Weights and running statistics read by `load_pretrained` are written back bit for bit (in float32).  PyTorch's batch
    counter, which no output depends on, is written as 0.  Other collections are left out.  A `model.safetensors` with
    Hugging Face's names gets a config.json, so that `transformers.AutoModel….from_pretrained` can load the folder, and
    so does a `diffusion_pytorch_model.safetensors` with diffusers' names.

    Args:
      publisher: "huggingface", "timm", ...; None for the first one of the family, Hugging Face if available.
      preprocessing: the image preprocessing, written to a preprocessor_config.json.
      class_names: one per class, written to the config.json; None for no names.
      decoding: the generation settings, written to a generation_config.json, which transformers' `generate` needs.

    Raises:
      RequestError: the model has no mapping, not for this publisher, a parameter is missing or has another shape, or no
        config.json can describe the model.
    """
    path = pathlib.Path(path)
    require(path.suffix == ".safetensors", f"{path}: weights are written to .safetensors files")
    family = family_of(model)
    key_maps = {key_map.publisher: key_map for key_map in family.key_maps(model)}
    publisher = next(iter(key_maps)) if publisher is None else publisher
    require(publisher in key_maps, f"publisher={publisher!r}: {nearest(publisher, key_maps)}")

    leaves = {name: np.asarray(x) for name, x in mapping.flatten(dict(variables)).items()}
    channels = family.image_channels(leaves)
    expected = mapping.flatten(family.shapes(model, channels))
    leaves = {name: x for name, x in leaves.items() if name in expected}
    wrong = [
        f"{name} {list(leaves[name].shape) if name in leaves else 'missing'} (expected {list(x.shape)})"
        for name, x in expected.items()
        if name not in leaves or leaves[name].shape != x.shape
    ]
    require(not wrong, f"variables do not fit the model: {', '.join(wrong)}")
    beside: dict[str, dict[str, Any]] = {}
    if path.name == _FOLDERS.get(publisher) and family.to_config is not None:
        config = _config(family, model, path.name, class_names)
        of_images = "in_channels" if publisher == "diffusers" else "num_channels"
        beside["config.json"] = config | ({} if channels is None else {of_images: channels})
        if preprocessing is not None:
            beside["preprocessor_config.json"] = preprocessing.to_hf()
        if decoding is not None:
            beside[generation_config.FILE] = generation_config.written(decoding)
            beside["config.json"] |= generation_config.special_tokens(decoding)
    else:
        require(
            preprocessing is None and class_names is None and decoding is None,
            f"{path.name} with {publisher}'s names: preprocessing, class_names and decoding can only be written with a "
            "model.safetensors that has Hugging Face's names",
        )
    files.write(path, mapping.to_theirs(key_maps[publisher], mapping.unflatten_leaves(leaves)))
    for name, content in beside.items():
        write_whole(path.parent / name, json.dumps(content, indent=1) + "\n")
    return path


_FOLDERS = {"huggingface": "model.safetensors", "diffusers": "diffusion_pytorch_model.safetensors"}
"""The name of the weights in a publisher's folder, which also holds a config.json."""

_NOT_IN_CONFIGS = frozenset(
    ("parent", "name", "dtype", "kernel", "scan_layers", "remat", "zero_init", "dropout", "drop_path",
     "attention_dropout", "drop_connect", "stochastic_depth", "momentum", "expand_momentum", "block_embeddings")
)  # fmt: skip
"""Fields that do not affect the outputs of a trained model."""


def _config(family: Family, model: nn.Module, weights: str, class_names: Sequence[str] | None) -> dict[str, Any]:
    """The config.json beside `weights`; `from_config` builds an equivalent model from it.

    Raises:
      RequestError: no config can describe the model.
    """
    require(bool(family.head) or class_names is None, f"class_names: {type(model).__name__} has no classes")
    names = labels.written(class_names, model.classes) if family.head else {}
    config = {family.type_key: family.model_type, "dtype": "float32", **family.to_config(model), **names}
    again = family.from_config(config)
    given = {field.name: getattr(model, field.name) for field in dataclasses.fields(model)}
    lost = [
        f"{name}={value!r}"
        for name, value in given.items()
        if name not in _NOT_IN_CONFIGS and value is not None and value != getattr(again, name)
    ]
    require(
        not lost,
        f"{type(model).__name__}: {'diffusers' if family.type_key == '_class_name' else 'Hugging Face'}'s config.json "
        f"cannot express {', '.join(lost)}; choose another file name than {weights} to write the weights alone",
    )
    return config
