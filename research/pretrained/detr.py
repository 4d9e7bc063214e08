"""Published DETR weights: transformers' `DetrForObjectDetection`, with either of its two backbones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from research.errors import nearest, require
from research.models.detr import DETR, detr
from research.pretrained import resnet
from research.pretrained.config_values import number, whole
from research.pretrained.family import Family, Shapes, Variant, hf_activation, hf_classes, hf_name, images
from research.pretrained.fitting import FitWithin
from research.pretrained.rules import KeyMap, Rule, layers

ATTENTION = {"q_proj": "query", "k_proj": "key", "v_proj": "value", "out_proj": "out"}

_BACKBONES = {"resnet50": 50, "resnet101": 101}


def from_config(config: Mapping[str, Any]) -> DETR:
    """Builds a model from a `DetrConfig` of transformers."""
    kind = config.get("position_embedding_type", "sine")
    require(kind == "sine", f"position_embedding_type={kind!r} in the config: expected 'sine'")
    width = whole(config, "d_model", 256)
    return DETR(
        classes=hf_classes(config),
        num_queries=whole(config, "num_queries", 100),
        width=width,
        depth=whole(config, "encoder_layers", 6),
        decoder_depth=whole(config, "decoder_layers", 6),
        num_heads=whole(config, "encoder_attention_heads", 8),
        decoder_num_heads=whole(config, "decoder_attention_heads", 8),
        mlp_width=whole(config, "encoder_ffn_dim", 2048),
        decoder_mlp_width=whole(config, "decoder_ffn_dim", 2048),
        activation=hf_activation(config.get("activation_function", "relu")),
        dropout=number(config, "dropout", 0.1),
        attention_dropout=number(config, "attention_dropout", 0.0),
        activation_dropout=number(config, "activation_dropout", 0.0),
        carry_norm=bool(config.get("auxiliary_loss")),
        **_backbone(config),
    )


def _backbone(config: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of the backbone: a config of transformers' ResNet, or the name of one of timm's."""
    dilated, given = config.get("dilation") or False, config.get("backbone_config")
    if isinstance(given, Mapping) and given.get("model_type", "resnet") == "resnet":
        require(not dilated, "dilation=true in the config: expected use_timm_backbone=true, since only timm's has it")
        model = resnet.from_config({"num_labels": 2, **given})
        require(model.activation == "relu", f"hidden_act={model.activation!r} in the backbone_config: expected 'relu'")
    else:
        name = given.get("backbone") if isinstance(given, Mapping) else config.get("backbone") or "resnet50"
        name = str(name).rpartition("/")[2].partition(".")[0]
        require(name in _BACKBONES, f"backbone={name!r} in the config: {nearest(name, _BACKBONES)}")
        model = detr(_BACKBONES[name], dilated=bool(dilated))
    names = ("depths", "widths", "block", "stem_width", "strides", "dilations", "bottleneck_stride")
    return {name: getattr(model, name) for name in names}


def to_config(model: DETR) -> dict[str, Any]:
    """The `DetrConfig` of a model, with transformers' own backbone."""
    return {
        "architectures": ["DetrForObjectDetection"],
        "num_queries": model.num_queries,
        "d_model": model.width,
        "encoder_layers": model.depth,
        "decoder_layers": model.decoder_depth or model.depth,
        "encoder_attention_heads": model.num_heads,
        "decoder_attention_heads": model.decoder_num_heads or model.num_heads,
        "encoder_ffn_dim": model.mlp_width or 4 * model.width,
        "decoder_ffn_dim": model.decoder_mlp_width or model.mlp_width or 4 * model.width,
        "activation_function": hf_name(model.activation),
        "dropout": model.dropout,
        "attention_dropout": model.attention_dropout,
        "activation_dropout": model.activation_dropout,
        "position_embedding_type": "sine",
        "auxiliary_loss": model.carry_norm,
        "dilation": False,
        "use_timm_backbone": False,
        "use_pretrained_backbone": False,
        "backbone": None,
        "backbone_config": {
            "model_type": "resnet",
            "depths": list(model.depths),
            "hidden_sizes": list(model.widths),
            "layer_type": model.block,
            "embedding_size": model.stem_width,
            "downsample_in_first_stage": model.strides[0] == 2,
            "downsample_in_bottleneck": model.bottleneck_stride == "1x1",
            "hidden_act": "relu",
            "out_features": [f"stage{len(model.depths)}"],
        },
    }


def key_maps(model: DETR) -> tuple[KeyMap, ...]:
    require(model.stem == "imagenet", f"stem={model.stem!r}: published DETRs have stem='imagenet'; this one does not")
    names = {
        "model.input_projection": "project",
        "class_labels_classifier": "class_head",
        "bbox_predictor.layers.{i}": "box_head/layer{i}",
        "model.decoder.layernorm": "decoder_norm",
    }
    for part in ("encoder", "decoder"):
        theirs, ours = f"model.{part}.layers.{{i}}", f"{part}_block{{i}}"
        for layer, attention, norm in (
            ("self_attn", "self_attention", "norm_self"),
            ("encoder_attn", "cross_attention", "norm_cross"),
        ):
            names |= {f"{theirs}.{layer}.{a}": f"{ours}/{attention}/{b}" for a, b in ATTENTION.items()}
            names |= {f"{theirs}.{layer}_layer_norm": f"{ours}/{norm}"}
        names |= {f"{theirs}.fc1": f"{ours}/up", f"{theirs}.fc2": f"{ours}/down"}
        names |= {f"{theirs}.final_layer_norm": f"{ours}/norm_mlp"}
    shared = (
        layers(names),
        Rule("model.query_position_embeddings.weight", "params/queries"),
    )
    theirs, options = "model.backbone.conv_encoder.model.", {"frozen": model.norm == "frozen"}
    return (
        KeyMap("huggingface", (shared, resnet.huggingface_entries(theirs, "backbone/", **options))),
        KeyMap("timm", (shared, resnet.timm_entries(len(model.depths), theirs, "backbone/", **options))),
    )


def adapted(model: DETR, name: str, publisher: str, shapes: Shapes, stated: DETR | None = None) -> DETR:
    """Sets the numbers of classes and of queries in the file."""
    bias, queries = shapes.get("params/class_head/bias"), shapes.get("params/queries")
    return model.clone(
        classes=bias[0] - 1 if bias else model.classes, num_queries=queries[0] if queries else model.num_queries
    )


FAMILY = Family(
    model=DETR,
    model_type="detr",
    variants={
        "detr_resnet50": Variant(lambda: detr(50), "facebook/detr-resnet-50"),
        "detr_resnet50_dc5": Variant(lambda: detr(50, dilated=True), "facebook/detr-resnet-50-dc5"),
        "detr_resnet101": Variant(lambda: detr(101), "facebook/detr-resnet-101"),
        "detr_resnet101_dc5": Variant(lambda: detr(101, dilated=True), "facebook/detr-resnet-101-dc5"),
    },
    from_config=from_config,
    to_config=to_config,
    key_maps=key_maps,
    inputs=lambda model: images(64),
    adapted=adapted,
    preprocessing=lambda model, publisher: FitWithin(),
    head=("params/class_head/{leaf*}",),
    input_kernel="params/backbone/stem_conv/kernel",
)
