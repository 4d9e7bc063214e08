"""Decoders of one or two layers and a batch of prompts, for tests of decoding."""

from __future__ import annotations

import functools

import jax
import numpy as np
import pytest

from research.models.gpt import GPT
from research.models.llama import Llama
from research.models.rnn import RNNLanguageModel

MODELS = {
    "gpt": GPT(13, context_length=20, width=8, depth=1, num_heads=2),
    "gpt rotary post-norm scanned": GPT(
        13, 20, width=8, depth=2, num_heads=2, positions="rotary", norm="post", scan_layers=True
    ),
    "gpt sinusoidal": GPT(13, context_length=20, width=8, depth=1, num_heads=2, positions="sinusoidal"),
    "llama": Llama(13, context_length=20, width=8, depth=1, num_heads=4, mlp_width=12, num_kv_heads=2),
    "lstm": RNNLanguageModel(13, "lstm", width=8),
    "gru": RNNLanguageModel(13, "gru", width=8, depth=2),
}
PROMPT = np.random.default_rng(0).integers(1, 13, (3, 6))
MASK = np.array([[1, 1, 1, 1, 1, 1], [0, 0, 0, 1, 1, 1], [1, 1, 0, 0, 0, 0]], bool)  # whole, left, right


PLAIN = jax.jit(lambda model, variables, tokens: model.apply(variables, tokens), static_argnums=0)


@functools.cache
def initialised(model):
    """Variables of a model with confident predictions, so that rounding does not change its choices."""
    return jax.tree.map(lambda x: x * 8, jax.jit(model.init)(jax.random.key(0), PROMPT))


TINY = MODELS["gpt"]


def some(names, *slow):
    """Parameters of a test; some are marked slow."""
    return [pytest.param(name, marks=pytest.mark.slow) if name in slow else name for name in names]
