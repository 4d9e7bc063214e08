"""Weights of PyTorch's nn.RNN, nn.LSTM and nn.GRU: alone, with a head, and in PyTorch's word language model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax

from research.errors import nearest, require
from research.layers.recurrent import Recurrent
from research.models.rnn import RNNClassifier, RNNLanguageModel
from research.pretrained.family import Family
from research.pretrained.rules import KERNEL, SAME, KeyMap, Rule, Tied, embedding, kernel

KINDS = {"rnn_tanh": ("elman", "tanh"), "rnn_relu": ("elman", "relu"), "lstm": ("lstm", "tanh"), "gru": ("gru", "tanh")}
"""{PyTorch's mode: (cell, activation of its state)}."""


def recurrent(theirs: str, ours: str) -> tuple[Rule, ...]:
    """Key rules for the four arrays of every layer and direction; `theirs` ends in "." and `ours` in "/" unless empty.

    The gates are stored in one array, in the same order as ours: input, forget, cell, output; reset, update, new.
    """
    return tuple(
        Rule(f"{theirs}{kind}_{end}_l{{i}}{suffix}", f"params/{ours}{direction}{{i}}/{part}_{leaf}", transform)
        for suffix, direction in (("", "forward"), ("_reverse", "backward"))
        for end, part in (("ih", "input"), ("hh", "hidden"))
        for kind, leaf, transform in (("weight", "kernel", KERNEL), ("bias", "bias", SAME))
    )


def language_model_key_maps(model: RNNLanguageModel) -> tuple[KeyMap, ...]:
    """Names as in PyTorch's examples/word_language_model: encoder, rnn, decoder."""
    tied = (Tied("decoder.weight", "encoder.weight"), Rule("decoder.bias", "params/head_bias"))
    head = tied if model.tied_head else kernel("decoder", "head")
    return (KeyMap("pytorch", (embedding("encoder", "token_embedding"), recurrent("rnn.", "rnn/"), head)),)


def classifier_key_maps(model: RNNClassifier) -> tuple[KeyMap, ...]:
    """The usual names of PyTorch modules: `embedding`, `rnn` and `head`."""
    entries = (embedding("embedding", "token_embedding"), recurrent("rnn.", "rnn/"), kernel("head", "head"))
    return (KeyMap("pytorch", entries),)


def recurrent_key_maps(model: Recurrent) -> tuple[KeyMap, ...]:
    """The bare module: `weight_ih_l0`, ..."""
    return (KeyMap("pytorch", recurrent("", "")),)


def from_config(config: Mapping[str, Any]) -> RNNClassifier:
    """Builds a per-token classifier from PyTorch's arguments.

    These are `kind` (its mode), `input_size`, `hidden_size`, `num_layers`, `bidirectional` and `num_classes`.

    Raises:
      RequestError: the kind is unknown or a size is missing.
    """
    kind = config.get("kind", "lstm")
    require(kind in tuple(KINDS), f"kind={kind!r} in the config: {nearest(str(kind), KINDS)}")
    cell, activation = KINDS[kind]
    missing = [key for key in ("num_classes", "hidden_size", "input_size") if key not in config]
    require(not missing, f"{', '.join(missing)}: missing in the config")
    return RNNClassifier(
        classes=config["num_classes"],
        cell=cell,
        width=config["hidden_size"],
        depth=config.get("num_layers", 1),
        bidirectional=config.get("bidirectional", False),
        pool="none",
        input_width=config["input_size"],
        activation=activation,
    )


def _token_inputs(model: RNNLanguageModel) -> dict[str, jax.ShapeDtypeStruct]:
    return {"tokens": jax.ShapeDtypeStruct((1, 2), "int32")}


def _inputs(model: RNNClassifier | Recurrent) -> dict[str, jax.ShapeDtypeStruct]:
    if getattr(model, "vocab_size", None) is not None:
        return {"x": jax.ShapeDtypeStruct((1, 2), "int32")}
    require(model.input_width is not None, "input_width=None: set it, since shapes are needed before there is an input")
    return {"x": jax.ShapeDtypeStruct((1, 2, model.input_width), "float32")}


_HEAD = {"head": ("params/head/kernel", "params/head/bias"), "head_bias": "params/head/bias"}

FAMILIES = (
    Family(RNNLanguageModel, "rnn_language_model", {}, from_config, language_model_key_maps, _token_inputs),
    Family(RNNClassifier, "rnn_classifier", {}, from_config, classifier_key_maps, _inputs, **_HEAD),
    Family(Recurrent, "recurrent", {}, from_config, recurrent_key_maps, _inputs),
)
