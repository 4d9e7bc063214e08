"""One label per example: cross-entropy or focal loss; accuracy, top-k accuracy, calibration error."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax

from research.data.columns import Source, where
from research.errors import RequestError
from research.hparams import hparam
from research.tasks.task import Apply, Batch, Task, Terms, require_columns, whole_column


@dataclasses.dataclass(frozen=True, kw_only=True)
class Classification(Task):
    """Classification of one input array into `classes`.

    Attributes:
      classes: number of classes; the model gives logits [batch, classes].
      input, label: the batch's columns; labels are int32 [batch], 0 to classes - 1.
      label_smoothing: share of the target spread evenly over all classes (Szegedy et al., 2016).
      objective: "cross_entropy", or "focal": cross-entropy times (1 - p of the label)^focal_gamma (Lin et al., 2017).
      top_k: further accuracies to report, such as (5,).
      calibration_bins: equal bins of confidence for the expected calibration error (Guo et al., 2017).
    """

    classes: int
    input: str = "image"
    label: str = "label"
    label_smoothing: float = hparam(0.0)
    objective: Literal["cross_entropy", "focal"] = "cross_entropy"
    focal_gamma: float = hparam(2.0)
    top_k: tuple[int, ...] = ()
    calibration_bins: int = 15

    def check(self) -> None:
        if self.classes < 2:
            raise RequestError(f"classes={self.classes}: expected at least 2")
        if not 0 <= self.label_smoothing < 1:
            raise RequestError(f"label_smoothing={self.label_smoothing}: expected 0 <= label_smoothing < 1")
        if self.focal_gamma < 0:
            raise RequestError(f"focal_gamma={self.focal_gamma}: expected 0 or more")
        if self.calibration_bins < 1:
            raise RequestError(f"calibration_bins={self.calibration_bins}: expected at least 1")
        for k in self.top_k:
            if not 1 <= k <= self.classes:
                raise RequestError(f"top_k={k}: expected 1 to the {self.classes} classes")

    def check_examples(self, source: Source, split: str) -> None:
        require_columns(source, split, input=self.input, label=self.label)
        labels = whole_column(source, self.label)
        outside = np.flatnonzero((labels < 0) | (labels >= self.classes))
        if outside.size:
            i = int(outside[0])
            raise RequestError(
                f"{split} split, {where(source, i)}: {self.label} {labels[i]} is outside 0 to {self.classes - 1} "
                f"(task.classes={self.classes}), as are {outside.size} of {len(labels)} examples"
            )

    def init_inputs(self, batch: Batch) -> tuple[jax.Array, ...]:
        return (batch[self.input],)

    def _logits(self, apply: Apply, batch: Batch, **kwargs: Any) -> jax.Array:
        """[batch, classes], in float32 or wider."""
        logits = apply(*self.init_inputs(batch), **kwargs)
        if logits.shape[-1] != self.classes:
            raise RequestError(
                f"task.classes={self.classes}: the model gives {logits.shape[-1]} logits; make them equal"
            )
        return logits.astype(jnp.promote_types(logits.dtype, jnp.float32))

    def loss(self, apply: Apply, batch: Batch, rngs: Mapping[str, jax.Array]) -> Terms:
        logits = self._logits(apply, batch, train=True, rngs=rngs)
        weight = batch["weight"]
        losses = self._losses(logits, batch[self.label])
        correct = jnp.argmax(logits, -1) == batch[self.label]
        total = weight.sum()
        return {"loss": ((losses * weight).sum(), total), "accuracy": ((correct * weight).sum(), total)}

    def _losses(self, logits: jax.Array, labels: jax.Array) -> jax.Array:
        """The objective of each example, [batch]."""
        targets = optax.smooth_labels(jax.nn.one_hot(labels, self.classes, dtype=logits.dtype), self.label_smoothing)
        losses = optax.softmax_cross_entropy(logits, targets)
        if self.objective == "focal":
            probability = jnp.take_along_axis(jax.nn.softmax(logits), labels[:, None], axis=-1)[:, 0]
            losses *= (1 - probability) ** self.focal_gamma
        return losses

    def eval_outputs(self, apply: Apply, batch: Batch) -> dict[str, jax.Array]:
        logits = self._logits(apply, batch, train=False)
        labels = batch[self.label]
        of_label = jnp.take_along_axis(logits, labels[:, None], axis=-1)
        others = jnp.arange(logits.shape[-1])
        before = (logits > of_label) | ((logits == of_label) & (others < labels[:, None]))  # as argmax breaks ties
        return {
            "loss": optax.softmax_cross_entropy_with_integer_labels(logits, labels),
            "rank": before.sum(-1),
            "confidence": jax.nn.softmax(logits).max(-1),
        }

    def finalize(self, outputs: Mapping[str, np.ndarray]) -> dict[str, float]:
        correct = outputs["rank"] == 0
        metrics = {
            "loss": float(np.mean(outputs["loss"], dtype=np.float64)),
            "accuracy": float(correct.mean()),
            "calibration_error": expected_calibration_error(outputs["confidence"], correct, self.calibration_bins),
        }
        return metrics | {f"top_{k}_accuracy": float((outputs["rank"] < k).mean()) for k in self.top_k}

    def predict(self, apply: Apply, batch: Batch) -> dict[str, jax.Array]:
        """{"label": int32 [batch], "probability": [batch, classes]}."""
        logits = self._logits(apply, batch, train=False)
        return {"label": jnp.argmax(logits, -1), "probability": jax.nn.softmax(logits)}


def expected_calibration_error(confidence: np.ndarray, correct: np.ndarray, bins: int) -> float:
    """Mean distance between confidence and accuracy over equal-width bins of confidence (Guo et al., 2017, eq. 3)."""
    which = np.minimum((confidence * bins).astype(int), bins - 1)
    error = 0.0
    for b in range(bins):
        inside = which == b
        if inside.any():
            error += inside.mean() * abs(confidence[inside].mean(dtype=np.float64) - correct[inside].mean())
    return float(error)
