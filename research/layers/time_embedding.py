"""Embeds the time of a diffusion process for a denoising network (Ho et al., 2020)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import linen as nn

from research.errors import require
from research.layers.activations import Activation, activation
from research.layers.dense import dense
from research.layers.dtypes import param_dtype
from research.layers.positions import sinusoidal


class TimeEmbedding(nn.Module):
    """Sines and cosines of times [batch], then an MLP with one hidden layer: [batch, width].

    >>> embedding = TimeEmbedding(width=16, waves=8)
    >>> y, _ = embedding.init_with_output(jax.random.key(0), jnp.array([0.0, 999.0]))
    >>> y.shape
    (2, 16)

    Attributes:
      width: the features of the hidden layer and of the output.
      waves: the number of sines and cosines together.
      cosine_first: put the cosines before the sines.
      shift: 1 makes the lowest frequency exactly 1 / 10,000; see `research.layers.positions.sinusoidal`.
    """

    width: int
    waves: int
    cosine_first: bool = False
    shift: float = 1.0
    activation: Activation = "silu"
    dtype: str = "float32"

    @nn.compact
    def __call__(self, time: jax.Array) -> jax.Array:
        x = sinusoidal(time, self.waves, interleaved=False, shift=self.shift)
        x = jnp.roll(x, self.waves // 2, axis=-1) if self.cosine_first else x
        init = nn.initializers.normal(0.02)
        x = dense(self.width, dtype=self.dtype, init=init, name="up")(x)
        return dense(self.width, dtype=self.dtype, init=init, name="out")(activation(self.activation)(x))


def class_embedding(classes: int, null_class: bool, width: int, *, dtype: str, name: str) -> nn.Embed:
    """A table with a vector of `width` features for each class and, if `null_class`, a last one for no class."""
    init = nn.initializers.normal(0.02)
    rows = classes + null_class
    return nn.Embed(rows, width, dtype=dtype, param_dtype=param_dtype(dtype), embedding_init=init, name=name)


def check_labels(model: str, classes: int | None, null_class: bool, label: jax.Array | None) -> None:
    """Checks that labels are given to a model with classes, unless it has a null class, and to no other.

    Raises:
      RequestError: names the `model` and what it needs.
    """
    require(classes is not None or label is None, f"label: {model} with classes=none takes no labels")
    require(
        classes is None or null_class or label is not None,
        f"label: {model} with classes={classes} and without a null class needs labels",
    )
