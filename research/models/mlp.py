"""The multilayer perceptron: affine maps with a non-linearity between them (Rumelhart, Hinton & Williams, 1986)."""

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
    """Dense layers of the given widths, then `classes` outputs.

    Each hidden layer is dense → norm → activation → dropout; with `residual`, its input is added to what it gives
    wherever the widths agree.

    Attributes:
      widths: features of each hidden layer; () is a linear model.
      classes: outputs: the classes of a classifier, 1 for a regression on one number.
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
        """[batch, ...] → [batch, classes]; what follows the first axis is flattened."""
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
