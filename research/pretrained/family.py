"""Describes a model family with published weights, as a value in the family's own file."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Literal, get_args

import jax
from flax import linen as nn

from research.errors import nearest, require
from research.layers.activations import Activation
from research.pretrained.class_names import by_number
from research.pretrained.fitting import FitWithin
from research.pretrained.preprocessing import Preprocessing
from research.pretrained.rules import KeyMap


@dataclasses.dataclass(frozen=True)
class Variant:
    """A published size.

    Attributes:
      build: builds the model.
      hub: its usual repository on the hub, or None.
      elsewhere: its names in timm and torchvision, if they differ from ours.
    """

    build: Callable[[], nn.Module]
    hub: str | None = None
    elsewhere: tuple[str, ...] = ()


Shapes = Mapping[str, tuple[int, ...]]
"""{our path: the shape of the published tensor for it}."""


def _as_built(
    model: nn.Module, name: str, publisher: str, shapes: Shapes, stated: nn.Module | None = None
) -> nn.Module:
    return model


def _depths(model: nn.Module) -> float:
    """The sum of the fields `depth`, `depths` and `decoder_depth` that the model has."""
    given = (getattr(model, name, None) for name in ("depth", "depths", "decoder_depth"))
    return sum(sum(value) if isinstance(value, tuple) else value or 0 for value in given)


def _no_preprocessing(model: nn.Module, publisher: str) -> None:
    return None


@dataclasses.dataclass(frozen=True)
class Family:
    """A model family and its published checkpoints.

    Attributes:
      model: the Linen class.
      model_type: the `model_type` in its Hugging Face config.json, or the `_class_name` in diffusers'.
      variants: {name ("resnet50"): variant}.
      from_config: builds our model from a Hugging Face config.
      key_maps: the key maps of a model, one per publisher; loading uses the one that fits the names in the file best.
      layers: the number of layers of a model, each of which has at least one tensor.
      inputs: the abstract arguments of `model.init`, by name.
      adapted: adjusts a model to a file, since publishers differ in `details` and files in image size.  Its arguments
        are the model, the name of its variant ("" if it is none), the publisher, the shapes in the file, and the model
        described by a config.json beside it or None.  Details given in the config are set afterwards.
      details: fields that differ between publishers but do not affect tensor shapes, such as padding and epsilon.
      type_key: the key of `model_type` in its config.json.
      head: paths of the leaves that a new head replaces, sized by the model's field `classes`; empty if there is no
        head.
      head_bias: the leaf whose published shape gives the number of classes.
      input_kernel: the leaf whose published shape [out, in, ...] gives the number of image channels.
      input_pixels: the number of pixels whose channels the input kernel sees as its own: 4 if a stem folds 2×2 squares.
      preprocessing: the input preprocessing, from (model, publisher).
      from_timm: builds our model from the arguments of timm's class; None if timm has no such family.
      architectures: {timm's name ("vit_base_patch16_224"): its arguments}.
      to_config: the Hugging Face config of our model, as far as it can be expressed; None if there is no such config.
      resized: (model, variables, image size) to both for images of that size; None if any size works unchanged.
    """

    model: type[nn.Module]
    model_type: str
    variants: Mapping[str, Variant]
    from_config: Callable[[Mapping[str, Any]], nn.Module]
    key_maps: Callable[[Any], tuple[KeyMap, ...]]
    inputs: Callable[[Any], dict[str, jax.ShapeDtypeStruct]]
    type_key: Literal["model_type", "_class_name"] = "model_type"
    adapted: Callable[[Any, str, str, Shapes, Any], nn.Module] = _as_built
    layers: Callable[[Any], float] = _depths
    details: tuple[str, ...] = ()
    head: tuple[str, ...] = ()
    head_bias: str | None = None
    input_kernel: str | None = None
    input_pixels: int = 1
    preprocessing: Callable[[Any, str], Preprocessing | FitWithin | None] = _no_preprocessing
    from_timm: Callable[[Mapping[str, Any]], nn.Module] | None = None
    architectures: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    to_config: Callable[[Any], dict[str, Any]] | None = None
    resized: Callable[[Any, dict[str, Any], int], tuple[nn.Module, dict[str, Any]]] | None = None

    def arguments(self, model: nn.Module, channels: int | None = None) -> dict[str, jax.ShapeDtypeStruct]:
        """The `inputs`; the images "x" have this number of channels if given."""
        given = self.inputs(model)
        if channels is None or self.input_kernel is None:
            return given
        return given | {"x": jax.ShapeDtypeStruct((*given["x"].shape[:-1], channels), given["x"].dtype)}

    def image_channels(self, leaves: Mapping[str, Any]) -> int | None:
        """The number of channels of a model's images, from its leaves, {path: array or shape}; None without images."""
        kernel = leaves.get(self.input_kernel)
        return None if kernel is None else kernel.shape[-2] // self.input_pixels

    def shapes(self, model: nn.Module, channels: int | None = None) -> dict[str, Any]:
        """The model's abstract variables: shapes and dtypes, without memory."""
        key = jax.eval_shape(lambda: jax.random.key(0))
        init = lambda key, arguments: model.init(key, **arguments)  # noqa: E731
        return dict(jax.eval_shape(init, key, self.arguments(model, channels)))


def images(height: int, width: int | None = None, channels: int = 3) -> dict[str, jax.ShapeDtypeStruct]:
    """The abstract argument of an image model: one image [1, height, width, channels]."""
    return {"x": jax.ShapeDtypeStruct((1, height, width or height, channels), "float32")}


def hf_classes(config: Mapping[str, Any]) -> int:
    """The number of classes in a Hugging Face config, 2 if it names none."""
    return config.get("num_labels") or len(by_number(config)) or 2


_HF_ACTIVATIONS = {
    "swish": "silu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "linear": "identity",
    "hardswish": "hard_swish",
}


def hf_activation(name: str) -> Activation:
    """Our name for an activation in a Hugging Face config."""
    known = {*get_args(Activation), *_HF_ACTIVATIONS}
    there = isinstance(name, str) and name in known
    require(there, f"activation {name!r} in the config: {nearest(str(name), known)}")
    return _HF_ACTIVATIONS.get(name, name)


def hf_name(activation: Activation) -> str:
    """Hugging Face's name for one of our activations."""
    return {"gelu_tanh": "gelu_pytorch_tanh", "identity": "linear", "hard_swish": "hardswish"}.get(
        activation, activation
    )


def average_pool(config: Mapping[str, Any]) -> None:
    """Raises RequestError if a timm config asks for pooling other than its default for convolutional networks."""
    pool = config.get("global_pool", "avg")
    require(pool == "avg", f"global_pool={pool!r} in the config: expected 'avg'")


def only(config: Mapping[str, Any], *known: str) -> None:
    """Raises RequestError if a config has keys that our model does not support."""
    unknown = [f"{key}={value!r}" for key, value in config.items() if key not in known]
    require(not unknown, f"config: {', '.join(unknown)} not supported; known are {', '.join(sorted(known))}")
