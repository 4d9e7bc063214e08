"""Published YOLOX weights, by the names of the authors' own code (yolox 0.3.0)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from research.errors import require
from research.models.yolox import SIZES, YOLOX, yolox
from research.pretrained.config_values import number, whole
from research.pretrained.family import Family, Variant, hf_activation, hf_name, images
from research.pretrained.fitting import FitWithin
from research.pretrained.rules import Alias, Entry, KeyMap, batch_norm, kernel


def from_config(config: Mapping[str, Any]) -> YOLOX:
    """Builds a model from the arguments of the authors' `Exp`: num_classes, depth, width, depthwise and act."""
    return YOLOX(
        classes=whole(config, "num_classes", 80),
        depth=number(config, "depth", 1.0),
        width=number(config, "width", 1.0),
        depthwise=config.get("depthwise", False),
        activation=hf_activation(config.get("act", "silu")),
    )


def to_config(model: YOLOX) -> dict[str, Any]:
    """The arguments of the authors' `Exp` for a model."""
    return {
        "num_classes": model.classes,
        "depth": model.depth,
        "width": model.width,
        "depthwise": model.depthwise,
        "act": hf_name(model.activation),
    }


def key_maps(model: YOLOX) -> tuple[KeyMap, ...]:
    require(model.levels == (3, 4, 5), f"levels={model.levels}: published YOLOXs have levels=(3, 4, 5)")
    units, wide = {"backbone.backbone.stem.conv": "stem"}, {}  # of any kernel size 1 and of 3
    stages = {f"backbone.backbone.dark{level}.1": f"dark{level}" for level in (2, 3, 4)}
    stages |= {"backbone.backbone.dark5.2": "dark5"}
    stages |= {"backbone.C3_p4": "top_down4", "backbone.C3_p3": "top_down3"}
    stages |= {"backbone.C3_n3": "bottom_up4", "backbone.C3_n4": "bottom_up5"}
    for theirs, ours in stages.items():
        units |= {f"{theirs}.{a}": f"{ours}/{b}" for a, b in (("conv1", "through"), ("conv2", "around"))}
        units |= {f"{theirs}.conv3": f"{ours}/join", f"{theirs}.m.{{j}}.conv1": f"{ours}/block{{j}}_reduce"}
        wide |= {f"{theirs}.m.{{j}}.conv2": f"{ours}/block{{j}}_conv"}
    wide |= {f"backbone.backbone.dark{level}.0": f"dark{level}_half" for level in (2, 3, 4, 5)}
    wide |= {"backbone.bu_conv2": "half4", "backbone.bu_conv1": "half5"}
    units |= {"backbone.backbone.dark5.1.conv1": "pool_reduce", "backbone.backbone.dark5.1.conv2": "pool_join"}
    units |= {"backbone.lateral_conv0": "lateral5", "backbone.reduce_conv1": "lateral4"}
    units |= {"head.stems.{i}": "head{i}_stem"}
    for j in (0, 1):
        wide |= {f"head.cls_convs.{{i}}.{j}": f"head{{i}}_class{j}", f"head.reg_convs.{{i}}.{j}": f"head{{i}}_box{j}"}
    if model.depthwise:
        units |= {f"{theirs}.dconv": f"{ours}/depthwise" for theirs, ours in wide.items()}
        units |= {f"{theirs}.pconv": f"{ours}/pointwise" for theirs, ours in wide.items()}
    else:
        units |= wide
    entries: list[Any] = [_unit(theirs, ours) for theirs, ours in units.items()]
    heads = {"cls_preds": "logits", "reg_preds": "offsets", "obj_preds": "objectness"}
    entries += [kernel(f"head.{a}.{{i}}", f"head{{i}}_{b}") for a, b in heads.items()]
    return (KeyMap("yolox", (*entries, Alias("model.{rest*}", "{rest}"))),)  # the authors' files nest the weights


def _unit(theirs: str, ours: str) -> tuple[Entry, ...]:
    return (*kernel(f"{theirs}.conv", f"{ours}/conv"), *batch_norm(f"{theirs}.bn", f"{ours}/norm"))


def preprocessing(model: YOLOX, publisher: str) -> FitWithin:
    """The authors' own: a letterbox of 640 pixels (416 for nano and tiny), in BGR, not normalised."""
    side = 416 if model.width < 0.5 else 640
    return FitWithin(letterbox=(side, side), mean=(0.0,) * 3, std=(1.0,) * 3, scale=1.0, reverse=True)


FAMILY = Family(
    model=YOLOX,
    model_type="yolox",
    variants={f"yolox_{size}": Variant(lambda size=size: yolox(size)) for size in SIZES},
    from_config=from_config,
    to_config=to_config,
    key_maps=key_maps,
    inputs=lambda model: images(64),
    head=("params/head{i}_logits/{leaf*}",),
    head_bias="params/head0_logits/bias",
    input_kernel="params/stem/conv/kernel",
    input_pixels=4,
    preprocessing=preprocessing,
    layers=lambda model: 20 * max(model.depth, 1),
)
