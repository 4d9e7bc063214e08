"""Published YOLOS weights: transformers' `YolosForObjectDetection`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from research.models.yolos import YOLOS, yolos
from research.pretrained.config_values import number, one, whole
from research.pretrained.family import Family, Shapes, Variant, hf_activation, hf_classes, hf_name, images
from research.pretrained.fitting import FitWithin
from research.pretrained.rules import KeyMap, Rule, layers

QKV = ("query", "key", "value")


def from_config(config: Mapping[str, Any]) -> YOLOS:
    """Builds a model from a `YolosConfig` of transformers; pixels beyond the last whole patch are left out."""
    patch = one(config, "patch_size", 16)
    size = config.get("image_size") or (512, 864)
    height, width = size if isinstance(size, list | tuple) else (size, size)
    return YOLOS(
        classes=hf_classes(config),
        num_queries=whole(config, "num_detection_tokens", 100),
        image_size=(height // patch * patch, width // patch * patch),
        patch_size=patch,
        width=whole(config, "hidden_size", 768),
        depth=whole(config, "num_hidden_layers", 12),
        num_heads=whole(config, "num_attention_heads", 12),
        mlp_width=whole(config, "intermediate_size", 3072),
        positions_again=config.get("use_mid_position_embeddings", True),
        qkv_bias=config.get("qkv_bias", True),
        activation=hf_activation(config.get("hidden_act", "gelu")),
        norm_epsilon=number(config, "layer_norm_eps", 1e-12),
        dropout=number(config, "hidden_dropout_prob", 0.0),
        attention_dropout=number(config, "attention_probs_dropout_prob", 0.0),
    )


def to_config(model: YOLOS) -> dict[str, Any]:
    """The `YolosConfig` of a model."""
    size = model.image_size
    return {
        "architectures": ["YolosForObjectDetection"],
        "image_size": [size, size] if isinstance(size, int) else list(size),
        "patch_size": model.patch_size,
        "num_detection_tokens": model.num_queries,
        "hidden_size": model.width,
        "num_hidden_layers": model.depth,
        "num_attention_heads": model.num_heads,
        "intermediate_size": model.mlp_width or 4 * model.width,
        "use_mid_position_embeddings": model.positions_again,
        "qkv_bias": model.qkv_bias,
        "hidden_act": hf_name(model.activation),
        "layer_norm_eps": model.norm_epsilon,
        "hidden_dropout_prob": model.dropout,
        "attention_probs_dropout_prob": model.attention_dropout,
    }


def key_maps(model: YOLOS) -> tuple[KeyMap, ...]:
    theirs, ours = "vit.encoder.layer.{i}", "backbone/block{i}"
    names = {
        "vit.embeddings.patch_embeddings.projection": "backbone/patches",
        f"{theirs}.layernorm_before": f"{ours}/norm_attention",
        **{f"{theirs}.attention.attention.{name}": f"{ours}/attention/{name}" for name in QKV},
        f"{theirs}.attention.output.dense": f"{ours}/attention/out",
        f"{theirs}.layernorm_after": f"{ours}/norm_mlp",
        f"{theirs}.intermediate.dense": f"{ours}/up",
        f"{theirs}.output.dense": f"{ours}/down",
        "vit.layernorm": "backbone/norm",
        "class_labels_classifier.layers.{i}": "class_head/layer{i}",
        "bbox_predictor.layers.{i}": "box_head/layer{i}",
    }
    tokens = {
        "vit.embeddings.cls_token": "class_token",
        "vit.embeddings.detection_tokens": "extra_tokens",
        "vit.embeddings.position_embeddings": "positions",
        "vit.encoder.mid_position_embeddings": "positions_again",
    }
    rules = tuple(Rule(name, f"params/backbone/{path}") for name, path in tokens.items())
    return (KeyMap("huggingface", (rules, layers(names))),)


def adapted(model: YOLOS, name: str, publisher: str, shapes: Shapes, stated: YOLOS | None = None) -> YOLOS:
    """Sets the numbers of classes and of detection tokens in the file, and the image size that a config states."""
    bias, tokens = shapes.get("params/class_head/layer2/bias"), shapes.get("params/backbone/extra_tokens")
    return model.clone(
        classes=bias[0] - 1 if bias else model.classes,
        num_queries=tokens[1] if tokens else model.num_queries,
        image_size=model.image_size if stated is None else stated.image_size,
    )


FAMILY = Family(
    model=YOLOS,
    model_type="yolos",
    variants={
        "yolos_ti": Variant(lambda: yolos("ti"), "hustvl/yolos-tiny"),
        "yolos_s": Variant(lambda: yolos("s"), "hustvl/yolos-small"),
        "yolos_b": Variant(lambda: yolos("b"), "hustvl/yolos-base"),
    },
    from_config=from_config,
    to_config=to_config,
    key_maps=key_maps,
    inputs=lambda model: images(2 * model.patch_size),
    adapted=adapted,
    preprocessing=lambda model, publisher: FitWithin(multiple=model.patch_size),
    details=("norm_epsilon",),
    head=("params/class_head/{leaf*}",),
    input_kernel="params/backbone/patches/kernel",
)
