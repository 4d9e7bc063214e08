"""Published ConvNeXt weights: Hugging Face's `ConvNextForImageClassification`, timm's and torchvision's."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from research.errors import require
from research.models.convnext import SIZES, ConvNeXt, convnext
from research.pretrained.config_values import one, row
from research.pretrained.family import (
    Family,
    Shapes,
    Variant,
    average_pool,
    hf_activation,
    hf_classes,
    hf_name,
    images,
    only,
)
from research.pretrained.preprocessing import Preprocessing
from research.pretrained.rules import KERNEL, Alias, KeyMap, Rule, drop_ones, layers


def from_config(config: Mapping[str, Any]) -> ConvNeXt:
    """Builds a model from a `ConvNextConfig` of transformers."""
    depths = row(config, "depths", (3, 3, 9, 3))
    return ConvNeXt(
        depths=depths,
        strides=(1, *(2,) * (len(depths) - 1)),
        widths=row(config, "hidden_sizes", (96, 192, 384, 768)),
        classes=hf_classes(config),
        patch_size=one(config, "patch_size", 4),
        activation=hf_activation(config.get("hidden_act", "gelu")),
        layer_scale=config.get("layer_scale_init_value", 1e-6) or None,
        drop_path=config.get("drop_path_rate", 0.0),
        head_epsilon=config.get("layer_norm_eps", 1e-12),
    )


def to_config(model: ConvNeXt) -> dict[str, Any]:
    """The `ConvNextConfig` of a model."""
    return {
        "architectures": ["ConvNextForImageClassification"],
        "num_stages": len(model.depths),
        "depths": list(model.depths),
        "hidden_sizes": list(model.widths),
        "patch_size": model.patch_size,
        "hidden_act": hf_name(model.activation),
        "layer_scale_init_value": model.layer_scale or 0.0,
        "drop_path_rate": model.drop_path,
        "layer_norm_eps": model.epsilon if model.head_epsilon is None else model.head_epsilon,
    }


def from_timm(config: Mapping[str, Any]) -> ConvNeXt:
    """Builds a model from the arguments of timm's `ConvNeXt`."""
    known = ("depths", "dims", "num_classes", "in_chans", "patch_size", "kernel_sizes", "ls_init_value", "conv_mlp")
    only(config, *known, "global_pool", "drop_rate", "drop_path_rate", "norm_eps")
    average_pool(config)
    depths, patch_size = row(config, "depths", (3, 3, 9, 3)), one(config, "patch_size", 4)
    strides = (2 if patch_size == 2 else 1, *(2,) * (len(depths) - 1))
    require(
        patch_size in (2, 4) and patch_size * math.prod(strides) <= 32,  # timm uses dilation beyond that
        f"patch_size={patch_size!r} with {len(depths)} stages in the config: expected 4 (or 2), and at most 4 stages",
    )
    return ConvNeXt(
        depths=depths,
        strides=strides,
        widths=row(config, "dims", (96, 192, 384, 768)),
        classes=config.get("num_classes", 1000),
        patch_size=patch_size,
        kernel_size=one(config, "kernel_sizes", 7),
        layer_scale=config.get("ls_init_value", 1e-6),
        drop_path=config.get("drop_path_rate", 0.0),
        dropout=config.get("drop_rate", 0.0),
        epsilon=config.get("norm_eps") or 1e-6,
    )


BLOCK = "stage{i}_block{j}"


def huggingface() -> KeyMap:
    layer = "convnext.encoder.stages.{i}.layers.{j}"
    return KeyMap(
        "huggingface",
        (
            layers(
                {
                    "convnext.embeddings.patch_embeddings": "stem_conv",
                    "convnext.embeddings.layernorm": "stem_norm",
                    "convnext.encoder.stages.{i}.downsampling_layer.0": "stage{i}_norm",
                    "convnext.encoder.stages.{i}.downsampling_layer.1": "stage{i}_conv",
                    f"{layer}.dwconv": f"{BLOCK}/depthwise_conv",
                    f"{layer}.layernorm": f"{BLOCK}/norm",
                    f"{layer}.pwconv1": f"{BLOCK}/up",
                    f"{layer}.pwconv2": f"{BLOCK}/down",
                    "convnext.layernorm": "norm",
                    "classifier": "head",
                }
            ),
            Rule(f"{layer}.layer_scale_parameter", f"params/{BLOCK}/layer_scale"),
            Alias("embeddings.{rest*}", "convnext.embeddings.{rest}"),  # files of the headless model
            Alias("encoder.{rest*}", "convnext.encoder.{rest}"),
            Alias("layernorm.{rest*}", "convnext.layernorm.{rest}"),
        ),
    )


def timm(*, convolutional: bool) -> KeyMap:
    """timm's names; the MLPs of its smallest models (atto to nano) are stored as 1×1 convolutions."""
    dense = drop_ones((2, 3)).then(KERNEL) if convolutional else KERNEL
    layer = "stages.{i}.blocks.{j}"
    names = {
        "stem.0": "stem_conv",
        "stem.1": "stem_norm",
        "stages.{i}.downsample.0": "stage{i}_norm",
        "stages.{i}.downsample.1": "stage{i}_conv",
        f"{layer}.conv_dw": f"{BLOCK}/depthwise_conv",
        f"{layer}.norm": f"{BLOCK}/norm",
        "head.norm": "norm",
        "head.fc": "head",
    }
    mlp = {f"{layer}.mlp.fc1": f"{BLOCK}/up", f"{layer}.mlp.fc2": f"{BLOCK}/down"}
    scale = Rule(f"{layer}.gamma", f"params/{BLOCK}/layer_scale")
    return KeyMap("timm_convolutional" if convolutional else "timm", (layers(names), layers(mlp, dense), scale))


def torchvision(model: ConvNeXt) -> KeyMap:
    names = {"features.0.0": "stem_conv", "features.0.1": "stem_norm", "classifier.0": "norm", "classifier.2": "head"}
    scales = []
    for i in range(len(model.depths)):
        if i > 0:
            names |= {f"features.{2 * i}.0": f"stage{i}_norm", f"features.{2 * i}.1": f"stage{i}_conv"}
        layer, block = f"features.{2 * i + 1}.{{j}}", f"stage{i}_block{{j}}"
        names |= {
            f"{layer}.block.0": f"{block}/depthwise_conv",
            f"{layer}.block.2": f"{block}/norm",
            f"{layer}.block.3": f"{block}/up",
            f"{layer}.block.5": f"{block}/down",
        }
        scales.append(Rule(f"{layer}.layer_scale", f"params/{block}/layer_scale", drop_ones((1, 2))))
    return KeyMap("torchvision", (layers(names), *scales))


def key_maps(model: ConvNeXt) -> tuple[KeyMap, ...]:
    return huggingface(), timm(convolutional=False), timm(convolutional=True), torchvision(model)


def adapted(model: ConvNeXt, name: str, publisher: str, shapes: Shapes, stated: ConvNeXt | None = None) -> ConvNeXt:
    """Sets the publisher's epsilons; torchvision's and timm's are the paper's throughout."""
    return model.clone(epsilon=1e-6, head_epsilon=1e-12 if publisher == "huggingface" else None)


def preprocessing(model: ConvNeXt, publisher: str) -> Preprocessing:
    """The authors' 224 of 256 pixels; torchvision's resize is bilinear, to the best size for each variant."""
    if publisher != "torchvision":
        return Preprocessing()
    resized = {SIZES["tiny"][:2]: 236, SIZES["small"][:2]: 230}.get((model.depths, model.widths), 232)
    return Preprocessing(crop=224 / resized, interpolation="bilinear")


_ONLY_TIMM = {  # the MLPs of the smallest ones are 1×1 convolutions
    "atto": {"depths": (2, 2, 6, 2), "dims": (40, 80, 160, 320), "conv_mlp": True},
    "femto": {"depths": (2, 2, 6, 2), "dims": (48, 96, 192, 384), "conv_mlp": True},
    "pico": {"depths": (2, 2, 6, 2), "dims": (64, 128, 256, 512), "conv_mlp": True},
    "nano": {"depths": (2, 2, 8, 2), "dims": (80, 160, 320, 640), "conv_mlp": True},
    "xlarge": {"depths": (3, 3, 27, 3), "dims": (256, 512, 1024, 2048)},
}

FAMILY = Family(
    model=ConvNeXt,
    model_type="convnext",
    variants={
        f"convnext_{size}": Variant(lambda size=size: convnext(size), f"facebook/convnext-{size}-224") for size in SIZES
    },
    from_config=from_config,
    to_config=to_config,
    from_timm=from_timm,
    architectures={
        f"convnext_{size}": arguments
        for size, arguments in (
            {size: {"depths": depths, "dims": widths} for size, (depths, widths, _) in SIZES.items()} | _ONLY_TIMM
        ).items()
    },
    key_maps=key_maps,
    inputs=lambda model: images(8 * 2 ** len(model.depths)),
    adapted=adapted,
    details=("epsilon", "head_epsilon"),
    head=("params/head/{leaf*}",),
    head_bias="params/head/bias",
    input_kernel="params/stem_conv/kernel",
    preprocessing=preprocessing,
)
