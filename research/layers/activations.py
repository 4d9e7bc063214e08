"""Activations by name, so that a model that uses one can be written to JSON."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Literal

import jax
from flax import linen as nn

from research.errors import RequestError, nearest

Activation = Literal[
    "relu", "gelu", "gelu_tanh", "silu", "sigmoid", "tanh", "identity", "elu", "selu", "leaky_relu", "relu6",
    "softplus", "mish", "hard_swish", "quick_gelu",
]  # fmt: skip


def activation(name: Activation) -> Callable[[jax.Array], jax.Array]:
    """The function of that name, elementwise.

    `gelu` is the exact one (x Φ(x), erf), `gelu_tanh` its tanh approximation, as GPT-2 and Flax's default use it;
    `quick_gelu` is x σ(1.702 x) (Hendrycks & Gimpel, 2016).

    Raises:
      RequestError: there is none of that name.
    """
    functions = {
        "relu": nn.relu,
        "gelu": _gelu,
        "gelu_tanh": partial(nn.gelu, approximate=True),
        "silu": nn.silu,
        "sigmoid": nn.sigmoid,
        "tanh": nn.tanh,
        "identity": lambda x: x,
        "elu": nn.elu,
        "selu": nn.selu,
        "leaky_relu": nn.leaky_relu,
        "relu6": nn.relu6,
        "softplus": nn.softplus,
        "mish": jax.nn.mish,
        "hard_swish": nn.hard_swish,
        "quick_gelu": lambda x: x * nn.sigmoid(1.702 * x),
    }
    if name not in functions:
        raise RequestError(f"activation={name!r}: {nearest(name, functions)}")
    return functions[name]


def _gelu(x: jax.Array) -> jax.Array:
    """x Φ(x) by erf; `jax.nn.gelu` takes erfc: precise where x Φ(x) is next to nothing, and slower on a CPU."""
    return 0.5 * x * (1 + jax.lax.erf(x * math.sqrt(0.5)))
