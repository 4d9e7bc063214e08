"""Whisper's published weights: openai/whisper-tiny and its sizes, in Hugging Face's layout."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax

from research.errors import require
from research.models.whisper import SIZES, Whisper, whisper
from research.pretrained.family import Family, Shapes, Variant, hf_activation, hf_name
from research.pretrained.mapping import Alias, KeyMap, Rule, Tied, embedding, kernel, norm
from research.pretrained.marian import huggingface_blocks


def from_config(config: Mapping[str, Any]) -> Whisper:
    """A `WhisperConfig` of transformers; `scale_embedding`, which has no effect there, and `layerdrop` are not read."""
    return Whisper(
        vocab_size=config.get("vocab_size", 51865),
        context_length=config.get("max_target_positions", 448),
        mels=config.get("num_mel_bins", 80),
        width=config.get("d_model", 384),
        depth=config.get("encoder_layers", 4),
        decoder_depth=config.get("decoder_layers", 4),
        num_heads=config.get("encoder_attention_heads", 6),
        decoder_num_heads=config.get("decoder_attention_heads", 6),
        mlp_width=config.get("encoder_ffn_dim", 1536),
        decoder_mlp_width=config.get("decoder_ffn_dim", 1536),
        activation=hf_activation(config.get("activation_function", "gelu")),
        audio_length=config.get("max_source_positions", 1500),
        tied_head=config.get("tie_word_embeddings", True),
        pad_token=config.get("pad_token_id", 50256),
        dropout=config.get("dropout", 0.0),
        attention_dropout=config.get("attention_dropout", 0.0),
        activation_dropout=config.get("activation_dropout", 0.0),
    )


def to_config(model: Whisper) -> dict[str, Any]:
    """The `WhisperConfig` of a model; which tokens are special, but for padding, is not known here."""
    return {
        "architectures": ["WhisperForConditionalGeneration"],
        "vocab_size": model.vocab_size,
        "max_target_positions": model.context_length,
        "num_mel_bins": model.mels,
        "d_model": model.width,
        "encoder_layers": model.depth,
        "decoder_layers": model.decoder_depth or model.depth,
        "encoder_attention_heads": model.num_heads,
        "decoder_attention_heads": model.decoder_num_heads or model.num_heads,
        "encoder_ffn_dim": model.mlp_width or 4 * model.width,
        "decoder_ffn_dim": model.decoder_mlp_width or model.mlp_width or 4 * model.width,
        "activation_function": hf_name(model.activation),
        "max_source_positions": model.audio_length,
        "tie_word_embeddings": model.tied_head,
        "dropout": model.dropout,
        "attention_dropout": model.attention_dropout,
        "activation_dropout": model.activation_dropout,
        "pad_token_id": model.pad_token,
    }


def key_maps(model: Whisper) -> tuple[KeyMap, ...]:
    """`WhisperForConditionalGeneration`, with or without the prefix `model.`."""
    require(model.strides == (1, 2), f"strides={model.strides}: published Whispers have (1, 2)")
    table = "model.decoder.embed_tokens"
    entries = (
        kernel("model.encoder.conv1", "encoder/conv0"),
        kernel("model.encoder.conv2", "encoder/conv1"),
        Rule("model.encoder.embed_positions.weight", "constants/encoder/positions"),
        huggingface_blocks("encoder", "encoder/transformer"),
        norm("model.encoder.layer_norm", "encoder/transformer/norm"),
        embedding(table, "token_embedding"),
        embedding("model.decoder.embed_positions", "position_embedding"),
        huggingface_blocks("decoder", "decoder"),
        norm("model.decoder.layer_norm", "decoder/norm"),
        Tied("proj_out.weight", f"{table}.weight") if model.tied_head else kernel("proj_out", "head"),
        Alias("encoder.{rest*}", "model.encoder.{rest}"),
        Alias("decoder.{rest*}", "model.decoder.{rest}"),
    )
    return (KeyMap("huggingface", entries),)


def inputs(model: Whisper) -> dict[str, jax.ShapeDtypeStruct]:
    """Four frames and two tokens."""
    features = jax.ShapeDtypeStruct((1, 4, model.mels), "float32")
    mask = jax.ShapeDtypeStruct((1, 4), "bool")
    return {"features": features, "features_mask": mask, "target": jax.ShapeDtypeStruct((1, 2), "int32")}


def adapted(model: Whisper, name: str, publisher: str, shapes: Shapes) -> Whisper:
    """With the file's vocabulary, which is one token shorter in the models for English alone."""
    table = shapes.get("params/token_embedding/embedding")
    return model if table is None else model.clone(vocab_size=table[0])


VARIANTS = {f"whisper-{size}": size for size in SIZES} | {
    "whisper-large-v2": "large",
    **{f"whisper-{size}.en": size for size in ("tiny", "base", "small", "medium")},
}

FAMILY = Family(
    model=Whisper,
    model_type="whisper",
    variants={name: Variant(partial(whisper, size), f"openai/{name}") for name, size in VARIANTS.items()},
    from_config=from_config,
    key_maps=key_maps,
    inputs=inputs,
    adapted=adapted,
    to_config=to_config,
)
