"""One label per example: cross-entropy or focal loss; accuracy, top-k accuracy, calibration error."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax

from research.config.hparams import hparam
from research.data.labels import is_soft, probabilities
from research.data.source import Source, where
from research.errors import RequestError
from research.evaluation.exhibits import ConfusionMatrix, Exhibit, Reliability
from research.metrics.calibration import expected_calibration_error, reliability
from research.metrics.ranking import rank
from research.tasks.task import Apply, Batch, Direction, Task, Terms, require_columns, weighted, whole_column
from research.tasks.views import views

CONFUSED = 1000
"""Classes up to which an evaluation counts which were taken for which: the matrix grows with their square."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Classification(Task):
    """Classification of one input array into `classes`.

    Attributes:
      classes: number of classes; the model gives logits [batch, classes].
      input, label: the batch's columns; labels are int32 [batch], 0 to classes - 1, or probabilities [batch, classes].
      length: the column that says how many steps of a sequence are not padding, int [batch], where the model takes
        them as `mask` [batch, steps]; None where examples are of one length.
      token: of a language model, which gives logits [batch, length, classes], the token whose logits are the answer (-1
        is the last); None where the model gives a row of logits an example.
      label_smoothing: share of the target spread evenly over all classes (Szegedy et al., 2016).
      objective: "cross_entropy", or "focal": cross-entropy times (1 - p of the label)^focal_gamma (Lin et al., 2017).
      mirrored: evaluations and predictions average the logits of an image and of its mirror image.
      moved: they average, half and half, those of the image in place and of it moved by as many pixels up, down, left
        and right, at five times the cost; 0 for none.  Preprocessing should leave the background 0.
      top_k: further accuracies to report, such as (5,).
      calibration_bins: equal bins of confidence for the expected calibration error (Guo et al., 2017).
    """

    better: ClassVar[Mapping[str, Direction]] = {
        "loss": "min", "accuracy": "max", "top_*_accuracy": "max", "calibration_error": "min",
    }  # fmt: skip

    classes: int
    input: str = "image"
    label: str = "label"
    length: str | None = None
    token: int | None = None
    label_smoothing: float = hparam(0.0)
    objective: Literal["cross_entropy", "focal"] = "cross_entropy"
    focal_gamma: float = hparam(2.0)
    mirrored: bool = False
    moved: int = 0
    top_k: tuple[int, ...] = ()
    calibration_bins: int = 15

    def check(self) -> None:
        if self.classes < 2:
            raise RequestError(f"classes={self.classes}: expected at least 2")
        if not 0 <= self.label_smoothing < 1:
            raise RequestError(f"label_smoothing={self.label_smoothing}: expected 0 <= label_smoothing < 1")
        if self.focal_gamma < 0:
            raise RequestError(f"focal_gamma={self.focal_gamma}: expected 0 or more")
        if self.moved < 0:
            raise RequestError(f"moved={self.moved}: expected pixels, 0 or more")
        if self.calibration_bins < 1:
            raise RequestError(f"calibration_bins={self.calibration_bins}: expected at least 1")
        for k in self.top_k:
            if not 1 <= k <= self.classes:
                raise RequestError(f"top_k={k}: expected 1 to the {self.classes} classes")

    def check_examples(self, source: Source, split: str) -> None:
        lengths = {} if self.length is None else {"length": self.length}
        require_columns(source, split, input=self.input, label=self.label, **lengths)
        labels = whole_column(source, self.label)
        if labels.dtype.kind == "f":
            self._check_probabilities(labels, source, split)
            return
        if labels.ndim != 1:
            raise RequestError(
                f"{split} split: {self.label} is {labels.dtype} {list(labels.shape[1:])} per example; expected one"
                + (" (drop the last axis)" if labels.shape[1:] == (1,) else "")
                + (" (for classes one-hot, floats, or the argmax)" if labels.shape[1:] == (self.classes,) else "")
            )
        outside = np.flatnonzero((labels < 0) | (labels >= self.classes))
        if outside.size:
            i = int(outside[0])
            raise RequestError(
                f"{split} split, {where(source, i)}: {self.label} {labels[i]} is outside 0 to {self.classes - 1} "
                f"(task.classes={self.classes}), as are {outside.size} of {len(labels)} examples"
            )

    def _check_probabilities(self, labels: np.ndarray, source: Source, split: str) -> None:
        if labels.shape[1:] != (self.classes,):
            raise RequestError(
                f"{split} split: {self.label} is {labels.dtype} {list(labels.shape[1:])} per example; expected an "
                f"integer, or a probability for each of the {self.classes} classes"
            )
        bad = np.flatnonzero((labels.min(-1) < 0) | (np.abs(labels.sum(-1) - 1) > 1e-3))
        if bad.size:
            i = int(bad[0])
            raise RequestError(
                f"{split} split, {where(source, i)}: {self.label} is no distribution (least {labels[i].min():g}, sum "
                f"{labels[i].sum():g}), as in {bad.size} of {len(labels)} examples"
            )

    def inputs(self, batch: Batch) -> dict[str, jax.Array]:
        if self.length is None:
            return {"x": batch[self.input]}
        mask = batch[self.length][:, None] > jnp.arange(batch[self.input].shape[1])
        return {"x": batch[self.input], "mask": mask}

    def _logits(self, apply: Apply, batch: Batch, **kwargs: Any) -> jax.Array:
        """[batch, classes], in float32 or wider."""
        logits = apply(**self.inputs(batch), **kwargs)
        if self.token is not None:
            if logits.ndim != 3 or not -logits.shape[1] <= self.token < logits.shape[1]:
                raise RequestError(
                    f"task.token={self.token}: the model gives logits {list(logits.shape)}; "
                    "expected [batch, length, classes] with such a token, or token=none"
                )
            logits = logits[:, self.token]
        if logits.shape[-1] != self.classes:
            raise RequestError(
                f"task.classes={self.classes}: the model gives {logits.shape[-1]} logits; make them equal"
            )
        return logits.astype(jnp.promote_types(logits.dtype, jnp.float32))

    def _eval_logits(self, apply: Apply, batch: Batch) -> jax.Array:
        """[batch, classes], without dropout and the like: the average over the views of an image."""
        if not self.mirrored and not self.moved:
            return self._logits(apply, batch, train=False)
        images = batch[self.input]
        if images.ndim != 4:
            asked = "mirrored=true" if self.mirrored else f"moved={self.moved}"
            given = f"{self.input} of shape {list(images.shape[1:])}"
            raise RequestError(f"task.{asked}: {given}; expected images [height, width, channels]")
        return sum(
            share * self._logits(apply, {**batch, self.input: view}, train=False)
            for share, view in views(images, mirrored=self.mirrored, moved=self.moved)
        )

    def loss(self, apply: Apply, batch: Batch) -> Terms:
        logits = self._logits(apply, batch, train=True)
        labels = probabilities(batch[self.label], self.classes).astype(logits.dtype)
        # Of a mixed label, the share that the guess has in it.
        correct = jnp.take_along_axis(labels, jnp.argmax(logits, -1)[:, None], axis=-1)[:, 0]
        weight = batch["weight"]
        return {"loss": weighted(self._losses(logits, labels), weight), "accuracy": weighted(correct, weight)}

    def _losses(self, logits: jax.Array, labels: jax.Array) -> jax.Array:
        """The objective of each example, [batch], from probabilities [batch, classes]."""
        losses = optax.softmax_cross_entropy(logits, optax.smooth_labels(labels, self.label_smoothing))
        if self.objective == "focal":
            losses *= (1 - (jax.nn.softmax(logits) * labels).sum(-1)) ** self.focal_gamma
        return losses

    def eval_outputs(self, apply: Apply, batch: Batch) -> dict[str, jax.Array]:
        """Loss, rank of the label, confidence, label and predicted class of each example, all [batch].

        The likeliest class of a soft label counts as the label.
        """
        logits = self._eval_logits(apply, batch)
        labels = batch[self.label]
        if is_soft(labels):
            losses = optax.softmax_cross_entropy(logits, probabilities(labels, self.classes))
            labels = jnp.argmax(labels, -1)
        else:
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return {
            "loss": losses,
            "rank": rank(logits, labels),
            "confidence": jax.nn.softmax(logits).max(-1),
            "label": labels,
            "predicted": jnp.argmax(logits, -1),
        }

    def finalize(self, outputs: Mapping[str, np.ndarray]) -> dict[str, float]:
        correct = outputs["rank"] == 0
        metrics = {
            "loss": float(np.mean(outputs["loss"], dtype=np.float64)),
            "accuracy": float(correct.mean()),
            "calibration_error": expected_calibration_error(outputs["confidence"], correct, self.calibration_bins),
        }
        return metrics | {f"top_{k}_accuracy": float((outputs["rank"] < k).mean()) for k in self.top_k}

    def exhibits(self, outputs: Mapping[str, np.ndarray]) -> dict[str, Exhibit]:
        """{"reliability": Reliability, "confusion": ConfusionMatrix, up to `CONFUSED` classes}."""
        bins = reliability(outputs["confidence"], outputs["rank"] == 0, self.calibration_bins)
        found: dict[str, Exhibit] = {"reliability": Reliability(*bins)}
        if self.classes <= CONFUSED:
            found["confusion"] = ConfusionMatrix.of(outputs["label"], outputs["predicted"], self.classes)
        return found

    def predict(self, apply: Apply, batch: Batch) -> dict[str, jax.Array]:
        """{"label": int32 [batch], "probability": [batch, classes]}."""
        logits = self._eval_logits(apply, batch)
        return {"label": jnp.argmax(logits, -1), "probability": jax.nn.softmax(logits)}
