"""What loading published weights has to know about one model family: a value, written in the family's own file."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, get_args

import jax
from flax import linen as nn

from research.errors import nearest, require
from research.layers.activations import Activation
from research.pretrained.class_names import by_number
from research.pretrained.preprocessing import Preprocessing
from research.pretrained.rules import KeyMap


@dataclasses.dataclass(frozen=True)
class Variant:
    """A published size.

    Attributes:
      build: makes the model.
      hub: the repository that holds it; None: there is no usual one.
      elsewhere: what timm and torchvision call it, where that is not our name.
    """

    build: Callable[[], nn.Module]
    hub: str | None = None
    elsewhere: tuple[str, ...] = ()


Shapes = Mapping[str, tuple[int, ...]]
"""{our path: the shape of the published tensor that fills it}."""


def _as_built(
    model: nn.Module, name: str, publisher: str, shapes: Shapes, stated: nn.Module | None = None
) -> nn.Module:
    return model


def _no_preprocessing(model: nn.Module, publisher: str) -> None:
    return None


@dataclasses.dataclass(frozen=True)
class Family:
    """One model family and its published checkpoints.

    Attributes:
      model: the Linen class.
      model_type: `model_type` of its Hugging Face config.json.
      variants: by name ("resnet50").
      from_config: a Hugging Face config to a model of ours.
      key_maps: a model's key maps, one per publisher; the one whose names fit a file best is used.
      inputs: abstract arguments of `model.init`, by name.
      adapted: (model, variant's name, publisher, shapes in the file, the model that a config.json beside it states or
        None) to the model as the file has it: publishers differ in `details`, files in the size of images.  The name of
        a model that is no variant is "".  Stated details are set afterwards.
      details: fields that no tensor's shape tells and in which publishers differ, such as padding and epsilon.
      head: paths of the leaves that a new head replaces; the model's field `classes` sizes them.  Empty: no such head.
      head_bias: the leaf whose published shape tells the number of classes in a file.
      input_kernel: the leaf whose published shape [out, in, ...] tells the channels of the images.
      preprocessing: (model, publisher) to what its input should look like.
      from_timm: the arguments of timm's class to a model of ours; None: timm has no such family.
      architectures: timm's names ("vit_base_patch16_224") and the arguments that each stands for.
      to_config: back from a model of ours to the config, as far as that can say it; None: there is no such config.
      resized: (model, variables, image size) to both for images of that size; None: any size will do as it is.
    """

    model: type[nn.Module]
    model_type: str
    variants: Mapping[str, Variant]
    from_config: Callable[[Mapping[str, Any]], nn.Module]
    key_maps: Callable[[Any], tuple[KeyMap, ...]]
    inputs: Callable[[Any], dict[str, jax.ShapeDtypeStruct]]
    adapted: Callable[[Any, str, str, Shapes, Any], nn.Module] = _as_built
    details: tuple[str, ...] = ()
    head: tuple[str, ...] = ()
    head_bias: str | None = None
    input_kernel: str | None = None
    preprocessing: Callable[[Any, str], Preprocessing | None] = _no_preprocessing
    from_timm: Callable[[Mapping[str, Any]], nn.Module] | None = None
    architectures: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    to_config: Callable[[Any], dict[str, Any]] | None = None
    resized: Callable[[Any, dict[str, Any], int], tuple[nn.Module, dict[str, Any]]] | None = None

    def arguments(self, model: nn.Module, channels: int | None = None) -> dict[str, jax.ShapeDtypeStruct]:
        """`inputs`, images with that many channels where it is given."""
        given = self.inputs(model)
        if channels is None or self.input_kernel is None:
            return given
        return {name: jax.ShapeDtypeStruct((*x.shape[:-1], channels), x.dtype) for name, x in given.items()}

    def shapes(self, model: nn.Module, channels: int | None = None) -> dict[str, Any]:
        """The model's variables, abstract: shapes and dtypes without memory."""
        key = jax.eval_shape(lambda: jax.random.key(0))
        init = lambda key, arguments: model.init(key, **arguments)  # noqa: E731
        return dict(jax.eval_shape(init, key, self.arguments(model, channels)))


def images(height: int, width: int | None = None, channels: int = 3) -> dict[str, jax.ShapeDtypeStruct]:
    """The abstract argument of an image model: one image [1, height, width, channels]."""
    return {"x": jax.ShapeDtypeStruct((1, height, width or height, channels), "float32")}


def hf_classes(config: Mapping[str, Any]) -> int:
    """The number of classes that a Hugging Face config names, 2 where it names none."""
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
    """Our name of an activation that a Hugging Face config names."""
    known = {*get_args(Activation), *_HF_ACTIVATIONS}
    there = isinstance(name, str) and name in known
    require(there, f"activation {name!r} in the config: {nearest(str(name), known)}")
    return _HF_ACTIVATIONS.get(name, name)


def hf_name(activation: Activation) -> str:
    """Hugging Face's name of an activation of ours."""
    return {"gelu_tanh": "gelu_pytorch_tanh", "identity": "linear", "hard_swish": "hardswish"}.get(
        activation, activation
    )


def average_pool(config: Mapping[str, Any]) -> None:
    """Refuses a config of timm's that pools otherwise than its convolutional networks do by default."""
    pool = config.get("global_pool", "avg")
    require(pool == "avg", f"global_pool={pool!r} in the config: expected 'avg'")


def only(config: Mapping[str, Any], *known: str) -> None:
    """Refuses a config that asks for what a model of ours would not do."""
    unknown = [f"{key}={value!r}" for key, value in config.items() if key not in known]
    require(not unknown, f"config: {', '.join(unknown)} not supported; known are {', '.join(sorted(known))}")
