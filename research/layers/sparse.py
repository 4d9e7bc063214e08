"""Features of which most are 0, such as the words of a text, and a dense layer on them."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from research.layers.dtypes import DType, param_dtype


class SparseFeatures(NamedTuple):
    """Features by the values that are not 0.

    Attributes:
      values: [..., values]; padding is 0.
      columns: the feature that each value belongs to, int [..., values]; padding is `width`.
      width: the number of features.
    """

    values: jax.Array
    columns: jax.Array
    width: int

    @property
    def shape(self) -> tuple[int, ...]:
        return (*self.values.shape[:-1], self.width)

    def dense(self) -> jax.Array:
        """The features as [..., width].

        >>> SparseFeatures(jnp.array([[5.0, 2.0]]), jnp.array([[3, 0]]), 4).dense().tolist()
        [[2.0, 0.0, 0.0, 5.0]]
        """
        values, columns = (x.reshape(-1, x.shape[-1]) for x in (self.values, self.columns))
        rows = jnp.arange(len(values))[:, None]
        found = jnp.zeros((len(values), self.width), values.dtype).at[rows, columns].add(values, mode="drop")
        return found.reshape(self.shape)


def as_dense(x: jax.Array | SparseFeatures, dtype: DType) -> jax.Array:
    """The features as one array."""
    return (x.dense() if isinstance(x, SparseFeatures) else x).astype(dtype)


class Linear(nn.Module):
    """x W without a bias, for arrays [..., features] or sparse features, with the parameters of a dense layer."""

    width: int
    init: nn.initializers.Initializer
    dtype: DType = "float32"

    @nn.compact
    def __call__(self, x: jax.Array | SparseFeatures) -> jax.Array:
        shape = (x.shape[-1], self.width)
        kernel = self.param("kernel", self.init, shape, param_dtype(self.dtype)).astype(self.dtype)
        if not isinstance(x, SparseFeatures):
            return x.astype(self.dtype) @ kernel
        rows = kernel.at[x.columns].get(mode="clip")
        return jnp.einsum("...k,...ko->...o", x.values.astype(self.dtype), rows)
