"""Classification, one label per example: cross-entropy or focal loss; accuracy, top-k accuracy, calibration error."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

import jax
import jax.numpy as jnp
import numpy as np
import optax

from research.config.hparams import hparam
from research.console import counted
from research.data.labels import is_soft, probabilities
from research.data.source import Source, where
from research.errors import RequestError
from research.evaluation.exhibits import ConfusionMatrix, Exhibit, Reliability
from research.metrics.calibration import expected_calibration_error, reliability
from research.metrics.ranking import rank
from research.tasks.task import Apply, Batch, Direction, Task, Terms, require_columns, weighted, whole_column
from research.tasks.test_time_augmentation import mirrored_and_moved

CONFUSED = 1000
"""The maximum number of classes for a confusion matrix, whose size grows with their square."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Classification(Task):
    """Assigns one of `classes` to each example.

        Classification(classes=10)
        Classification(classes=1000, label_smoothing=0.1, top_k=(5,))

    >>> task = Classification(classes=10, top_k=(5,))
    >>> outputs = {"loss": np.ones(4), "rank": np.array([0, 0, 3, 7]), "confidence": np.full(4, 0.5)}
    >>> task.finalize(outputs)
    {'loss': 1.0, 'accuracy': 0.5, 'calibration_error': 0.0, 'top_5_accuracy': 0.75}

    Training terms: "loss" and "accuracy".  Metrics: "loss" (mean cross-entropy in nats, without label smoothing or
    focal weights), "accuracy", "calibration_error" and "top_k_accuracy" for every k in `top_k`, all of them fractions.

    Attributes:
      classes: the number of classes; the model returns logits [batch, classes].
      input: the input column.
      label: the label column: int32 [batch] in 0 to classes - 1, or probabilities [batch, classes].
      length: the column with the number of steps of each sequence that are not padding, int [batch]; the model gets
        them as `mask` [batch, steps].  None if all examples have the same length.
      token: for a language model with logits [batch, length, classes], the index of the token whose logits classify the
        example (-1 is the last); None if the model returns one row of logits per example.
      label_smoothing: the share of the target that is spread evenly over all classes (Szegedy et al., 2016).
      class_weights: how much an example of each class counts in the loss, a number per class; "balanced" makes all
        classes count alike: examples / (classes × examples of the class), from the training split (King & Zeng, 2001).
        The loss is divided by the weights of the batch, as PyTorch's is; metrics are never weighted.
      objective: "cross_entropy", or "focal": cross-entropy times (1 - p of the label)^focal_gamma (Lin et al., 2017).
      focal_gamma: the exponent of the focal loss.
      mirrored: evaluations and predictions average the logits of an image and of its mirror image.
      moved: evaluations and predictions average the logits of the image (half the weight) and of its copies shifted by
        this many pixels up, down, left and right, at five times the cost; 0 turns it off.  Preprocessing should map the
        background to 0.
      top_k: the values of k for top-k accuracies to report, such as (5,).
      calibration_bins: the number of equal confidence bins of the expected calibration error (Guo et al., 2017).
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
    class_weights: tuple[float, ...] | Literal["balanced"] | None = None
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
        if isinstance(self.class_weights, tuple):
            given = f"class_weights={self.class_weights}"
            if len(self.class_weights) != self.classes:
                numbers = counted(len(self.class_weights), "number")
                raise RequestError(f"{given:.80}: {numbers}; expected {self.classes}, one for each class")
            if not all(0 <= weight < math.inf for weight in self.class_weights) or not any(self.class_weights):
                raise RequestError(f"{given:.80}: expected numbers of at least 0, not all 0")
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
                + (" (one-hot classes: give floats, or the argmax)" if labels.shape[1:] == (self.classes,) else "")
            )
        outside = np.flatnonzero((labels < 0) | (labels >= self.classes))
        if outside.size:
            i, are = int(outside[0]), "is" if outside.size == 1 else "are"
            raise RequestError(
                f"{split} split, {where(source, i)}: {self.label} {labels[i]} is outside 0 to {self.classes - 1} "
                f"(task.classes={self.classes}), as {are} {outside.size} of {counted(len(labels), 'example')}"
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
                f"{labels[i].sum():g}), as in {bad.size} of {counted(len(labels), 'example')}"
            )

    def fit(self, train: Source) -> Self:
        """Counts the classes of the training split, for balanced weights."""
        if self.class_weights != "balanced":
            return self
        labels = whole_column(train, self.label)
        counts = labels.sum(0) if is_soft(labels) else np.bincount(labels, minlength=self.classes)
        balanced = np.divide(counts.sum(), self.classes * counts, out=np.zeros(self.classes), where=counts > 0)
        return dataclasses.replace(self, class_weights=tuple(map(float, balanced)))

    def inputs(self, batch: Batch) -> dict[str, jax.Array]:
        """Returns {"x": inputs}, and with `length` also {"mask": bool [batch, steps]}."""
        if self.length is None:
            return {"x": batch[self.input]}
        mask = batch[self.length][:, None] > jnp.arange(batch[self.input].shape[1])
        return {"x": batch[self.input], "mask": mask}

    def _logits(self, apply: Apply, batch: Batch, **kwargs: Any) -> jax.Array:
        """Returns logits [batch, classes], in at least float32."""
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
                f"task.classes={self.classes}: the model gives {counted(logits.shape[-1], 'logit')}; make them equal"
            )
        return logits.astype(jnp.promote_types(logits.dtype, jnp.float32))

    def _eval_logits(self, apply: Apply, batch: Batch) -> jax.Array:
        """Returns logits [batch, classes] in evaluation mode, averaged over mirrored and moved images."""
        if not self.mirrored and not self.moved:
            return self._logits(apply, batch, train=False)
        images = batch[self.input]
        if images.ndim != 4:
            asked = "mirrored=true" if self.mirrored else f"moved={self.moved}"
            given = f"{self.input} of shape {list(images.shape[1:])}"
            raise RequestError(f"task.{asked}: {given}; expected images [height, width, channels]")
        return sum(
            share * self._logits(apply, {**batch, self.input: image}, train=False)
            for share, image in mirrored_and_moved(images, mirrored=self.mirrored, moved=self.moved)
        )

    def loss(self, apply: Apply, batch: Batch) -> Terms:
        """Returns the terms "loss" and "accuracy"."""
        logits = self._logits(apply, batch, train=True)
        labels = probabilities(batch[self.label], self.classes).astype(logits.dtype)
        # With mixed labels, the share of the predicted class.
        correct = jnp.take_along_axis(labels, jnp.argmax(logits, -1)[:, None], axis=-1)[:, 0]
        weight = batch["weight"]
        losses = weighted(self._losses(logits, labels), weight * self._weights(labels))
        return {"loss": losses, "accuracy": weighted(correct, weight)}

    def _weights(self, labels: jax.Array) -> jax.Array | float:
        """Returns the weight of each example, [batch], for target probabilities [batch, classes]."""
        return 1.0 if self.class_weights is None else labels @ jnp.asarray(self.class_weights, labels.dtype)

    def _losses(self, logits: jax.Array, labels: jax.Array) -> jax.Array:
        """Returns the objective per example, [batch], for target probabilities [batch, classes]."""
        losses = optax.softmax_cross_entropy(logits, optax.smooth_labels(labels, self.label_smoothing))
        if self.objective == "focal":
            losses *= (1 - (jax.nn.softmax(logits) * labels).sum(-1)) ** self.focal_gamma
        return losses

    def eval_outputs(self, apply: Apply, batch: Batch) -> dict[str, jax.Array]:
        """Returns {"loss", "rank" of the label, "confidence", "label", "predicted" class}, each [batch].

        For soft labels, the label is the most probable class.
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
        """Returns "loss", "accuracy", "calibration_error" and the top-k accuracies; see the class."""
        correct = outputs["rank"] == 0
        metrics = {
            "loss": float(np.mean(outputs["loss"], dtype=np.float64)),
            "accuracy": float(correct.mean()),
            "calibration_error": expected_calibration_error(outputs["confidence"], correct, self.calibration_bins),
        }
        return metrics | {f"top_{k}_accuracy": float((outputs["rank"] < k).mean()) for k in self.top_k}

    def exhibits(self, outputs: Mapping[str, np.ndarray]) -> dict[str, Exhibit]:
        """Returns {"reliability": Reliability}, and {"confusion": ConfusionMatrix} with up to `CONFUSED` classes."""
        bins = reliability(outputs["confidence"], outputs["rank"] == 0, self.calibration_bins)
        found: dict[str, Exhibit] = {"reliability": Reliability(*bins)}
        if self.classes <= CONFUSED:
            found["confusion"] = ConfusionMatrix.of(outputs["label"], outputs["predicted"], self.classes)
        return found

    def predict(self, apply: Apply, batch: Batch) -> dict[str, jax.Array]:
        """Returns {"label": int32 [batch], "probability": [batch, classes]}."""
        logits = self._eval_logits(apply, batch)
        return {"label": jnp.argmax(logits, -1), "probability": jax.nn.softmax(logits)}
