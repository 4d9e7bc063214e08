"""The base class of tasks: frozen values of pure functions that connect batches, models and metrics."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

import jax
import numpy as np

from research.config.inherited import describe_inherited
from research.data.source import Source, chunks, column, first_example
from research.errors import RequestError, nearest
from research.metrics import directions
from research.metrics.directions import Direction

Batch = Mapping[str, Any]
"""Arrays with a leading axis `example`: the columns of the data; `weight`, float32 [batch], 0 for padding examples; and
`key`, one random key per example (research/tasks/randomness.py).

If the source has shared columns, `batch["shared"]` holds them by name, without an axis of examples.
"""

Apply = Callable[..., Any]
"""The model with its variables bound: `apply(**task.inputs(batch), train=...)`.

In training it also has dropout keys, and collections that the model updates (batch statistics) are kept for the next
step.  `apply(..., mutable=["losses"])` also returns the values that the model sows there.
"""

Terms = dict[str, tuple[jax.Array, jax.Array]]
"""{name: (weighted sum, sum of weights)}; divided once, after summing over micro-batches and devices."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
    """Maps a batch to a model's arguments, and the model's outputs to losses, metrics and predictions.

    A subclass defines `inputs`, `loss`, `eval_outputs`, `finalize` and `predict`.

    >>> @dataclasses.dataclass(frozen=True, kw_only=True)
    ... class MeanSquaredError(Task):
    ...     better = {"loss": "min"}
    ...
    ...     def inputs(self, batch):
    ...         return {"x": batch["features"]}
    ...
    ...     def loss(self, apply, batch):
    ...         error = apply(**self.inputs(batch), train=True)[:, 0] - batch["target"]
    ...         return {"loss": weighted(error**2, batch["weight"])}
    ...
    ...     def eval_outputs(self, apply, batch):
    ...         return {"error": apply(**self.inputs(batch), train=False)[:, 0] - batch["target"]}
    ...
    ...     def finalize(self, outputs):
    ...         return {"loss": float((outputs["error"] ** 2).mean())}
    ...
    ...     def predict(self, apply, batch):
    ...         return {"target": apply(**self.inputs(batch), train=False)[:, 0]}
    >>> direction(MeanSquaredError(), "validation/loss")
    'min'

    Attributes:
      better: the better direction of each metric, "min" or "max", by name or by pattern ("top_*_accuracy").  A metric
        without a direction is reported, but cannot be used for selection.
      headline: names or patterns of the metrics that a table shows, if the task has too many for one; () shows all.
    """

    better: ClassVar[Mapping[str, Direction]] = {}
    headline: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        describe_inherited(cls)

    def inputs(self, batch: Batch) -> dict[str, jax.Array]:
        """Returns the model's arguments for a batch by name, including masks and segments.

        An array whose name is not an argument of the model becomes its first argument
        (`research.models.model.arguments`).
        """
        raise _missing(self, "inputs")

    def loss(self, apply: Apply, batch: Batch) -> Terms:
        """Returns the terms of the training loss.  "loss" and every "loss/…" are divided by their weights, summed and
        differentiated; other terms are only reported.

        Weights may depend on the parameters (such as assignments made in the step), but are never differentiated.
        """
        raise _missing(self, "loss")

    def eval_outputs(self, apply: Apply, batch: Batch) -> dict[str, jax.Array]:
        """Returns per-example outputs with a leading axis `example`, which `finalize` gets for the whole split."""
        raise _missing(self, "eval_outputs")

    def finalize(self, outputs: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Computes the metrics of a split on the host, from the outputs of all its examples without padding."""
        raise _missing(self, "finalize")

    def predict(self, apply: Apply, batch: Batch) -> dict[str, jax.Array]:
        """Returns predictions for each example, for users of the trained model."""
        raise _missing(self, "predict")

    def exhibits(self, outputs: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """Returns exhibits by name (research/evaluation/exhibits.py) on the host, from the outputs of the split."""
        return {}

    def scoring(self) -> dict[str, str]:
        """Describes how metrics are computed, by name, for result.json; only for metrics whose name is not enough."""
        return {}

    def beside(self, task: Task) -> Task:
        """Returns this task of an evaluation, with the fields that it takes from the experiment's `task`."""
        return self

    def check_model(self, model: Any) -> None:
        """Raises RequestError for a model that this task cannot train, as far as its fields tell."""

    def check_examples(self, source: Source, split: str) -> None:
        """Raises RequestError for data that this task cannot use: a missing column, or a label outside the classes."""

    def check_batch(self, first: Callable[[], Batch]) -> None:
        """Raises RequestError for values that this task cannot use; `first()` gives the first training examples as
        preprocessing leaves them.
        """


def direction(task: Task, metric: str) -> Direction | None:
    """The direction that a task declares for a metric such as "loss" or "validation/loss"; None if it declares none."""
    return directions.direction(task.better, metric)


def require_direction(asked: str, task: Task, metric: str) -> Direction:
    """The direction of a metric that is used for selection.

    Raises:
      RequestError: the task declares no direction; the message begins with `asked`.
    """
    found = direction(task, metric)
    if found is None:
        name, kind = metric.rpartition("/")[2], type(task).__name__
        known = nearest(name, task.better)
        raise RequestError(
            f"{asked}: {kind} does not declare whether a lower or higher {name} is better; {known}, or declare it: "
            f'better = {{"{name}": "min"}}'
        )
    return found


def metrics_of(task: Task, outputs: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Computes a task's metrics from the outputs of a split.

    Raises:
      RequestError: a metric is not a number; arrays and texts belong into exhibits.
    """
    metrics = task.finalize(outputs)
    for name, value in metrics.items():
        if np.ndim(value) != 0 or np.asarray(value).dtype.kind not in "biuf":
            kind = f"an array {list(np.shape(value))}" if np.ndim(value) else f"a {type(value).__name__}"
            raise RequestError(
                f"task: finalize gives {kind} for the metric {name!r}; expected a number (return arrays and texts from "
                "exhibits())"
            )
    return {name: float(value) for name, value in metrics.items()}


def weighted(values: jax.Array, weight: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns a term of the loss: (sum of values · weight, sum of weights); weights are not differentiated.

    >>> total, weight = weighted(jnp.array([1.0, 3.0, 9.0]), jnp.array([1.0, 1.0, 0.0]))
    >>> float(total), float(weight)
    (4.0, 2.0)
    """
    weight = jax.lax.stop_gradient(weight)
    return (values * weight).sum(), weight.sum()


def _missing(task: Task, method: str) -> TypeError:
    return TypeError(f"{type(task).__name__} does not define {method}")


def require_columns(source: Source, split: str, **fields: str) -> None:
    """Raises RequestError unless the examples have the columns that the task's fields name."""
    columns = first_example(source)
    for field, name in fields.items():
        if name not in columns:
            hint = nearest(name, columns) + _other_target_type(name, columns)
            raise RequestError(f"task.{field}={name!r}: the {split} split has no such column; {hint}")


def _other_target_type(name: str, columns: Iterable[str]) -> str:
    """Returns the end of an error about a Table that holds numbers in place of classes, or classes for numbers."""
    if name == "label" and "target" in columns:
        return "; if the data are a Table, data.target_type='class' reads its target as classes"
    if name == "target" and "label" in columns:
        return "; if the data are a Table, data.target_type='number' reads its target as numbers"
    return ""


def whole_column(source: Source, name: str) -> np.ndarray:
    """Returns one column of all examples, [example, ...]; decodes it if necessary."""
    found = column(source, name)
    return np.concatenate([chunk[name] for chunk in chunks(source)]) if found is None else found
