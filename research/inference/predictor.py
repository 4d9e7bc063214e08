"""The `Predictor`: maps raw inputs to predictions in NumPy, with a trained model and its task."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from research.config.brief import brief
from research.data.batches import in_batches
from research.data.labels import class_name
from research.data.transforms import preprocess
from research.errors import RequestError, nearest, require
from research.experiment import Experiment
from research.models.model import arguments, described
from research.tasks.randomness import example_keys
from research.training.step import bound_apply


class Predictor:
    """A trained model, with its variables and the experiment that trained it.

    Attributes:
      experiment: its data encode raw inputs, and its task turns the model's outputs into predictions.
      variables: {"params": …, "batch_stats": …} on the device.
    """

    def __init__(self, experiment: Experiment, variables: Mapping[str, Any], *, origin: str = ""):
        """Moves the variables to the device; `repr` shows `origin` as their source."""
        self.experiment = experiment
        self.variables = jax.device_put(dict(variables))
        self._origin = origin

    def __repr__(self) -> str:
        experiment = self.experiment
        lines = {
            "model": described(experiment.model, self.variables),
            "task": brief(experiment.task),
            "data": brief(experiment.data),
            "from": self._origin,
        }
        return "\n".join(["Predictor", *(f"  {name:6}{line}" for name, line in lines.items() if line)])

    def predict(self, raw: Any, *, seed: int = 0) -> dict[str, np.ndarray]:
        """Predicts with the task for each example: {name: NumPy array [example, ...]}.

        If the data name their classes, "class_name" holds the name of each "label".

        Args:
          raw: one array [example, ...] of the task's input, a dict of columns, or raw examples that the experiment's
            data can encode (rows of a table, paths of images).
          seed: seeds the random numbers of tasks that draw any; those of an example depend on the seed and the
            example's number, not on `eval_batch_size`.

        Raises:
          RequestError: `raw` cannot be encoded, lacks the task's input, or is empty; `seed` is out of range.
        """
        require(0 <= seed < 2**32, f"seed={seed}: expected 0 to 4294967295")
        columns = self._columns(raw)

        def predict(rows: np.ndarray) -> dict[str, jax.Array]:
            part = {name: x if name == "shared" else x[rows] for name, x in columns.items()}
            return self._predict(self.variables, part | {"example": rows.astype(np.int32)}, np.uint32(seed))

        predicted = in_batches(predict, _count(columns), self.experiment.eval_batch_size)
        names = self.experiment.data.class_names
        if names is not None and "label" in predicted:
            predicted["class_name"] = class_name(names, predicted["label"])
        return predicted

    @property
    def model(self) -> nn.Module:
        """The Linen module; run it with `model.apply(predictor.variables, **predictor.inputs(raw))`."""
        return self.experiment.model

    def inputs(self, raw: Any) -> dict[str, jax.Array]:
        """Encodes and preprocesses raw inputs, as `predict` does; returns the model's arguments, masks included."""
        return self.inputs_of(self._columns(raw))

    def inputs_of(self, columns: Mapping[str, Any]) -> dict[str, jax.Array]:
        """Preprocesses columns [example, ...] of the data set; returns the model's arguments, masks included."""
        numbers = jnp.arange(_count(columns))
        batch = {**columns, "key": example_keys(jax.random.key(0), numbers)}
        batch = preprocess(self.experiment.preprocess, batch, partial=True)
        return jax.tree.map(jnp.asarray, arguments(self.model, self.experiment.task.inputs(batch)))

    def _columns(self, raw: Any) -> dict[str, np.ndarray]:
        """Encodes the user's input as columns [example, ...] for the task."""
        if hasattr(raw, "shape") and hasattr(self.experiment.task, "input"):
            raw = {self.experiment.task.input: raw}
        columns = self.experiment.data.encode(raw)
        needed = getattr(self.experiment.task, "input", None)
        made = {transform.makes for transform in self.experiment.preprocess if transform.field in columns}
        if needed is not None and needed not in columns.keys() | made:
            raise RequestError(f"the input has no column {needed!r}; {nearest(needed, columns)}")
        if _count(columns) == 0:
            raise RequestError("the input is empty: expected at least one example")
        return columns

    @functools.cached_property
    def _predict(self) -> Any:
        experiment = self.experiment

        @jax.jit
        def predict(variables: Any, columns: Any, seed: jax.Array) -> dict[str, jax.Array]:
            batch = {**columns, "key": example_keys(jax.random.key(seed), columns["example"])}
            batch = preprocess(experiment.preprocess, batch, partial=True)
            return experiment.task.predict(bound_apply(experiment.model, variables), batch)

        return predict


def _count(columns: Mapping[str, Any]) -> int:
    """The number of examples; shared columns, which have no example axis, are skipped."""
    return len(next(x for name, x in columns.items() if name != "shared"))
