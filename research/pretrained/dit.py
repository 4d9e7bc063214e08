"""Published Diffusion Transformer weights: diffusers' `DiTTransformer2DModel`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax

from research.errors import require
from research.models.dit import DiT, dit
from research.pretrained.config_values import number, side, whole
from research.pretrained.family import Family, Variant, images
from research.pretrained.rules import KeyMap, Tied, embedding, kernel, layers

QKV = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "out"}

_ONLY = {  # settings that our model has with this value only
    "attention_bias": True,
    "activation_fn": "gelu-approximate",
    "upcast_attention": False,
    "norm_type": "ada_norm_zero",
    "norm_elementwise_affine": False,
}

EMBEDDER = ("timestep_embedder.linear_1", "timestep_embedder.linear_2", "class_embedder.embedding_table")


def from_config(config: Mapping[str, Any]) -> DiT:
    """Builds a model from the config of a `DiTTransformer2DModel` of diffusers.

    diffusers stores embeddings of time and class in every block, so every block of the model has its own.
    """
    for key, expected in _ONLY.items():
        given = config.get(key, expected)
        require(given == expected, f"{key}={given!r} in the config: expected {expected!r}")
    heads = whole(config, "num_attention_heads", 16)
    return DiT(
        image_size=side(config, "sample_size", 32),
        patch_size=whole(config, "patch_size", 2),
        channels=whole(config, "out_channels", whole(config, "in_channels", 4)),
        width=heads * whole(config, "attention_head_dim", 72),
        depth=whole(config, "num_layers", 28),
        num_heads=heads,
        classes=whole(config, "num_embeds_ada_norm", 1000),
        block_embeddings=True,
        mlp_norm_epsilon=number(config, "norm_eps", 1e-5),
        dropout=number(config, "dropout", 0.0),
    )


def to_config(model: DiT) -> dict[str, Any]:
    """The config of a `DiTTransformer2DModel` for a model."""
    return {
        "num_attention_heads": model.num_heads,
        "attention_head_dim": model.width // model.num_heads,
        "in_channels": model.channels,
        "out_channels": model.channels,
        "num_layers": model.depth,
        "dropout": model.dropout,
        "attention_bias": True,
        "sample_size": model.image_size if isinstance(model.image_size, int) else list(model.image_size),
        "patch_size": model.patch_size,
        "activation_fn": "gelu-approximate",
        "num_embeds_ada_norm": model.classes,
        "norm_type": "ada_norm_zero",
        "norm_elementwise_affine": False,
        "norm_eps": model.norm_epsilon if model.mlp_norm_epsilon is None else model.mlp_norm_epsilon,
    }


def key_maps(model: DiT) -> tuple[KeyMap, ...]:
    """The names of diffusers; a model with one embedding writes it for each block, and reads only equal ones."""
    layer, block = "transformer_blocks.{i}", "blocks" if model.scan_layers else "block{i}"
    names = {
        "pos_embed.proj": "patches",
        f"{layer}.norm1.linear": f"{block}/modulation",
        **{f"{layer}.attn1.{theirs}": f"{block}/attention/{ours}" for theirs, ours in QKV.items()},
        f"{layer}.ff.net.0.proj": f"{block}/up",
        f"{layer}.ff.net.2": f"{block}/down",
        "proj_out_1": "head_modulation",
        "proj_out_2": "head",
    }
    each = model.block_embeddings
    theirs, ours = (f"{layer}.norm1.emb", "embedding{i}") if each else ("transformer_blocks.0.norm1.emb", "embedding")
    entries = [
        layers(names),
        kernel(f"{theirs}.{EMBEDDER[0]}", f"{ours}/time/up"),
        kernel(f"{theirs}.{EMBEDDER[1]}", f"{ours}/time/out"),
        embedding(f"{theirs}.{EMBEDDER[2]}", f"{ours}/class"),
    ]
    for i in range(1, 1 if each else model.depth):
        for name in EMBEDDER:
            for leaf in ("weight", "bias") if name != EMBEDDER[2] else ("weight",):
                copy, original = (f"transformer_blocks.{k}.norm1.emb.{name}.{leaf}" for k in (i, 0))
                entries.append(Tied(copy, original, written=True))
    return (KeyMap("diffusers", tuple(entries)),)


def inputs(model: DiT) -> dict[str, jax.ShapeDtypeStruct]:
    """A noisy image, its time and its class."""
    height, width = (model.image_size,) * 2 if isinstance(model.image_size, int) else model.image_size
    given = images(height, width, model.channels) | {"time": jax.ShapeDtypeStruct((1,), "float32")}
    return given | ({} if model.classes is None else {"label": jax.ShapeDtypeStruct((1,), "int32")})


FAMILY = Family(
    model=DiT,
    model_type="DiTTransformer2DModel",
    type_key="_class_name",
    variants={
        f"dit_xl2_{pixels}": Variant(
            lambda pixels=pixels: dit("xl", 2, image_size=pixels // 8, channels=8, classes=1000, mlp_norm_epsilon=1e-5),
            f"facebook/DiT-XL-2-{pixels}",
        )
        for pixels in (256, 512)
    },
    from_config=from_config,
    to_config=to_config,
    key_maps=key_maps,
    inputs=inputs,
    input_kernel="params/patches/kernel",
)
