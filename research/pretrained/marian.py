"""Weights of encoder-decoder Transformers: Marian's published ones (OPUS-MT), and PyTorch's `nn.Transformer`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax

from research.errors import require
from research.models.transformer import Transformer, translation
from research.pretrained import encoder_decoder
from research.pretrained.family import Family, Variant, hf_activation, only
from research.pretrained.rules import KERNEL, KeyMap, Rule, Tied, Unused, drop_ones, embedding, kernel, norm, split

MARIAN = {
    "context_length": 512,
    "activation": "silu",
    "positions": "sinusoidal_halves",
    "logits_bias": True,
}
"""Differences of published Marian models from the paper's base size."""


def from_config(config: Mapping[str, Any]) -> Transformer:
    """Builds a model from a `MarianConfig` of transformers; without `tie_word_embeddings`, no tables are tied.

    `layerdrop`, which only affects training, is ignored.
    """
    tied = config.get("tie_word_embeddings", True)
    separate = not config.get("share_encoder_decoder_embeddings", True)
    vocab_size = config.get("vocab_size", 58101)
    return Transformer(
        vocab_size=(config.get("decoder_vocab_size") if separate else None) or vocab_size,
        source_vocab_size=vocab_size,
        context_length=config.get("max_position_embeddings", 1024),
        positions="sinusoidal_halves",
        shared_embedding=tied and not separate,
        scaled_embedding=config.get("scale_embedding", False),
        tied_head=tied,
        pad_token=config.get("pad_token_id", 58100),
        logits_bias=True,
        **encoder_decoder.fields(config, width=1024, depth=12, num_heads=16, mlp_width=4096, dropout=0.1),
    )


def to_config(model: Transformer) -> dict[str, Any]:
    """The `MarianConfig` of a model; of the special tokens it includes only padding, since a model does not know the
    others.
    """
    return {
        "architectures": ["MarianMTModel"],
        "vocab_size": model.source_vocab_size or model.vocab_size,
        "decoder_vocab_size": model.vocab_size,
        "max_position_embeddings": model.context_length,
        "scale_embedding": model.scaled_embedding,
        "share_encoder_decoder_embeddings": model.shared_embedding,
        "tie_word_embeddings": model.tied_head,
        "pad_token_id": model.pad_token,
        **encoder_decoder.config(model),
    }


def from_pytorch(config: Mapping[str, Any]) -> Transformer:
    """Builds a model from arguments of `nn.Transformer`, with the paper's positions, logits and shared embeddings."""
    only(
        config, "vocab", "d_model", "nhead", "enc_layers", "dec_layers", "d_ff", "norm_first", "final_norm",
        "activation", "layer_norm_eps", "dropout",
    )  # fmt: skip
    return Transformer(
        vocab_size=config["vocab"],
        width=config["d_model"],
        depth=config["enc_layers"],
        decoder_depth=config["dec_layers"],
        num_heads=config["nhead"],
        mlp_width=config["d_ff"],
        activation=hf_activation(config.get("activation", "relu")),
        norm="pre" if config.get("norm_first", False) else "post",
        final_norm=config.get("final_norm", False),
        norm_epsilon=config.get("layer_norm_eps", 1e-5),
        dropout=config.get("dropout", 0.1),
    )


def huggingface(model: Transformer) -> KeyMap:
    """Names of `MarianMTModel`; positions are computed, and only stored in older files."""
    tables = ("model.encoder.embed_tokens", "model.decoder.embed_tokens")
    if model.shared_embedding:
        target = "model.shared"
        embeddings = (embedding(target, "token_embedding"), *(Tied(f"{x}.weight", f"{target}.weight") for x in tables))
    else:
        target = tables[1]
        embeddings = (
            embedding(tables[0], "source_embedding"),
            embedding(target, "token_embedding"),
            Unused("model.shared.weight"),
        )
    return KeyMap(
        "huggingface",
        (
            *embeddings,
            encoder_decoder.blocks("encoder", "encoder"),
            encoder_decoder.blocks("decoder", "decoder"),
            Tied("lm_head.weight", f"{target}.weight") if model.tied_head else kernel("lm_head", "head"),
            Rule("final_logits_bias", "constants/logits_bias", drop_ones((0,))),
            Unused("model.encoder.embed_positions.weight"),
            Unused("model.decoder.embed_positions.weight"),
        ),
    )


def pytorch(model: Transformer) -> KeyMap:
    """Names `embed` and `transformer`, an `nn.Transformer` with query, key and value projections fused in one array."""
    entries: list = [embedding("embed", "token_embedding")]
    parts = {"encoder": ("self", "mlp"), "decoder": ("self", "cross", "mlp")}
    for side, norms in parts.items():
        entries.append(norm(f"transformer.{side}.norm", f"{side}/norm"))
        theirs = f"transformer.{side}.layers.{{i}}"
        for block in (f"{side}/block{{i}}", f"{side}/blocks"):
            for name, part in (("self_attn", "self_attention"), ("multihead_attn", "cross_attention")):
                paths = [f"params/{block}/{part}/{projection}" for projection in ("query", "key", "value")]
                entries += [
                    Rule(f"{theirs}.{name}.in_proj_weight", tuple(f"{x}/kernel" for x in paths), split(3, KERNEL)),
                    Rule(f"{theirs}.{name}.in_proj_bias", tuple(f"{x}/bias" for x in paths), split(3)),
                    kernel(f"{theirs}.{name}.out_proj", f"{block}/{part}/out"),
                ]
            entries += [norm(f"{theirs}.norm{k + 1}", f"{block}/norm_{part}") for k, part in enumerate(norms)]
            entries += [kernel(f"{theirs}.linear1", f"{block}/up"), kernel(f"{theirs}.linear2", f"{block}/down")]
    return KeyMap("pytorch", tuple(entries))


def key_maps(model: Transformer) -> tuple[KeyMap, ...]:
    """Marian's names for models that Marian can represent, PyTorch's for those of the paper's design."""
    maps = []
    if model.norm == "post" and not model.final_norm and model.positions == "sinusoidal_halves":
        maps.append(huggingface(model))
    if model.shared_embedding and model.tied_head and model.positions == "sinusoidal" and not model.logits_bias:
        maps.append(pytorch(model))
    require(
        bool(maps),
        "published Transformers have positions='sinusoidal_halves' with norm='post' and final_norm=False (Marian), or "
        "positions='sinusoidal' with shared_embedding, tied_head and no logits_bias (PyTorch); this one has neither",
    )
    return tuple(maps)


def inputs(model: Transformer) -> dict[str, jax.ShapeDtypeStruct]:
    """A source and a target of two tokens."""
    tokens = jax.ShapeDtypeStruct((1, 2), "int32")
    return {"source": tokens, "source_mask": jax.ShapeDtypeStruct((1, 2), "bool"), "target": tokens}


FAMILY = Family(
    model=Transformer,
    model_type="marian",
    variants={
        f"opus-mt-{pair}": Variant(partial(translation, vocab_size=58101, **MARIAN), f"Helsinki-NLP/opus-mt-{pair}")
        for pair in ("en-de", "de-en")
    },
    from_config=from_config,
    key_maps=key_maps,
    inputs=inputs,
    adapted=encoder_decoder.with_the_files_vocabulary,
    to_config=to_config,
)
