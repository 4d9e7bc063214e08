"""Shared parts of Hugging Face's encoder-decoder formats, Marian and Whisper: config, blocks, vocabulary."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flax import linen as nn

from research.layers.transformer import decoder_sizes, encoder_sizes
from research.pretrained.family import Shapes, hf_activation, hf_name
from research.pretrained.rules import kernel, norm


def fields(
    config: Mapping[str, Any], *, width: int, depth: int, num_heads: int, mlp_width: int, dropout: float
) -> dict[str, Any]:
    """Fields of our model from a config; the arguments are the defaults for missing keys."""
    return {
        "width": config.get("d_model", width),
        "depth": config.get("encoder_layers", depth),
        "decoder_depth": config.get("decoder_layers", depth),
        "num_heads": config.get("encoder_attention_heads", num_heads),
        "decoder_num_heads": config.get("decoder_attention_heads", num_heads),
        "mlp_width": config.get("encoder_ffn_dim", mlp_width),
        "decoder_mlp_width": config.get("decoder_ffn_dim", mlp_width),
        "activation": hf_activation(config.get("activation_function", "gelu")),
        "dropout": config.get("dropout", dropout),
        "attention_dropout": config.get("attention_dropout", 0.0),
        "activation_dropout": config.get("activation_dropout", 0.0),
    }


def config(model: Any) -> dict[str, Any]:
    """The inverse of `fields`: the part of a config that describes a model."""
    encoder, decoder = encoder_sizes(model), decoder_sizes(model)
    return {
        "d_model": model.width,
        "encoder_layers": encoder["depth"],
        "decoder_layers": decoder["depth"],
        "encoder_attention_heads": encoder["num_heads"],
        "decoder_attention_heads": decoder["num_heads"],
        "encoder_ffn_dim": encoder["mlp_width"],
        "decoder_ffn_dim": decoder["mlp_width"],
        "activation_function": hf_name(model.activation),
        "dropout": model.dropout,
        "attention_dropout": model.attention_dropout,
        "activation_dropout": model.activation_dropout,
    }


def blocks(side: str, ours: str) -> tuple:
    """Key rules for the blocks of the "encoder" or "decoder" below one of our paths, written out or scanned."""
    theirs = f"model.{side}.layers.{{i}}"
    entries: list = []
    for block in (f"{ours}/block{{i}}", f"{ours}/blocks"):
        for short, part in (("self_attn", "self"), ("encoder_attn", "cross")):
            entries += [
                *(
                    kernel(f"{theirs}.{short}.{name}", f"{block}/{part}_attention/{path}")
                    for name, path in (("q_proj", "query"), ("k_proj", "key"), ("v_proj", "value"), ("out_proj", "out"))
                ),
                norm(f"{theirs}.{short}_layer_norm", f"{block}/norm_{part}"),
            ]
        entries += [
            kernel(f"{theirs}.fc1", f"{block}/up"),
            kernel(f"{theirs}.fc2", f"{block}/down"),
            norm(f"{theirs}.final_layer_norm", f"{block}/norm_mlp"),
        ]
    return tuple(entries)


def with_the_files_vocabulary(model: nn.Module, name: str, publisher: str, shapes: Shapes) -> nn.Module:
    """Sets the vocabulary size from the file; it differs between language pairs and for English-only Whisper."""
    table = shapes.get("params/token_embedding/embedding")
    return model if table is None else model.clone(vocab_size=table[0])
