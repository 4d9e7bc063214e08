"""Published ConvNeXts: Hugging Face's `ConvNextForImageClassification`, timm's and torchvision's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from research.models.convnext import SIZES, ConvNeXt, convnext
from research.pretrained.family import (
    Family,
    Shapes,
    Variant,
    hf_activation,
    hf_classes,
    hf_labels,
    hf_name,
    images,
    only,
)
from research.pretrained.mapping import KERNEL, Alias, KeyMap, Rule, drop_ones, kernel, norm
from research.pretrained.preprocessing import Preprocessing


def from_config(config: Mapping[str, Any]) -> ConvNeXt:
    """A `ConvNextConfig` of transformers."""
    depths = tuple(config.get("depths") or (3, 3, 9, 3))
    return ConvNeXt(
        depths=depths,
        strides=(1, *(2,) * (len(depths) - 1)),
        widths=tuple(config.get("hidden_sizes") or (96, 192, 384, 768)),
        classes=hf_classes(config),
        patch_size=config.get("patch_size", 4),
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
        **hf_labels(model.classes),
    }


def from_timm(config: Mapping[str, Any]) -> ConvNeXt:
    """The arguments of timm's `ConvNeXt`."""
    known = ("depths", "dims", "num_classes", "in_chans", "patch_size", "kernel_sizes", "ls_init_value", "conv_mlp")
    only(config, *known, "drop_rate", "drop_path_rate", "norm_eps")
    depths, patch_size = tuple(config.get("depths", (3, 3, 9, 3))), config.get("patch_size", 4)
    return ConvNeXt(
        depths=depths,
        strides=(2 if patch_size == 2 else 1, *(2,) * (len(depths) - 1)),
        widths=tuple(config.get("dims", (96, 192, 384, 768))),
        classes=config.get("num_classes", 1000),
        patch_size=patch_size,
        kernel_size=config.get("kernel_sizes", 7),
        layer_scale=config.get("ls_init_value", 1e-6),
        drop_path=config.get("drop_path_rate", 0.0),
        dropout=config.get("drop_rate", 0.0),
        epsilon=config.get("norm_eps") or 1e-6,
    )


def huggingface() -> KeyMap:
    layer, block = "convnext.encoder.stages.{i}.layers.{j}", "stage{i}_block{j}"
    return KeyMap(
        "huggingface",
        (
            kernel("convnext.embeddings.patch_embeddings", "stem_conv"),
            norm("convnext.embeddings.layernorm", "stem_norm"),
            norm("convnext.encoder.stages.{i}.downsampling_layer.0", "stage{i}_norm"),
            kernel("convnext.encoder.stages.{i}.downsampling_layer.1", "stage{i}_conv"),
            kernel(f"{layer}.dwconv", f"{block}/depthwise_conv"),
            norm(f"{layer}.layernorm", f"{block}/norm"),
            kernel(f"{layer}.pwconv1", f"{block}/up"),
            kernel(f"{layer}.pwconv2", f"{block}/down"),
            Rule(f"{layer}.layer_scale_parameter", f"params/{block}/layer_scale"),
            norm("convnext.layernorm", "norm"),
            kernel("classifier", "head"),
            Alias("embeddings.{rest*}", "convnext.embeddings.{rest}"),  # files of the model without a head
            Alias("encoder.{rest*}", "convnext.encoder.{rest}"),
            Alias("layernorm.{rest*}", "convnext.layernorm.{rest}"),
        ),
    )


def timm(*, convolutional: bool) -> KeyMap:
    """The MLPs of timm's smallest models (atto to nano) are kept as 1×1 convolutions."""
    dense = drop_ones((2, 3)).then(KERNEL) if convolutional else KERNEL
    layer, block = "stages.{i}.blocks.{j}", "stage{i}_block{j}"
    return KeyMap(
        "timm_convolutional" if convolutional else "timm",
        (
            kernel("stem.0", "stem_conv"),
            norm("stem.1", "stem_norm"),
            norm("stages.{i}.downsample.0", "stage{i}_norm"),
            kernel("stages.{i}.downsample.1", "stage{i}_conv"),
            kernel(f"{layer}.conv_dw", f"{block}/depthwise_conv"),
            norm(f"{layer}.norm", f"{block}/norm"),
            kernel(f"{layer}.mlp.fc1", f"{block}/up", dense),
            kernel(f"{layer}.mlp.fc2", f"{block}/down", dense),
            Rule(f"{layer}.gamma", f"params/{block}/layer_scale"),
            norm("head.norm", "norm"),
            kernel("head.fc", "head"),
        ),
    )


def torchvision(model: ConvNeXt) -> KeyMap:
    entries: list = [
        kernel("features.0.0", "stem_conv"),
        norm("features.0.1", "stem_norm"),
        norm("classifier.0", "norm"),
        kernel("classifier.2", "head"),
    ]
    for i in range(len(model.depths)):
        layer, block = f"features.{2 * i + 1}.{{j}}", f"stage{i}_block{{j}}"
        entries += [
            norm(f"features.{2 * i}.0", f"stage{i}_norm"),
            kernel(f"features.{2 * i}.1", f"stage{i}_conv"),
            kernel(f"{layer}.block.0", f"{block}/depthwise_conv"),
            norm(f"{layer}.block.2", f"{block}/norm"),
            kernel(f"{layer}.block.3", f"{block}/up"),
            kernel(f"{layer}.block.5", f"{block}/down"),
            Rule(f"{layer}.layer_scale", f"params/{block}/layer_scale", drop_ones((1, 2))),
        ]
    return KeyMap("torchvision", tuple(entries))


def key_maps(model: ConvNeXt) -> tuple[KeyMap, ...]:
    return huggingface(), timm(convolutional=False), timm(convolutional=True), torchvision(model)


def adapted(model: ConvNeXt, name: str, publisher: str, shapes: Shapes) -> ConvNeXt:
    return model.clone(head_epsilon=1e-12) if publisher == "huggingface" else model


FAMILY = Family(
    model=ConvNeXt,
    model_type="convnext",
    variants={
        f"convnext_{size}": Variant(lambda size=size: convnext(size), f"facebook/convnext-{size}-224") for size in SIZES
    },
    from_config=from_config,
    to_config=to_config,
    key_maps=key_maps,
    inputs=lambda model: images(8 * 2 ** len(model.depths)),
    adapted=adapted,
    head=("params/head/{leaf*}",),
    head_bias="params/head/bias",
    input_kernel="params/stem_conv/kernel",
    preprocessing=lambda model, publisher: Preprocessing(),
)
