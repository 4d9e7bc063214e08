"""Reads features of a trained classifier: the input of its head.

from research.inference import features, load

found, logits = features(load("runs/fashion_mnist_cnn/base"), images)
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from flax import linen as nn

from research.data.batches import in_batches
from research.errors import RequestError, nearest
from research.inference.predictor import Predictor


def features(
    predictor: Predictor, raw: np.ndarray, *, layer: str | None = None, batch_size: int = 512
) -> tuple[np.ndarray, np.ndarray]:
    """Returns (the input of a layer, the output of the model), both [example, ...], for raw inputs.

    Args:
      raw: one array [example, ...] of the task's input, as `predictor.predict` takes.
      layer: the name of a layer of the model; None means the last dense one, its head.

    Raises:
      RequestError: the model has no such layer.
    """
    model = predictor.model

    @jax.jit
    def compute(variables: Any, inputs: dict[str, jax.Array]) -> tuple[jax.Array, jax.Array]:
        seen: dict[str, jax.Array] = {}
        dense: list[str] = []

        def keep(call, args, kwargs, context):
            path = context.module.path
            if len(path) == 1 and args:
                seen[path[0]] = args[0]
                dense.extend(path if isinstance(context.module, nn.Dense) else ())
            return call(*args, **kwargs)

        with nn.intercept_methods(keep):
            output = model.apply(variables, **inputs)
        name = dense[-1] if layer is None and dense else layer
        if name not in seen:
            raise RequestError(f"layer={name!r}: no such layer of {type(model).__name__}; {nearest(str(name), seen)}")
        return seen[name], output

    def of(rows: np.ndarray) -> tuple[jax.Array, jax.Array]:
        return compute(predictor.variables, predictor.inputs(raw[rows]))

    found, output = in_batches(of, len(raw), batch_size)
    return found.reshape(len(found), -1), output
