"""Published Llama weights, and those of models with the same layout (TinyLlama, SmolLM2, ...)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from research.errors import require
from research.layers.positions import Llama3Scaling, Rotary
from research.models.llama import SIZES, Llama, llama
from research.pretrained.config_values import number, whole
from research.pretrained.family import Family, Variant
from research.pretrained.gpt2 import inputs
from research.pretrained.rules import KeyMap, Tied, Unused, embedding, kernel, norm


def key_maps(model: Llama) -> tuple[KeyMap, ...]:
    """Hugging Face's names; queries and keys pair feature i with i + head_dim / 2, as `Rotary` does."""

    def blocks(ours: str) -> tuple:
        theirs = "model.layers.{i}"
        return (
            norm(f"{theirs}.input_layernorm", f"{ours}/norm_attention"),
            norm(f"{theirs}.post_attention_layernorm", f"{ours}/norm_mlp"),
            kernel(f"{theirs}.self_attn.q_proj", f"{ours}/attention/query"),
            kernel(f"{theirs}.self_attn.k_proj", f"{ours}/attention/key"),
            kernel(f"{theirs}.self_attn.v_proj", f"{ours}/attention/value"),
            kernel(f"{theirs}.self_attn.o_proj", f"{ours}/attention/out"),
            *(kernel(f"{theirs}.mlp.{name}_proj", f"{ours}/{name}") for name in ("gate", "up", "down")),
        )

    entries = (
        embedding("model.embed_tokens", "token_embedding"),
        blocks("block{i}"),
        blocks("blocks"),
        norm("model.norm", "norm"),
        Tied("lm_head.weight", "model.embed_tokens.weight") if model.tied_head else kernel("lm_head", "head"),
        Unused("model.layers.{i}.self_attn.rotary_emb.inv_freq"),  # in older files
        Unused("model.rotary_emb.inv_freq"),
    )
    return (KeyMap("huggingface", entries),)


def from_config(config: Mapping[str, Any]) -> Llama:
    """Builds the model that a Llama config.json describes.

    Raises:
      RequestError: the config asks for another activation or another rotary scaling.
    """
    given = config.get("hidden_act", "silu")
    require(given == "silu", f"hidden_act={given!r} in the config: expected 'silu'")
    num_heads = config.get("num_attention_heads", 32)
    vocab_size, pad_token = whole(config, "vocab_size", 32000), config.get("pad_token_id")
    return Llama(
        vocab_size=vocab_size,
        context_length=config.get("max_position_embeddings", 2048),
        width=config.get("hidden_size", 4096),
        depth=config.get("num_hidden_layers", 32),
        num_heads=num_heads,
        num_kv_heads=config.get("num_key_value_heads") or num_heads,
        head_dim=config.get("head_dim"),
        mlp_width=config.get("intermediate_size", 11008),
        rotary=_rotary(config),
        norm_epsilon=config.get("rms_norm_eps", 1e-6),
        attention_bias=config.get("attention_bias", False),
        mlp_bias=config.get("mlp_bias", False),
        tied_head=config.get("tie_word_embeddings", False),
        pad_token=pad_token if pad_token is None else _row(whole(config, "pad_token_id"), vocab_size),
        init_deviation=config.get("initializer_range", 0.02),
    )


def _row(token: int, vocab_size: int) -> int:
    """The row of a token; -1 is the last one, as in PyTorch."""
    require(-vocab_size <= token < vocab_size, f"pad_token_id={token} in the config: expected below {vocab_size}")
    return token % vocab_size


def _rotary(config: Mapping[str, Any]) -> Rotary:
    """Reads `rope_parameters` of current configs, or `rope_theta` and `rope_scaling` of older ones."""
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    theta = number(rope, "rope_theta", number(config, "rope_theta", 10000.0))
    kind = rope.get("rope_type", rope.get("type", "default"))
    require(kind in ("default", "llama3"), f"rope_type={kind!r} in the config: expected 'default' or 'llama3'")
    if kind == "default":
        return Rotary(float(theta))
    keys = ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")
    missing = [key for key in keys if key not in rope]
    require(not missing, f"{', '.join(missing)}: missing in the config, for rope_type='llama3'")
    factor, low, high, context = (number(rope, key, 0.0) for key in keys)
    scaling = Llama3Scaling(float(factor), float(low), float(high), int(context))
    return Rotary(float(theta), scaling)


def to_config(model: Llama) -> dict[str, Any]:
    """The `LlamaConfig` of a model."""
    rope: dict[str, Any] = {"rope_type": "default", "rope_theta": model.rotary.theta}
    if (scaling := model.rotary.scaling) is not None:
        rope |= {
            "rope_type": "llama3",
            "factor": scaling.factor,
            "low_freq_factor": scaling.low_freq_factor,
            "high_freq_factor": scaling.high_freq_factor,
            "original_max_position_embeddings": scaling.original_context,
        }
    return {
        "architectures": ["LlamaForCausalLM"],
        "vocab_size": model.vocab_size,
        "max_position_embeddings": model.context_length,
        "hidden_size": model.width,
        "num_hidden_layers": model.depth,
        "num_attention_heads": model.num_heads,
        "num_key_value_heads": model.num_kv_heads or model.num_heads,
        "head_dim": model.head_dim or model.width // model.num_heads,
        "intermediate_size": model.mlp_width,
        "rope_parameters": rope,
        "rms_norm_eps": model.norm_epsilon,
        "attention_bias": model.attention_bias,
        "mlp_bias": model.mlp_bias,
        "tie_word_embeddings": model.tied_head,
        "pad_token_id": model.pad_token,
        "initializer_range": model.init_deviation,
    }


_HUB = {
    "llama2-7b": "meta-llama/Llama-2-7b-hf",
    "llama2-13b": "meta-llama/Llama-2-13b-hf",
    "llama3-8b": "meta-llama/Meta-Llama-3-8B",
    "llama3.1-8b": "meta-llama/Llama-3.1-8B",
    "llama3.2-1b": "meta-llama/Llama-3.2-1B",
    "llama3.2-3b": "meta-llama/Llama-3.2-3B",
    "tinyllama-1.1b": "TinyLlama/TinyLlama_v1.1",
    "smollm2-135m": "HuggingFaceTB/SmolLM2-135M",
}

FAMILY = Family(
    model=Llama,
    model_type="llama",
    variants={size: Variant(partial(llama, size), _HUB[size]) for size in SIZES},
    from_config=from_config,
    to_config=to_config,
    key_maps=key_maps,
    inputs=inputs,
    details=("pad_token",),
)
