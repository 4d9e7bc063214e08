"""Activation functions by name, so that models that use them can be written to JSON."""

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
    """The elementwise activation function of that name.

    `gelu` is exact (x Φ(x), by erf), `gelu_tanh` is the tanh approximation of GPT-2 and Flax's default, and
    `quick_gelu` is x σ(1.702 x) (Hendrycks & Gimpel, 2016).

    >>> activation("relu")(jax.numpy.array([-1.0, 2.0])).tolist()
    [0.0, 2.0]

    Raises:
      RequestError: the name is unknown.
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
    """x Φ(x) by erf.  `jax.nn.gelu` uses erfc, which is more precise where x Φ(x) is close to 0 but slower on a CPU."""
    return 0.5 * x * (1 + jax.lax.erf(x * math.sqrt(0.5)))
