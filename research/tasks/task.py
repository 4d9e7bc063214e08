"""What every task is: a frozen value of pure functions between a batch, a model and numbers."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from research.data.source import Source, chunks, column, like
from research.errors import RequestError, nearest

Batch = Mapping[str, jax.Array]
"""Arrays with a leading axis `example`, and `weight` float32 [batch]: 0 where an example is padding."""

Apply = Callable[..., Any]
"""The model with its variables bound: `apply(*inputs, train=..., rngs=...)`.

Updated collections (batch statistics) are kept for the next step by whoever bound it.
"""

Terms = dict[str, tuple[jax.Array, jax.Array]]
"""{name: (weighted sum, sum of weights)}: divided once, after summing over micro-batches and devices."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
    """Maps a batch to a model's arguments, and what the model gives to losses, metrics and predictions.

    A subclass gives `init_inputs`, `loss`, `eval_outputs`, `finalize` and `predict`.
    """

    def init_inputs(self, batch: Batch) -> tuple[jax.Array, ...]:
        """The model's positional arguments for this batch."""
        raise _missing(self, "init_inputs")

    def loss(self, apply: Apply, batch: Batch, rngs: Mapping[str, jax.Array]) -> Terms:
        """Training terms.  "loss" and every "loss/…" are added up, each divided by its weight, and differentiated.

        The other terms are reported beside them.  Weights must not depend on the parameters.
        """
        raise _missing(self, "loss")

    def eval_outputs(self, apply: Apply, batch: Batch) -> dict[str, jax.Array]:
        """Per-example outputs, each with the leading axis `example`: what `finalize` needs of the whole split."""
        raise _missing(self, "eval_outputs")

    def finalize(self, outputs: Mapping[str, np.ndarray]) -> dict[str, float]:
        """The metrics of a split from the outputs of every example of it, padding removed; on the host."""
        raise _missing(self, "finalize")

    def predict(self, apply: Apply, batch: Batch) -> dict[str, jax.Array]:
        """What a user of the trained model wants to know of each example."""
        raise _missing(self, "predict")

    def scoring(self) -> dict[str, str]:
        """What result.json says of how a metric is computed, by its name, where the name is not enough."""
        return {}

    def check_examples(self, source: Source, split: str) -> None:
        """Refuses data that this task cannot learn from: a missing column, a label outside the classes."""


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
