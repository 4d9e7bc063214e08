"""The base of the tasks: a frozen value of pure functions between a batch, a model and numbers."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import jax
import numpy as np

from research.data.source import Source, chunks, column, like
from research.errors import RequestError, nearest
from research.metrics import directions
from research.metrics.directions import Direction

Batch = Mapping[str, Any]
"""Arrays with a leading axis `example`: the columns of the data; `weight`, float32 [batch], 0 where an example is
padding; and `key`, a random key for each example (research/tasks/randomness.py).

`batch["shared"]`, where a source has shared columns, holds arrays by name that have no axis of examples.
"""

Apply = Callable[..., Any]
"""The model with its variables bound: `apply(**task.inputs(batch), train=...)`.

In training it has the keys of dropout, and the collections that the model updates (batch statistics) are kept for the
next step.  `apply(..., mutable=["losses"])` also returns what the model sows there.
"""

Terms = dict[str, tuple[jax.Array, jax.Array]]
"""{name: (weighted sum, sum of weights)}: divided once, after summing over micro-batches and devices."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
    """Maps a batch to a model's arguments, and the model's outputs to losses, metrics and predictions.

    A subclass gives `inputs`, `loss`, `eval_outputs`, `finalize` and `predict`.

    Attributes:
      better: the direction of each metric, "min" or "max", by name or by pattern ("top_*_accuracy").  A metric without
        a direction is reported, but nothing can be selected by it.
    """

    better: ClassVar[Mapping[str, Direction]] = {}

    def inputs(self, batch: Batch) -> dict[str, jax.Array]:
        """The model's arguments for this batch by name, masks and segments included.

        An array whose name the model has no argument for becomes the model's first argument
        (`research.models.model.arguments`).
        """
        raise _missing(self, "inputs")

    def loss(self, apply: Apply, batch: Batch) -> Terms:
        """Training terms.  "loss" and every "loss/…" are added up, each divided by its weight, and differentiated.

        The other terms are reported beside them.  Weights may depend on the parameters (assignments made in the step);
        they are never differentiated.
        """
        raise _missing(self, "loss")

    def eval_outputs(self, apply: Apply, batch: Batch) -> dict[str, jax.Array]:
        """Per-example outputs, each with the leading axis `example`: what `finalize` needs of the whole split."""
        raise _missing(self, "eval_outputs")

    def finalize(self, outputs: Mapping[str, np.ndarray]) -> dict[str, float]:
        """The metrics of a split from the outputs of every example of it, padding removed; on the host."""
        raise _missing(self, "finalize")

    def predict(self, apply: Apply, batch: Batch) -> dict[str, jax.Array]:
        """Predictions for each example, for a user of the trained model."""
        raise _missing(self, "predict")

    def exhibits(self, outputs: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """Exhibits by name (research/evaluation/exhibits.py), from the same outputs as `finalize`; on the host."""
        return {}

    def scoring(self) -> dict[str, str]:
        """How metrics are computed, by name, for result.json: where the name alone does not say it."""
        return {}

    def check_examples(self, source: Source, split: str) -> None:
        """Refuses data that this task cannot learn from: a missing column, a label outside the classes."""


def direction(task: Task, metric: str) -> Direction | None:
    """The direction that a task declares for a metric, "loss" or "validation/loss"; None where it declares none."""
    return directions.direction(task.better, metric)


def require_direction(asked: str, task: Task, metric: str) -> Direction:
    """The direction of a metric to select by; a RequestError that begins with `asked` where the task declares none."""
    found = direction(task, metric)
    if found is None:
        name, kind = metric.rpartition("/")[2], type(task).__name__
        known = nearest(name, task.better)
        raise RequestError(
            f"{asked}: {kind} does not say which way {name} is better; {known}, or declare it: "
            f'better = {{"{name}": "min"}}'
        )
    return found


def metrics_of(task: Task, outputs: Mapping[str, np.ndarray]) -> dict[str, float]:
    """The metrics that a task gives for the outputs of a split.

    Raises:
      RequestError: a metric is no number; arrays and texts are exhibits.
    """
    metrics = task.finalize(outputs)
    for name, value in metrics.items():
        if np.ndim(value) != 0 or np.asarray(value).dtype.kind not in "biuf":
            kind = f"an array {list(np.shape(value))}" if np.ndim(value) else f"a {type(value).__name__}"
            raise RequestError(
                f"task: finalize gives {kind} for the metric {name!r}; expected a number (what a person looks at "
                "comes from exhibits())"
            )
    return {name: float(value) for name, value in metrics.items()}


def weighted(values: jax.Array, weight: jax.Array) -> tuple[jax.Array, jax.Array]:
    """A term of the loss: (sum of values · weight, sum of weights); the weights are not differentiated."""
    weight = jax.lax.stop_gradient(weight)
    return (values * weight).sum(), weight.sum()


def _missing(task: Task, method: str) -> TypeError:
    return TypeError(f"{type(task).__name__} does not define {method}")


def require_columns(source: Source, split: str, **fields: str) -> None:
    """Raises RequestError unless the examples have the column that each field of the task names."""
    columns = like(source)
    for field, name in fields.items():
        if name not in columns:
            raise RequestError(f"task.{field}={name!r}: the {split} split has no such column; {nearest(name, columns)}")


def whole_column(source: Source, name: str) -> np.ndarray:
    """One column of every example, [example, ...]; decodes what has to be decoded."""
    found = column(source, name)
    return np.concatenate([chunk[name] for chunk in chunks(source)]) if found is None else found
