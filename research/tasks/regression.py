"""Regression: squared, absolute or Huber error on standardised targets; metrics in the target's own units."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import ClassVar, Literal, Self

import jax
import jax.numpy as jnp
import numpy as np
import optax

from research.config.hparams import hparam
from research.data.source import Source
from research.errors import RequestError
from research.tasks.task import Apply, Batch, Direction, Task, Terms, require_columns, weighted, whole_column


@dataclasses.dataclass(frozen=True, kw_only=True)
class Regression(Task):
    """Predicts one or more numbers per example.

    The model learns (target - shift) / scale.  Predictions and metrics are in the target's own units.

    >>> task = Regression(shift=10.0, scale=2.0)
    >>> outputs = {"predicted": np.array([[9.0], [13.0]]), "target": np.array([[10.0], [12.0]])}
    >>> task.finalize(outputs)
    {'mse': 1.0, 'rmse': 1.0, 'mae': 1.0, 'r2': 0.0}

    Training term: "loss", the objective on standardised targets.  Metrics: "mse" in squared units of the target, "rmse"
    and "mae" in its units, and "r2", the fraction of variance explained.

    Attributes:
      input: the input column.
      target: the target column, float32 [batch] or [batch, outputs].
      objective: "mse", "mae", or "huber": quadratic up to `huber_delta` standard deviations, linear beyond.
      huber_delta: where the Huber loss becomes linear.
      shift: subtracted from targets; None takes the mean of the training targets.
      scale: divides targets; None takes the standard deviation of the training targets.
    """

    better: ClassVar[Mapping[str, Direction]] = {
        "loss": "min", "mse": "min", "rmse": "min", "mae": "min", "r2": "max",
    }  # fmt: skip

    input: str = "features"
    target: str = "target"
    objective: Literal["mse", "mae", "huber"] = "mse"
    huber_delta: float = hparam(1.0)
    shift: float | None = hparam(None)
    scale: float | None = hparam(None)

    def check(self) -> None:
        if not self.huber_delta > 0:
            raise RequestError(f"huber_delta={self.huber_delta}: expected a number above 0")
        if self.scale is not None and not self.scale > 0:
            raise RequestError(f"scale={self.scale}: expected a number above 0, or none to use the training targets")

    def check_examples(self, source: Source, split: str) -> None:
        require_columns(source, split, input=self.input, target=self.target)

    def fit(self, train: Source) -> Self:
        """Sets `shift` and `scale` from the training targets where they are None."""
        targets = whole_column(train, self.target).astype(np.float64)
        return dataclasses.replace(
            self,
            shift=float(targets.mean()) if self.shift is None else self.shift,
            scale=float(targets.std() or 1.0) if self.scale is None else self.scale,
        )

    def inputs(self, batch: Batch) -> dict[str, jax.Array]:
        """Returns {"x": inputs}."""
        return {"x": batch[self.input]}

    def _scaled(self, batch: Batch, like: jax.Array) -> jax.Array:
        target = batch[self.target].reshape(like.shape).astype(like.dtype)
        return (target - self.shift) / self.scale

    def loss(self, apply: Apply, batch: Batch) -> Terms:
        """Returns the term "loss"."""
        outputs = apply(**self.inputs(batch), train=True)
        outputs = outputs.astype(jnp.promote_types(outputs.dtype, jnp.float32))
        losses, weight = self._losses(outputs - self._scaled(batch, outputs)), batch["weight"]
        return {"loss": weighted(losses.reshape(len(weight), -1).mean(-1), weight)}

    def _losses(self, error: jax.Array) -> jax.Array:
        """The objective of each error on standardised targets."""
        return {
            "mse": lambda: error**2,
            "mae": lambda: jnp.abs(error),
            "huber": lambda: optax.huber_loss(error, delta=self.huber_delta),
        }[self.objective]()

    def eval_outputs(self, apply: Apply, batch: Batch) -> dict[str, jax.Array]:
        """Returns {"predicted", "target"}, each [batch, outputs] in the target's own units."""
        predicted = self.predict(apply, batch)["target"]
        return {"predicted": predicted, "target": batch[self.target].reshape(predicted.shape)}

    def finalize(self, outputs: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Returns "mse", "rmse", "mae" and "r2"; see the class."""
        predicted, target = (np.asarray(outputs[key], np.float64) for key in ("predicted", "target"))
        mse = float(np.mean((predicted - target) ** 2))
        variance = float(np.mean((target - target.mean(0)) ** 2))
        return {
            "mse": mse,
            "rmse": mse**0.5,
            "mae": float(np.abs(predicted - target).mean()),
            "r2": 1 - mse / variance if variance else 0.0,
        }

    def predict(self, apply: Apply, batch: Batch) -> dict[str, jax.Array]:
        """Returns {"target": [batch, outputs]} in the target's own units."""
        outputs = apply(**self.inputs(batch), train=False)
        outputs = outputs.astype(jnp.promote_types(outputs.dtype, jnp.float32))
        return {"target": outputs * self.scale + self.shift}
