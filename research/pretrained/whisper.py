"""Published Whisper weights: openai/whisper-tiny and its other sizes, in Hugging Face's format."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax

from research.errors import require
from research.models.whisper import SIZES, Whisper, whisper
from research.pretrained import encoder_decoder
from research.pretrained.family import Family, Variant
from research.pretrained.rules import Alias, KeyMap, Rule, Tied, embedding, kernel, norm


def from_config(config: Mapping[str, Any]) -> Whisper:
    """Builds a model from a `WhisperConfig`; ignores `scale_embedding`, which has no effect there, and `layerdrop`."""
    return Whisper(
        vocab_size=config.get("vocab_size", 51865),
        context_length=config.get("max_target_positions", 448),
        mels=config.get("num_mel_bins", 80),
        audio_length=config.get("max_source_positions", 1500),
        tied_head=config.get("tie_word_embeddings", True),
        pad_token=config.get("pad_token_id", 50256),
        **encoder_decoder.fields(config, width=384, depth=4, num_heads=6, mlp_width=1536, dropout=0.0),
    )


def to_config(model: Whisper) -> dict[str, Any]:
    """The `WhisperConfig` of a model; of the special tokens it includes only padding, since a model does not know the
    others.
    """
    return {
        "architectures": ["WhisperForConditionalGeneration"],
        "vocab_size": model.vocab_size,
        "max_target_positions": model.context_length,
        "num_mel_bins": model.mels,
        "max_source_positions": model.audio_length,
        "tie_word_embeddings": model.tied_head,
        "pad_token_id": model.pad_token,
        **encoder_decoder.config(model),
    }


def key_maps(model: Whisper) -> tuple[KeyMap, ...]:
    """Names of `WhisperForConditionalGeneration`, with or without the prefix `model.`."""
    require(model.strides == (1, 2), f"strides={model.strides}: published Whispers have (1, 2)")
    table = "model.decoder.embed_tokens"
    entries = (
        kernel("model.encoder.conv1", "encoder/conv0"),
        kernel("model.encoder.conv2", "encoder/conv1"),
        Rule("model.encoder.embed_positions.weight", "constants/encoder/positions"),
        encoder_decoder.blocks("encoder", "encoder/transformer"),
        norm("model.encoder.layer_norm", "encoder/transformer/norm"),
        embedding(table, "token_embedding"),
        embedding("model.decoder.embed_positions", "position_embedding"),
        encoder_decoder.blocks("decoder", "decoder"),
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
    adapted=encoder_decoder.with_the_files_vocabulary,
    to_config=to_config,
)
