"""Published EfficientNet weights: Hugging Face's (from Keras), timm's (its own and TensorFlow's) and torchvision's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from research.errors import nearest, require
from research.models.efficientnet import SIZES, EfficientNet, Stage, efficientnet
from research.pretrained.config_values import number, one, row
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
from research.pretrained.rules import KERNEL, Alias, KeyMap, batch_norm, drop_ones, kernel

POINTWISE = drop_ones((2, 3)).then(KERNEL)


def from_config(config: Mapping[str, Any]) -> EfficientNet:
    """Builds a model from an `EfficientNetConfig` of transformers."""
    read = {
        "kernel_sizes": (3, 3, 5, 3, 5, 5, 3),
        "out_channels": (16, 24, 40, 80, 112, 192, 320),
        "strides": (1, 2, 2, 2, 1, 2, 1),
        "num_block_repeats": (1, 2, 2, 3, 3, 4, 1),
        "expand_ratios": (1, 6, 6, 6, 6, 6, 6),
    }
    lists = {key: row(config, key, default) for key, default in read.items()}
    lengths = ", ".join(f"{key} {len(numbers)}" for key, numbers in lists.items())
    require(len({*map(len, lists.values())}) == 1, f"lists in the config of different lengths: {lengths}")
    kernels, channels, strides, repeats, expansions = lists.values()
    rows = zip(channels, repeats, kernels, strides, expansions, strict=True)
    pooling = {"mean": "average", "max": "max"}
    pool = config.get("pooling_type", "mean")
    require(pool in tuple(pooling), f"pooling_type={pool!r} in the config: {nearest(str(pool), pooling)}")
    return EfficientNet(
        width=config.get("width_coefficient", 2.0),
        depth=config.get("depth_coefficient", 3.1),
        classes=hf_classes(config),
        image_size=one(config, "image_size", 600),
        stages=tuple(Stage(*row) for row in rows),
        divisor=config.get("depth_divisor", 8),
        squeeze=config.get("squeeze_expansion_ratio", 0.25),
        padding="shifted",
        symmetric_blocks=row(config, "depthwise_padding", ()),
        first_shortcut=False,
        activation=hf_activation(config.get("hidden_act", "swish")),
        drop_connect=config.get("drop_connect_rate", 0.2),
        dropout=config.get("dropout_rate", 0.5),
        pool=pooling[pool],
        # transformers passes TensorFlow's momentum to PyTorch, whose definition is one minus it, and leaves PyTorch's
        # default in the norms after expansions.
        momentum=round(1 - number(config, "batch_norm_momentum", 0.99), 12),
        expand_momentum=0.9,
        epsilon=config.get("batch_norm_eps", 1e-3),
    )


def to_config(model: EfficientNet) -> dict[str, Any]:
    """The `EfficientNetConfig` of a model."""
    return {
        "architectures": ["EfficientNetForImageClassification"],
        "width_coefficient": model.width,
        "depth_coefficient": model.depth,
        "image_size": model.image_size,
        "kernel_sizes": [stage.kernel_size for stage in model.stages],
        "in_channels": [model.stem_channels, *(stage.channels for stage in model.stages[:-1])],
        "out_channels": [stage.channels for stage in model.stages],
        "strides": [stage.stride for stage in model.stages],
        "num_block_repeats": [stage.repeats for stage in model.stages],
        "expand_ratios": [stage.expansion for stage in model.stages],
        "hidden_dim": model.channels(model.head_channels),
        "depth_divisor": model.divisor,
        "squeeze_expansion_ratio": model.squeeze,
        "depthwise_padding": list(model.symmetric_blocks),
        "hidden_act": hf_name(model.activation),
        "drop_connect_rate": model.drop_connect,
        "dropout_rate": model.dropout,
        "pooling_type": {"average": "mean", "max": "max"}[model.pool],
        "batch_norm_momentum": round(1 - model.momentum, 12),
        "batch_norm_eps": model.epsilon,
    }


def from_timm(config: Mapping[str, Any]) -> EfficientNet:
    """Builds a model from the arguments of timm's `_gen_efficientnet`: multipliers of B0, padding, batch norm."""
    known = ("channel_multiplier", "depth_multiplier", "num_classes", "variant", "bn_eps", "pad_type", "in_chans")
    only(config, *known, "global_pool", "drop_rate", "drop_path_rate")
    average_pool(config)
    variant, paddings = config.get("variant", "efficientnet_b0"), {"": "symmetric", "same": "same"}
    lite = isinstance(variant, str) and "lite" in variant
    require(not lite, f"variant={variant!r} in the config: lite networks are not built here; expected efficientnet_…")
    padding = config.get("pad_type", "")
    require(padding in tuple(paddings), f"pad_type={padding!r} in the config: expected '' or 'same'")
    return EfficientNet(
        width=config.get("channel_multiplier", 1.0),
        depth=config.get("depth_multiplier", 1.0),
        classes=config.get("num_classes", 1000),
        padding=paddings[padding],
        epsilon=config.get("bn_eps", 1e-5),
        momentum=0.9,
        dropout=config.get("drop_rate", 0.0),
        drop_connect=config.get("drop_path_rate", 0.0),
    )


def huggingface(model: EfficientNet) -> KeyMap:
    entries: list = [
        kernel("efficientnet.embeddings.convolution", "stem_conv"),
        batch_norm("efficientnet.embeddings.batchnorm", "stem_norm"),
        kernel("efficientnet.encoder.top_conv", "head_conv"),
        batch_norm("efficientnet.encoder.top_bn", "head_norm"),
        kernel("classifier", "head"),
    ]
    for k, (i, j, _) in enumerate(model.blocks()):
        theirs, ours = f"efficientnet.encoder.blocks.{k}", f"stage{i}_block{j}"
        entries += [
            kernel(f"{theirs}.expansion.expand_conv", f"{ours}/expand_conv"),
            batch_norm(f"{theirs}.expansion.expand_bn", f"{ours}/expand_norm"),
            kernel(f"{theirs}.depthwise_conv.depthwise_conv", f"{ours}/depthwise_conv"),
            batch_norm(f"{theirs}.depthwise_conv.depthwise_norm", f"{ours}/depthwise_norm"),
            kernel(f"{theirs}.squeeze_excite.reduce", f"{ours}/squeeze_down", POINTWISE),
            kernel(f"{theirs}.squeeze_excite.expand", f"{ours}/squeeze_up", POINTWISE),
            kernel(f"{theirs}.projection.project_conv", f"{ours}/project_conv"),
            batch_norm(f"{theirs}.projection.project_bn", f"{ours}/project_norm"),
        ]
    entries += [  # files of the headless model
        Alias("embeddings.{rest*}", "efficientnet.embeddings.{rest}"),
        Alias("encoder.{rest*}", "efficientnet.encoder.{rest}"),
    ]
    return KeyMap("huggingface", tuple(entries))


def timm(model: EfficientNet) -> KeyMap:
    entries: list = [
        kernel("conv_stem", "stem_conv"),
        batch_norm("bn1", "stem_norm"),
        kernel("conv_head", "head_conv"),
        batch_norm("bn2", "head_norm"),
        kernel("classifier", "head"),
    ]
    for i, j, shape in model.blocks():
        theirs, ours = f"blocks.{i}.{j}", f"stage{i}_block{j}"
        layers = ("expand", "conv_pw"), ("depthwise", "conv_dw"), ("project", "conv_pwl")
        if shape.expansion == 1:
            layers = ("depthwise", "conv_dw"), ("project", "conv_pw")
        for k, (layer, name) in enumerate(layers, start=1):
            entries += [
                kernel(f"{theirs}.{name}", f"{ours}/{layer}_conv"),
                batch_norm(f"{theirs}.bn{k}", f"{ours}/{layer}_norm"),
            ]
        entries += [
            kernel(f"{theirs}.se.conv_reduce", f"{ours}/squeeze_down", POINTWISE),
            kernel(f"{theirs}.se.conv_expand", f"{ours}/squeeze_up", POINTWISE),
        ]
    return KeyMap("timm", tuple(entries))


def torchvision(model: EfficientNet) -> KeyMap:
    last = len(model.stages) + 1
    entries: list = [
        kernel("features.0.0", "stem_conv"),
        batch_norm("features.0.1", "stem_norm"),
        kernel(f"features.{last}.0", "head_conv"),
        batch_norm(f"features.{last}.1", "head_norm"),
        kernel("classifier.1", "head"),
    ]
    for i, j, shape in model.blocks():
        theirs, ours = f"features.{i + 1}.{j}.block", f"stage{i}_block{j}"
        layers = ("expand", "depthwise", "squeeze", "project")[shape.expansion == 1 :]
        for k, layer in enumerate(layers):
            if layer == "squeeze":
                entries += [
                    kernel(f"{theirs}.{k}.fc1", f"{ours}/squeeze_down", POINTWISE),
                    kernel(f"{theirs}.{k}.fc2", f"{ours}/squeeze_up", POINTWISE),
                ]
            else:
                entries += [
                    kernel(f"{theirs}.{k}.0", f"{ours}/{layer}_conv"),
                    batch_norm(f"{theirs}.{k}.1", f"{ours}/{layer}_norm"),
                ]
    return KeyMap("torchvision", tuple(entries))


def key_maps(model: EfficientNet) -> tuple[KeyMap, ...]:
    return huggingface(model), timm(model), torchvision(model)


KERAS = {"padding": "same", "epsilon": 1e-3, "momentum": 0.99}
"""Settings of weights trained with the authors' TensorFlow code; `adapted` has those of PyTorch's weights."""


def adapted(
    model: EfficientNet, name: str, publisher: str, shapes: Shapes, stated: EfficientNet | None = None
) -> EfficientNet:
    """Sets the padding and epsilon that this publisher's weights were trained with.

    timm's files do not distinguish the authors' weights (tf_efficientnet) from timm's own.  A model without a name
    therefore keeps its settings if they match either.  The same holds for the padding of Hugging Face's models, which
    equals "same" except for image sizes that the network was not designed for.
    """
    wide = publisher == "torchvision" and model.width > 1.5  # B5, B6 and B7
    norm = {"epsilon": 1e-3, "momentum": 0.99} if wide else {"epsilon": 1e-5, "momentum": 0.9}
    pytorch = {"padding": "symmetric", **norm}
    ways = {
        "huggingface": (KERAS, KERAS | {"padding": "shifted"}),
        "timm": (KERAS, pytorch) if name.startswith("tf_") else (pytorch, KERAS),
        "torchvision": (pytorch,),
    }[publisher]
    built = (model.padding, model.epsilon)
    if not name and built in [(way["padding"], way["epsilon"]) for way in ways]:
        return model
    return model.clone(**ways[0])


def preprocessing(model: EfficientNet, publisher: str) -> Preprocessing:
    """The authors' crop, with a margin of 16 pixels per side; Hugging Face's, without a crop; or torchvision's.

    timm's own weights (efficientnet_b0, ...) use other crops, given in the config.json of its folders.
    """
    size = model.image_size
    if publisher == "huggingface":
        return Preprocessing(size, crop=1.0, squeeze=True)
    if publisher == "torchvision":
        seen, resized = {224: (224, 256), 240: (240, 256), 260: (288, 288), 300: (300, 320), 380: (380, 384)}.get(
            size, (size, size)
        )
        return Preprocessing(seen, crop=seen / resized)
    return Preprocessing(size, crop=size / (size + 32))


FAMILY = Family(
    layers=lambda model: sum(stage.repeats for stage in model.stages) * model.depth,
    model=EfficientNet,
    model_type="efficientnet",
    variants={
        **{
            f"efficientnet_{size}": Variant(lambda size=size: efficientnet(size), f"google/efficientnet-{size}")
            for size in SIZES
        },
        **{
            f"tf_efficientnet_{size}": Variant(
                lambda size=size: efficientnet(size), f"timm/tf_efficientnet_{size}.ns_jft_in1k"
            )
            for size in SIZES
        },
    },
    from_config=from_config,
    to_config=to_config,
    from_timm=from_timm,
    architectures={
        f"{prefix}efficientnet_{size}": {"channel_multiplier": width, "depth_multiplier": depth, **changes}
        for size, (width, depth, *_) in SIZES.items()
        for prefix, changes in (("", {}), ("tf_", {"bn_eps": 1e-3, "pad_type": "same"}))
    },
    key_maps=key_maps,
    inputs=lambda model: images(64),
    adapted=adapted,
    details=("padding", "symmetric_blocks", "epsilon"),
    head=("params/head/{leaf*}",),
    head_bias="params/head/bias",
    input_kernel="params/stem_conv/kernel",
    preprocessing=preprocessing,
)
