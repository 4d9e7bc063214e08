"""Published Vision Transformer weights: Hugging Face's `ViTForImageClassification`, timm's and torchvision's."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from research.errors import require
from research.models.vit import SIZES, ViT, resized, vit
from research.pretrained.config_values import number, one, side, whole
from research.pretrained.family import (
    Family,
    Shapes,
    Variant,
    hf_activation,
    hf_classes,
    hf_name,
    images,
    only,
)
from research.pretrained.preprocessing import HALF, Preprocessing
from research.pretrained.rules import KERNEL, Alias, KeyMap, Rule, Unused, layers, split

QKV = ("query", "key", "value")


def from_config(config: Mapping[str, Any]) -> ViT:
    """Builds a model from a `ViTConfig` of transformers."""
    return ViT(
        image_size=side(config, "image_size", 224),
        patch_size=one(config, "patch_size", 16),
        width=config.get("hidden_size", 768),
        depth=config.get("num_hidden_layers", 12),
        num_heads=config.get("num_attention_heads", 12),
        mlp_width=config.get("intermediate_size", 3072),
        classes=hf_classes(config),
        qkv_bias=config.get("qkv_bias", True),
        activation=hf_activation(config.get("hidden_act", "gelu")),
        norm_epsilon=config.get("layer_norm_eps", 1e-12),
        dropout=config.get("hidden_dropout_prob", 0.0),
        attention_dropout=config.get("attention_probs_dropout_prob", 0.0),
    )


def to_config(model: ViT) -> dict[str, Any]:
    """The `ViTConfig` of a model."""
    return {
        "architectures": ["ViTForImageClassification"],
        "image_size": model.image_size if isinstance(model.image_size, int) else list(model.image_size),
        "patch_size": model.patch_size,
        "hidden_size": model.width,
        "num_hidden_layers": model.depth,
        "num_attention_heads": model.num_heads,
        "intermediate_size": model.mlp_width or 4 * model.width,
        "qkv_bias": model.qkv_bias,
        "hidden_act": hf_name(model.activation),
        "layer_norm_eps": model.norm_epsilon,
        "hidden_dropout_prob": model.dropout,
        "attention_probs_dropout_prob": model.attention_dropout,
    }


def from_timm(config: Mapping[str, Any]) -> ViT:
    """Builds a model from the arguments of timm's `VisionTransformer`."""
    known = ("img_size", "patch_size", "in_chans", "num_classes", "embed_dim", "depth", "num_heads", "mlp_ratio")
    only(
        config, *known, "qkv_bias", "class_token", "global_pool", "fc_norm", "proj_drop_rate", "attn_drop_rate",
        "drop_path_rate",
    )  # fmt: skip
    pool = config.get("global_pool", "token")
    require(pool in ("token", "avg"), f"global_pool={pool!r}: expected 'token' or 'avg'")
    fc_norm, width, ratio = config.get("fc_norm"), whole(config, "embed_dim", 768), number(config, "mlp_ratio", 4.0)
    require(0 < ratio < 1e6, f"mlp_ratio={ratio} in the config: expected a number above 0, such as 4")
    return ViT(
        image_size=side(config, "img_size", 224),
        patch_size=one(config, "patch_size", 16),
        width=width,
        depth=config.get("depth", 12),
        num_heads=config.get("num_heads", 12),
        mlp_width=int(width * ratio),
        classes=config.get("num_classes", 1000),
        class_token=config.get("class_token", True),
        pool="average" if pool == "avg" else "token",
        norm_after_pool=pool == "avg" if fc_norm is None else fc_norm,
        qkv_bias=config.get("qkv_bias", True),
        dropout=config.get("proj_drop_rate", 0.0),
        attention_dropout=config.get("attn_drop_rate", 0.0),
        drop_path=config.get("drop_path_rate", 0.0),
    )


def huggingface(block: str) -> KeyMap:
    layer = "vit.encoder.layer.{i}"
    return KeyMap(
        "huggingface",
        (
            Rule("vit.embeddings.cls_token", "params/class_token"),
            Rule("vit.embeddings.position_embeddings", "params/positions"),
            layers(
                {
                    "vit.embeddings.patch_embeddings.projection": "patches",
                    f"{layer}.layernorm_before": f"{block}/norm_attention",
                    **{f"{layer}.attention.attention.{name}": f"{block}/attention/{name}" for name in QKV},
                    f"{layer}.attention.output.dense": f"{block}/attention/out",
                    f"{layer}.layernorm_after": f"{block}/norm_mlp",
                    f"{layer}.intermediate.dense": f"{block}/up",
                    f"{layer}.output.dense": f"{block}/down",
                    "vit.layernorm": "norm",
                    "classifier": "head",
                }
            ),
            Alias("embeddings.{rest*}", "vit.embeddings.{rest}"),  # files of the headless model
            Alias("encoder.{rest*}", "vit.encoder.{rest}"),
            Alias("layernorm.{rest*}", "vit.layernorm.{rest}"),
            Unused("vit.embeddings.mask_token"),
            Unused("vit.pooler.{rest*}"),
            Unused("pooler.{rest*}"),
        ),
    )


def timm(model: ViT, block: str) -> KeyMap:
    names = {
        "patch_embed.proj": "patches",
        "blocks.{i}.norm1": f"{block}/norm_attention",
        "blocks.{i}.attn.proj": f"{block}/attention/out",
        "blocks.{i}.norm2": f"{block}/norm_mlp",
        "blocks.{i}.mlp.fc1": f"{block}/up",
        "blocks.{i}.mlp.fc2": f"{block}/down",
        "fc_norm" if model.norm_after_pool else "norm": "norm",
        "head": "head",
    }
    return _fused("timm", block, "cls_token", "pos_embed", "blocks.{i}.attn.qkv.", names)


def torchvision(block: str) -> KeyMap:
    layer = "encoder.layers.encoder_layer_{i}"
    names = {
        "conv_proj": "patches",
        f"{layer}.ln_1": f"{block}/norm_attention",
        f"{layer}.self_attention.out_proj": f"{block}/attention/out",
        f"{layer}.ln_2": f"{block}/norm_mlp",
        f"{layer}.mlp.0": f"{block}/up",
        f"{layer}.mlp.3": f"{block}/down",
        "encoder.ln": "norm",
        "heads.head": "head",
    }
    fused = f"{layer}.self_attention.in_proj_"
    return _fused("torchvision", block, "class_token", "encoder.pos_embedding", fused, names)


def _fused(publisher: str, block: str, token: str, positions: str, qkv: str, names: Mapping[str, str]) -> KeyMap:
    """The key map of a publisher with one fused projection [3 · width, width] for query, key and value."""
    ours = [f"params/{block}/attention/{name}" for name in QKV]
    return KeyMap(
        publisher,
        (
            Rule(token, "params/class_token"),
            Rule(positions, "params/positions"),
            Rule(f"{qkv}weight", tuple(f"{path}/kernel" for path in ours), split(3, KERNEL)),
            Rule(f"{qkv}bias", tuple(f"{path}/bias" for path in ours), split(3)),
            layers(names),
        ),
    )


def key_maps(model: ViT) -> tuple[KeyMap, ...]:
    block = "blocks" if model.scan_layers else "block{i}"
    return huggingface(block), timm(model, block), torchvision(block)


def adapted(model: ViT, name: str, publisher: str, shapes: Shapes, stated: ViT | None = None) -> ViT:
    """Sets the publisher's epsilon, and the image size that the file's positions were learned for.

    The grid of the positions is taken from the config, otherwise from the model, otherwise assumed to be square.

    Raises:
      RequestError: the number of positions matches neither and is not a square.
    """
    model = model.clone(norm_epsilon=1e-12 if publisher == "huggingface" else 1e-6)
    learned = shapes.get("params/positions", ())
    if len(learned) != 3 or ("params/class_token" in shapes) != model.class_token:
        return model  # reading the file then reports what does not fit
    tokens = learned[1] - model.class_token
    for known in (stated, model):
        if known is not None and math.prod((at := model.clone(image_size=known.image_size)).grid) == tokens:
            return at
    side = math.isqrt(max(tokens, 0))
    require(
        side > 0 and side**2 == tokens,
        f"image_size: {tokens} positions in the file are not a square grid; expected a config.json beside it with its "
        "image_size, or a model built with that size",
    )
    return model.clone(image_size=side * model.patch_size)


def preprocessing(model: ViT, publisher: str) -> Preprocessing:
    """The preprocessing of Dosovitskiy et al.'s weights (Hugging Face), Steiner et al.'s (2021, timm) or torchvision's.

    torchvision's weights for images larger than 224 are those of SWAG (Singh et al., 2022), without a crop.
    """
    size = model.image_size
    large = max(size if isinstance(size, tuple) else (size,)) > 224
    if publisher == "torchvision":
        resized = 242 if (model.width, model.patch_size) == (1024, 16) else 256
        return (
            Preprocessing(size, crop=1.0)
            if large
            else Preprocessing(size, crop=224 / resized, interpolation="bilinear")
        )
    if publisher == "timm":
        return Preprocessing(size, crop=1.0 if large else 0.9, mean=HALF, std=HALF)
    return Preprocessing(size, crop=1.0, squeeze=True, interpolation="bilinear", mean=HALF, std=HALF)


_HUB = {
    "vit_b16": "google/vit-base-patch16-224",
    "vit_l16": "google/vit-large-patch16-224",
    "vit_ti16": "WinKawaks/vit-tiny-patch16-224",
    "vit_s16": "WinKawaks/vit-small-patch16-224",
}

_TIMM = {  # size: (its name in timm, its published (patch, pixels))
    "ti": ("tiny", ((16, 224), (16, 384))),
    "s": ("small", ((8, 224), (16, 224), (16, 384), (32, 224), (32, 384))),
    "b": ("base", ((8, 224), (16, 224), (16, 384), (32, 224), (32, 384))),
    "l": ("large", ((14, 224), (16, 224), (16, 384), (32, 224), (32, 384))),
}

FAMILY = Family(
    model=ViT,
    model_type="vit",
    variants={
        f"vit_{size}{patch}": Variant(
            lambda size=size, patch=patch: vit(size, patch),
            _HUB.get(f"vit_{size}{patch}"),
            (
                f"vit_{size}_{patch}",
                *(f"vit_{_TIMM[size][0]}_patch{patch}_{pixels}" for at, pixels in _TIMM[size][1] if at == patch),
            ),
        )
        for size in ("ti", "s", "b", "l")
        for patch in (8, 14, 16, 32)
    },
    from_config=from_config,
    to_config=to_config,
    from_timm=from_timm,
    architectures={
        f"vit_{name}_patch{patch}_{pixels}": {
            "img_size": pixels,
            "patch_size": patch,
            "embed_dim": width,
            "depth": depth,
            "num_heads": num_heads,
        }
        for size, (width, depth, num_heads) in SIZES.items()
        for name, built in (_TIMM[size],)
        for patch, pixels in built
    },
    key_maps=key_maps,
    inputs=lambda model: images(*((model.image_size,) if isinstance(model.image_size, int) else model.image_size)),
    adapted=adapted,
    details=("norm_epsilon",),
    head=("params/head/{leaf*}",),
    head_bias="params/head/bias",
    input_kernel="params/patches/kernel",
    preprocessing=preprocessing,
    resized=resized,
)
