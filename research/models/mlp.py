"""The multilayer perceptron: dense layers with a nonlinearity between them (Rumelhart, Hinton & Williams, 1986)."""

from __future__ import annotations

from typing import Literal

import jax
from flax import linen as nn

from research.config.checks import check_counts, check_rates
from research.layers.activations import Activation, activation
from research.layers.dense import dense
from research.layers.dtypes import DType
from research.layers.norms import batch_norm, layer_norm
from research.models.model import Model


class MLP(Model):
    """Maps inputs [batch, ...] to outputs [batch, classes] by dense layers.

    Each hidden layer is dense → norm → activation → dropout.

    >>> model = MLP(widths=(32, 32), classes=10, dropout=0.1)
    >>> variables = model.init(jax.random.key(0), jnp.zeros((1, 8, 8)))
    >>> model.apply(variables, jnp.zeros((4, 8, 8))).shape
    (4, 10)

    Attributes:
      widths: the features of each hidden layer; () gives a linear model.
      classes: the number of outputs: the classes of a classifier, or 1 to predict one number.
      activation: of the hidden layers.
      dropout: the dropout rate after each hidden layer.
      norm: batch norm, layer norm or none after each hidden dense layer.
      residual: add the input of a hidden layer to its output where the shapes agree.
      dtype: of the computation; parameters have at least float32.
    """

    widths: tuple[int, ...]
    classes: int
    activation: Activation = "relu"
    dropout: float = 0.0
    norm: Literal["none", "batch", "layer"] = "none"
    residual: bool = False
    dtype: DType = "float32"

    def check(self) -> None:
        super().check()
        check_counts(self, "widths", "classes")
        check_rates(self, "dropout")

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """Maps [batch, ...] to [batch, classes]; all axes after the first are flattened."""
        x = x.reshape(len(x), -1)
        for width in self.widths:
            y = dense(width, dtype=self.dtype)(x)
            if self.norm == "batch":
                y = batch_norm(train, dtype=self.dtype)(y)
            elif self.norm == "layer":
                y = layer_norm(dtype=self.dtype)(y)
            y = activation(self.activation)(y)
            y = nn.Dropout(self.dropout, deterministic=not train)(y)
            x = x + y if self.residual and x.shape == y.shape else y
        return dense(self.classes, dtype=self.dtype)(x)
