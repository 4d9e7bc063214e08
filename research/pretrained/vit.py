"""Published Vision Transformers: Hugging Face's `ViTForImageClassification`, timm's and torchvision's."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from research.errors import require
from research.models.vit import ViT, resized, vit
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
from research.pretrained.mapping import KERNEL, Alias, KeyMap, Rule, Unused, kernel, norm, split
from research.pretrained.preprocessing import HALF, Preprocessing

QKV = ("query", "key", "value")


def from_config(config: Mapping[str, Any]) -> ViT:
    """A `ViTConfig` of transformers."""
    size = config.get("image_size", 224)
    return ViT(
        image_size=size if isinstance(size, int) else tuple(size),
        patch_size=config.get("patch_size", 16),
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
        **hf_labels(model.classes),
    }


def from_timm(config: Mapping[str, Any]) -> ViT:
    """The arguments of timm's `VisionTransformer`."""
    known = ("img_size", "patch_size", "in_chans", "num_classes", "embed_dim", "depth", "num_heads", "mlp_ratio")
    only(
        config, *known, "qkv_bias", "class_token", "global_pool", "fc_norm", "proj_drop_rate", "attn_drop_rate",
        "drop_path_rate",
    )  # fmt: skip
    pool = config.get("global_pool", "token")
    require(pool in ("token", "avg"), f"global_pool={pool!r}: expected 'token' or 'avg'")
    fc_norm, width, size = config.get("fc_norm"), config.get("embed_dim", 768), config.get("img_size", 224)
    return ViT(
        image_size=size if isinstance(size, int) else tuple(size),
        patch_size=config.get("patch_size", 16),
        width=width,
        depth=config.get("depth", 12),
        num_heads=config.get("num_heads", 12),
        mlp_width=int(width * config.get("mlp_ratio", 4.0)),
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
            kernel("vit.embeddings.patch_embeddings.projection", "patches"),
            norm(f"{layer}.layernorm_before", f"{block}/norm_attention"),
            tuple(kernel(f"{layer}.attention.attention.{name}", f"{block}/attention/{name}") for name in QKV),
            kernel(f"{layer}.attention.output.dense", f"{block}/attention/out"),
            norm(f"{layer}.layernorm_after", f"{block}/norm_mlp"),
            kernel(f"{layer}.intermediate.dense", f"{block}/up"),
            kernel(f"{layer}.output.dense", f"{block}/down"),
            norm("vit.layernorm", "norm"),
            kernel("classifier", "head"),
            Alias("embeddings.{rest*}", "vit.embeddings.{rest}"),  # files of the model without a head
            Alias("encoder.{rest*}", "vit.encoder.{rest}"),
            Alias("layernorm.{rest*}", "vit.layernorm.{rest}"),
            Unused("vit.embeddings.mask_token"),
            Unused("vit.pooler.{rest*}"),
            Unused("pooler.{rest*}"),
        ),
    )


def timm(model: ViT, block: str) -> KeyMap:
    layer = "blocks.{i}"
    return KeyMap(
        "timm",
        (
            Rule("cls_token", "params/class_token"),
            Rule("pos_embed", "params/positions"),
            kernel("patch_embed.proj", "patches"),
            norm(f"{layer}.norm1", f"{block}/norm_attention"),
            _fused(f"{layer}.attn.qkv.", f"{block}/attention"),
            kernel(f"{layer}.attn.proj", f"{block}/attention/out"),
            norm(f"{layer}.norm2", f"{block}/norm_mlp"),
            kernel(f"{layer}.mlp.fc1", f"{block}/up"),
            kernel(f"{layer}.mlp.fc2", f"{block}/down"),
            norm("fc_norm" if model.norm_after_pool else "norm", "norm"),
            kernel("head", "head"),
        ),
    )


def torchvision(block: str) -> KeyMap:
    layer = "encoder.layers.encoder_layer_{i}"
    return KeyMap(
        "torchvision",
        (
            Rule("class_token", "params/class_token"),
            Rule("encoder.pos_embedding", "params/positions"),
            kernel("conv_proj", "patches"),
            norm(f"{layer}.ln_1", f"{block}/norm_attention"),
            _fused(f"{layer}.self_attention.in_proj_", f"{block}/attention"),
            kernel(f"{layer}.self_attention.out_proj", f"{block}/attention/out"),
            norm(f"{layer}.ln_2", f"{block}/norm_mlp"),
            kernel(f"{layer}.mlp.0", f"{block}/up"),
            kernel(f"{layer}.mlp.3", f"{block}/down"),
            norm("encoder.ln", "norm"),
            kernel("heads.head", "head"),
        ),
    )


def _fused(theirs: str, ours: str) -> tuple[Rule, ...]:
    """One published projection [3 · width, width] is our query, key and value."""
    return (
        Rule(f"{theirs}weight", tuple(f"params/{ours}/{name}/kernel" for name in QKV), split(3, KERNEL)),
        Rule(f"{theirs}bias", tuple(f"params/{ours}/{name}/bias" for name in QKV), split(3)),
    )


def key_maps(model: ViT) -> tuple[KeyMap, ...]:
    block = "blocks" if model.scan_layers else "block{i}"
    return huggingface(block), timm(model, block), torchvision(block)


def adapted(model: ViT, name: str, publisher: str, shapes: Shapes) -> ViT:
    """With the file's epsilon, and for images of the size that its positions were learned on."""
    if publisher == "huggingface":
        model = model.clone(norm_epsilon=1e-12)
    if "params/positions" in shapes:
        side = math.isqrt(shapes["params/positions"][1])  # of a square grid; the class token does not make it larger
        model = model.clone(image_size=side * model.patch_size)
    return model


def preprocessing(model: ViT, publisher: str) -> Preprocessing:
    size = model.image_size if isinstance(model.image_size, int) else model.image_size[0]
    if publisher == "torchvision":
        return Preprocessing(size, interpolation="bilinear")
    if publisher == "timm":
        return Preprocessing(size, crop=0.9, mean=HALF, std=HALF)
    return Preprocessing(size, crop=None, interpolation="bilinear", mean=HALF, std=HALF)


_HUB = {
    "vit_b16": "google/vit-base-patch16-224",
    "vit_l16": "google/vit-large-patch16-224",
    "vit_ti16": "WinKawaks/vit-tiny-patch16-224",
    "vit_s16": "WinKawaks/vit-small-patch16-224",
}

FAMILY = Family(
    model=ViT,
    model_type="vit",
    variants={
        f"vit_{size}{patch}": Variant(lambda size=size, patch=patch: vit(size, patch), _HUB.get(f"vit_{size}{patch}"))
        for size in ("ti", "s", "b", "l")
        for patch in (8, 14, 16, 32)
    },
    from_config=from_config,
    to_config=to_config,
    key_maps=key_maps,
    inputs=lambda model: images(*((model.image_size,) if isinstance(model.image_size, int) else model.image_size)),
    adapted=adapted,
    head=("params/head/{leaf*}",),
    head_bias="params/head/bias",
    input_kernel="params/patches/kernel",
    preprocessing=preprocessing,
    resized=resized,
)
