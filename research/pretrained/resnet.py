"""Published ResNet weights: Hugging Face's `ResNetForImageClassification`, and timm's, which equal torchvision's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from research.errors import nearest, require
from research.models.resnet import SIZES, ResNet, resnet
from research.pretrained.config_values import row
from research.pretrained.family import (
    Family,
    Variant,
    average_pool,
    hf_activation,
    hf_classes,
    hf_name,
    images,
    only,
)
from research.pretrained.preprocessing import Preprocessing
from research.pretrained.rules import Alias, KeyMap, batch_norm, frozen_batch_norm, kernel

BLOCKS = {"BasicBlock": "basic", "Bottleneck": "bottleneck"}
"""{timm's name of a block: Hugging Face's and ours}."""


def from_config(config: Mapping[str, Any]) -> ResNet:
    """Builds a model from a `ResNetConfig` of transformers."""
    depths = row(config, "depths", (3, 4, 6, 3))
    block = config.get("layer_type", "bottleneck")
    require(block in BLOCKS.values(), f"layer_type={block!r} in the config: {nearest(str(block), BLOCKS.values())}")
    activation = hf_activation(config.get("hidden_act", "relu"))
    return ResNet(
        depths=depths,
        widths=row(config, "hidden_sizes", (256, 512, 1024, 2048)),
        classes=hf_classes(config),
        block=block,
        stem_width=config.get("embedding_size", 64),
        strides=(2 if config.get("downsample_in_first_stage") else 1, *(2,) * (len(depths) - 1)),
        bottleneck_stride="1x1" if config.get("downsample_in_bottleneck") else "3x3",
        activation=activation,
        inner_activation=None if activation == "relu" else "relu",  # whatever hidden_act is
    )


def to_config(model: ResNet) -> dict[str, Any]:
    """The `ResNetConfig` of a model."""
    return {
        "architectures": ["ResNetForImageClassification"],
        "depths": list(model.depths),
        "hidden_sizes": list(model.widths),
        "layer_type": model.block,
        "embedding_size": model.stem_width,
        "downsample_in_first_stage": model.strides[0] == 2,
        "downsample_in_bottleneck": model.bottleneck_stride == "1x1",
        "hidden_act": hf_name(model.activation),
    }


def from_timm(config: Mapping[str, Any]) -> ResNet:
    """Builds a model from the arguments of timm's `ResNet`."""
    known = ("layers", "channels", "stem_width", "num_classes", "block", "in_chans", "global_pool")
    only(config, *known, "drop_rate", "drop_path_rate")
    average_pool(config)
    name = config.get("block", "BasicBlock")
    require(name in tuple(BLOCKS), f"block={name!r} in the config: {nearest(str(name), BLOCKS)}")
    bottleneck = BLOCKS[name] == "bottleneck"
    depths = row(config, "layers", (2, 2, 2, 2))
    channels = row(config, "channels", (64, 128, 256, 512))
    return ResNet(
        depths=depths,
        widths=tuple(c * 4 if bottleneck else c for c in channels),
        classes=config.get("num_classes", 1000),
        block=BLOCKS[name],
        stem_width=64,  # timm's stem_width is for stems of three convolutions
        strides=(1, *(2,) * (len(depths) - 1)),
        dropout=config.get("drop_rate", 0.0),
        stochastic_depth=config.get("drop_path_rate", 0.0),
    )


def _norm(frozen: bool):
    return frozen_batch_norm if frozen else batch_norm


def huggingface_entries(theirs: str = "resnet.", ours: str = "", *, frozen: bool = False) -> tuple:
    """Key rules of the headless network, below a prefix of the published names and one of our paths.

    `frozen` is for `norm="frozen"`.
    """
    norm = _norm(frozen)
    layer = f"{theirs}encoder.stages.{{i}}.layers.{{j}}"
    block = f"{ours}stage{{i}}_block{{j}}"
    return (
        kernel(f"{theirs}embedder.embedder.convolution", f"{ours}stem_conv"),
        norm(f"{theirs}embedder.embedder.normalization", f"{ours}stem_norm"),
        kernel(f"{layer}.layer.{{k}}.convolution", f"{block}/conv{{k}}"),
        norm(f"{layer}.layer.{{k}}.normalization", f"{block}/norm{{k}}"),
        kernel(f"{layer}.shortcut.convolution", f"{block}/shortcut_conv"),
        norm(f"{layer}.shortcut.normalization", f"{block}/shortcut_norm"),
    )


def timm_entries(stages: int, theirs: str = "", ours: str = "", *, frozen: bool = False) -> tuple:
    """The same for timm and torchvision, which count from 1."""
    norm = _norm(frozen)
    entries: list = [
        kernel(f"{theirs}conv1", f"{ours}stem_conv"),
        norm(f"{theirs}bn1", f"{ours}stem_norm"),
    ]
    for i in range(stages):
        layer, block = f"{theirs}layer{i + 1}.{{j}}", f"{ours}stage{i}_block{{j}}"
        for k in range(3):
            entries += [
                kernel(f"{layer}.conv{k + 1}", f"{block}/conv{k}"),
                norm(f"{layer}.bn{k + 1}", f"{block}/norm{k}"),
            ]
        entries += [
            kernel(f"{layer}.downsample.0", f"{block}/shortcut_conv"),
            norm(f"{layer}.downsample.1", f"{block}/shortcut_norm"),
        ]
    return tuple(entries)


def key_maps(model: ResNet) -> tuple[KeyMap, ...]:
    require(
        model.stem == "imagenet" and not model.preactivation,
        "published ResNets have stem='imagenet' and preactivation=False; this one does not",
    )
    frozen = model.norm == "frozen"
    return (
        KeyMap(
            "huggingface",
            (
                huggingface_entries(frozen=frozen),
                kernel("classifier.1", "head"),
                Alias("embedder.{rest*}", "resnet.embedder.{rest}"),  # files of the headless model
                Alias("encoder.{rest*}", "resnet.encoder.{rest}"),
            ),
        ),
        KeyMap("timm", (timm_entries(len(model.depths), frozen=frozen), kernel("fc", "head"))),
    )


def preprocessing(model: ResNet, publisher: str) -> Preprocessing:
    """Hugging Face's preprocessing, or that of torchvision's first weights.

    timm's and torchvision's newer weights share the names of the first ones but were trained for other crops; timm's
    are given in a config.json.
    """
    return Preprocessing(interpolation="bicubic" if publisher == "huggingface" else "bilinear")


FAMILY = Family(
    model=ResNet,
    model_type="resnet",
    variants={
        f"resnet{layers}": Variant(lambda layers=layers: resnet(layers), f"microsoft/resnet-{layers}")
        for layers in SIZES
    },
    from_config=from_config,
    to_config=to_config,
    from_timm=from_timm,
    architectures={
        f"resnet{layers}": {"layers": depths, "block": {ours: name for name, ours in BLOCKS.items()}[block]}
        for layers, (depths, block, _) in SIZES.items()
    },
    details=("bottleneck_stride",),
    key_maps=key_maps,
    inputs=lambda model: images(64),
    head=("params/head/{leaf*}",),
    head_bias="params/head/bias",
    input_kernel="params/stem_conv/kernel",
    preprocessing=preprocessing,
)
