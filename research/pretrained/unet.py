"""Published U-Net weights for diffusion: diffusers' `UNet2DModel`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax

from research.errors import require
from research.models.unet import UNet, unet
from research.pretrained.config_values import number, row, side, whole
from research.pretrained.family import Family, Variant, hf_activation, hf_name, images
from research.pretrained.rules import Alias, KeyMap, embedding, kernel, layers

QKV = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "out"}

_ONLY = {  # settings that our model has with this value only
    "center_input_sample": False,
    "time_embedding_type": "positional",
    "time_embedding_dim": None,
    "mid_block_type": "UNetMidBlock2D",
    "mid_block_scale_factor": 1,
    "upsample_type": None,  # as downsample_type
    "class_embed_type": None,
    "num_train_timesteps": None,
}


def from_config(config: Mapping[str, Any]) -> UNet:
    """Builds a model from the config of a `UNet2DModel` of diffusers."""
    kind = config.get("downsample_type") or "conv"
    for key, expected in {**_ONLY, "upsample_type": kind}.items():
        given = config.get(key, expected)
        require(given == expected, f"{key}={given!r} in the config: expected {expected!r}")
    widths = row(config, "block_out_channels", (224, 448, 672, 896))
    down = _types(config, "down_block_types", "Down", len(widths))
    up = _types(config, "up_block_types", "Up", len(widths))[::-1]
    attention = tuple(name.startswith("Attn") for name in down)
    require(
        [name.replace("Up", "Down") for name in up] == down,
        f"up_block_types={config.get('up_block_types')!r} in the config: expected the mirror image of down_block_types",
    )
    # The last level is not halved, so that its blocks are the same of either kind.
    plain = {name for name in down[:-1] if not name.startswith("Attn")}
    kinds = {"block" if name.startswith("Resnet") else "conv" for name in plain}
    kinds |= {"block" if kind == "resnet" else "conv"} if any(attention[:-1]) else set()
    require(
        kind in ("conv", "resnet") and len(kinds) < 2,
        f"downsample_type={kind!r} with down_block_types={down} in the config: expected maps that are halved by one "
        "kind of layer, convolutions or residual blocks",
    )
    shift, padding = config.get("resnet_time_scale_shift", "default"), whole(config, "downsample_padding", 1)
    require(shift in ("default", "scale_shift"), f"resnet_time_scale_shift={shift!r} in the config: expected 'default'")
    require(padding in (0, 1), f"downsample_padding={padding} in the config: expected 0 or 1")
    groups, inner = whole(config, "norm_num_groups", 32), config.get("attn_norm_num_groups")
    require(inner in (None, groups), f"attn_norm_num_groups={inner!r} in the config: expected {groups}")
    classes = config.get("num_class_embeds")
    return UNet(
        image_size=side(config, "sample_size", 32) or 2 ** (len(widths) - 1),
        channels=whole(config, "out_channels", 3),
        widths=widths,
        depth=whole(config, "layers_per_block", 2),
        attention=attention,
        middle_attention=config.get("add_attention", True),
        middle_norm=shift == "default" or inner is not None,
        head_dim=config.get("attention_head_dim", 8),
        groups=groups,
        classes=classes,
        null_class=classes is None,
        conditioning="add" if shift == "default" else "scale_shift",
        resample=kinds.pop() if kinds else "conv",
        downsample_padding="symmetric" if padding else "end",
        cosine_first=config.get("flip_sin_to_cos", True),
        frequency_shift=number(config, "freq_shift", 0.0),
        activation=hf_activation(config.get("act_fn", "silu")),
        norm_epsilon=number(config, "norm_eps", 1e-5),
        dropout=number(config, "dropout", 0.0),
    )


def _types(config: Mapping[str, Any], key: str, way: str, count: int) -> list[str]:
    """The names of blocks under a key, one per level."""
    usual = [f"{way}Block2D", *[f"Attn{way}Block2D"] * (count - 1)]
    given = list(config.get(key) or (usual if way == "Down" else usual[::-1]))
    known = (f"{way}Block2D", f"Attn{way}Block2D", f"Resnet{way}sampleBlock2D")
    require(len(given) == count, f"{key}={given} in the config: expected {count}, one per width")
    for name in given:
        require(name in known, f"{key}: {name!r} in the config: expected {', '.join(known)}")
    return given


def to_config(model: UNet) -> dict[str, Any]:
    """The config of a `UNet2DModel` for a model."""
    plain = "Resnet{way}sampleBlock2D" if model.resample == "block" else "{way}Block2D"
    types = ["Attn{way}Block2D" if attends else plain for attends in model.attention]
    kind = "resnet" if model.resample == "block" else "conv"
    return {
        "sample_size": model.image_size if isinstance(model.image_size, int) else list(model.image_size),
        "in_channels": model.channels,
        "out_channels": model.channels,
        "center_input_sample": False,
        "time_embedding_type": "positional",
        "freq_shift": int(model.frequency_shift) if model.frequency_shift in (0, 1) else model.frequency_shift,
        "flip_sin_to_cos": model.cosine_first,
        "down_block_types": [name.format(way="Down") for name in types],
        "up_block_types": [name.format(way="Up") for name in reversed(types)],
        "block_out_channels": list(model.widths),
        "layers_per_block": model.depth,
        "mid_block_scale_factor": 1,
        "downsample_padding": 1 if model.downsample_padding == "symmetric" else 0,
        "downsample_type": kind,
        "upsample_type": kind,
        "dropout": model.dropout,
        "act_fn": hf_name(model.activation),
        "attention_head_dim": model.head_dim,
        "norm_num_groups": model.groups,
        "attn_norm_num_groups": model.groups if model.middle_norm else None,
        "norm_eps": model.norm_epsilon,
        "resnet_time_scale_shift": "default" if model.conditioning == "add" else "scale_shift",
        "add_attention": model.middle_attention,
        "class_embed_type": None,
        "num_class_embeds": None if model.classes is None else model.classes + model.null_class,
    }


def key_maps(model: UNet) -> tuple[KeyMap, ...]:
    """The names of diffusers; older files name the layers of attention differently."""
    last = len(model.widths) - 1
    names, attentions = {}, {"mid_block.attentions.0": "middle_attention"}
    blocks = {f"mid_block.resnets.{i}": f"middle_block{i}" for i in (0, 1)}
    for level in range(last + 1):
        for theirs, ours in ((f"down_blocks.{level}", f"down{level}"), (f"up_blocks.{last - level}", f"up{level}")):
            blocks |= {f"{theirs}.resnets.{{j}}": f"{ours}_block{{j}}"}
            attentions |= {f"{theirs}.attentions.{{j}}": f"{ours}_attention{{j}}"}
        resized = (
            (f"down_blocks.{level}.downsamplers.0", f"down{level}_half", level < last),
            (f"up_blocks.{last - level}.upsamplers.0", f"up{level}_double", level > 0),
        )
        for theirs, ours, there in resized:
            if there and model.resample == "block":
                blocks |= {theirs: ours}
            elif there:
                names |= {f"{theirs}.conv": ours}
    for theirs, ours in blocks.items():
        parts = {"norm1": "norm0", "conv1": "conv0", "time_emb_proj": "condition", "norm2": "norm1", "conv2": "conv1"}
        names |= {f"{theirs}.{a}": f"{ours}/{b}" for a, b in {**parts, "conv_shortcut": "shortcut"}.items()}
    older = []
    for theirs, ours in attentions.items():
        names |= {f"{theirs}.group_norm": f"{ours}/norm"}
        names |= {f"{theirs}.{a}": f"{ours}/attention/{b}" for a, b in QKV.items()}
        for new, old in zip(QKV, ("query", "key", "value", "proj_attn"), strict=True):
            older += [Alias(f"{theirs}.{old}.{{leaf*}}", f"{theirs}.{new}.{{leaf}}")]
    entries = (
        layers({"conv_in": "stem", "conv_norm_out": "norm", "conv_out": "head", **names}),
        kernel("time_embedding.linear_1", "time/up"),
        kernel("time_embedding.linear_2", "time/out"),
        embedding("class_embedding", "class"),
        *older,
    )
    return (KeyMap("diffusers", entries),)


def inputs(model: UNet) -> dict[str, jax.ShapeDtypeStruct]:
    """A noisy image and its time; a class as well where the model has classes."""
    height, width = (model.image_size,) * 2 if isinstance(model.image_size, int) else model.image_size
    given = images(height, width, model.channels) | {"time": jax.ShapeDtypeStruct((1,), "float32")}
    return given | ({} if model.classes is None else {"label": jax.ShapeDtypeStruct((1,), "int32")})


FAMILY = Family(
    model=UNet,
    model_type="UNet2DModel",
    type_key="_class_name",
    variants={
        "ddpm_cifar10_32": Variant(lambda: unet("ddpm32"), "google/ddpm-cifar10-32"),
        "ddpm_celebahq_256": Variant(
            lambda: unet("ddpm256"), "google/ddpm-celebahq-256", ("google/ddpm-church-256", "google/ddpm-bedroom-256")
        ),
    },
    from_config=from_config,
    to_config=to_config,
    key_maps=key_maps,
    inputs=inputs,
    layers=lambda model: len(model.widths) * (model.depth + 1),
    input_kernel="params/stem/kernel",
)
