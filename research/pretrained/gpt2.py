"""Published GPT-2 weights: openai-community/gpt2 in all sizes, and files of Hugging Face's `save_pretrained`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax

from research.errors import nearest, require
from research.models.gpt import GPT, SIZES, gpt2
from research.pretrained.family import Family, Variant
from research.pretrained.rules import Alias, KeyMap, Rule, Tied, Unused, embedding, kernel, norm, split

ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "quick_gelu": "quick_gelu",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
    "tanh": "tanh",
}
"""{Hugging Face's name of an activation: ours}."""

_QKV = ("query", "key", "value")


def key_maps(model: GPT) -> tuple[KeyMap, ...]:
    """Hugging Face's names, with or without the prefix `transformer.`; its Conv1D stores kernels as [in, out]."""

    def blocks(ours: str) -> tuple:
        theirs = "transformer.h.{i}"
        conv1d = [
            (Rule(f"{theirs}.{name}.weight", f"params/{ours}/{path}/kernel"),
             Rule(f"{theirs}.{name}.bias", f"params/{ours}/{path}/bias"))
            for name, path in (("attn.c_proj", "attention/out"), ("mlp.c_fc", "up"), ("mlp.c_proj", "down"))
        ]  # fmt: skip
        kernels = tuple(f"params/{ours}/attention/{name}/kernel" for name in _QKV)
        biases = tuple(f"params/{ours}/attention/{name}/bias" for name in _QKV)
        return (
            Rule(f"{theirs}.attn.c_attn.weight", kernels, split(3, axis=1)),
            Rule(f"{theirs}.attn.c_attn.bias", biases, split(3)),
            *conv1d,
            norm(f"{theirs}.ln_1", f"{ours}/norm_attention"),
            norm(f"{theirs}.ln_2", f"{ours}/norm_mlp"),
        )

    entries = (
        embedding("transformer.wte", "token_embedding"),
        embedding("transformer.wpe", "position_embedding"),
        blocks("block{i}"),
        blocks("blocks"),
        norm("transformer.ln_f", "norm"),
        Tied("lm_head.weight", "transformer.wte.weight") if model.tied_head else kernel("lm_head", "head"),
        Unused("transformer.h.{i}.attn.bias"),  # the causal mask
        Unused("transformer.h.{i}.attn.masked_bias"),  # the value of masked products
        *(Alias(f"{name}.{{rest*}}", f"transformer.{name}.{{rest*}}") for name in ("wte", "wpe", "h", "ln_f")),
    )
    return (KeyMap("huggingface", entries),)


def from_config(config: Mapping[str, Any]) -> GPT:
    """Builds the model that a GPT-2 config.json describes.

    Raises:
      RequestError: the config asks for a feature that published GPT-2 weights do not have.
    """
    for name in ("scale_attn_by_inverse_layer_idx", "add_cross_attention"):
        require(not config.get(name, False), f"{name}=true in the config: not supported for GPT-2")
    require(config.get("scale_attn_weights", True), "scale_attn_weights=false in the config: not supported for GPT-2")
    given = config.get("activation_function", "gelu_new")
    known = isinstance(given, str) and given in ACTIVATIONS
    require(known, f"activation_function={given!r} in the config: {nearest(str(given), ACTIVATIONS)}")
    return GPT(
        vocab_size=config.get("vocab_size", 50257),
        context_length=config.get("n_positions", 1024),
        width=config.get("n_embd", 768),
        depth=config.get("n_layer", 12),
        num_heads=config.get("n_head", 12),
        mlp_width=config.get("n_inner"),
        activation=ACTIVATIONS[given],
        norm_epsilon=config.get("layer_norm_epsilon", 1e-5),
        tied_head=config.get("tie_word_embeddings", True),
        dropout=config.get("resid_pdrop", 0.1),
        attention_dropout=config.get("attn_pdrop", 0.1),
    )


def to_config(model: GPT) -> dict[str, Any]:
    """The `GPT2Config` of a model."""
    names = {ours: theirs for theirs, ours in reversed(ACTIVATIONS.items())}
    return {
        "architectures": ["GPT2LMHeadModel"],
        "vocab_size": model.vocab_size,
        "n_positions": model.context_length,
        "n_embd": model.width,
        "n_layer": model.depth,
        "n_head": model.num_heads,
        "n_inner": model.mlp_width,
        "activation_function": names[model.activation],
        "layer_norm_epsilon": model.norm_epsilon,
        "tie_word_embeddings": model.tied_head,
        "resid_pdrop": model.dropout,
        "embd_pdrop": model.dropout,
        "attn_pdrop": model.dropout if model.attention_dropout is None else model.attention_dropout,
    }


def inputs(model: GPT) -> dict[str, jax.ShapeDtypeStruct]:
    """Two tokens."""
    return {"tokens": jax.ShapeDtypeStruct((1, 2), "int32")}


_HUB = {"distilgpt2": "distilbert/distilgpt2"}

FAMILY = Family(
    model=GPT,
    model_type="gpt2",
    variants={size: Variant(partial(gpt2, size), _HUB.get(size, f"openai-community/{size}")) for size in SIZES},
    from_config=from_config,
    to_config=to_config,
    key_maps=key_maps,
    inputs=inputs,
)
