"""Diffusion as a task: predicts the noise, the image or the velocity of noised images (Ho et al., 2020)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp
import numpy as np

from research.config.checks import check_counts, check_part, check_shares
from research.data.source import Source, first_example
from research.diffusion.process import Diffusion, Process
from research.errors import RequestError, require
from research.evaluation.exhibits import Curves
from research.tasks.randomness import per_example
from research.tasks.task import Apply, Batch, Direction, Task, Terms, require_columns, weighted, whole_column

TIME, NOISE, DROP = range(3)
"""Streams of random numbers of an example."""

BANDS = 4
"""Equal parts of the time, for which training logs the error separately."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Denoising(Task):
    """Learns to predict what `process` asks for, at a random time of each image.

    Images are from -1 to 1.  A model takes `x`, `time` [batch] from 0 to 1000 and, with classes, `label` int [batch],
    where `classes` stands for no class.

    >>> task = Denoising(classes=10, shape=(8, 8, 1))
    >>> {name: x.shape for name, x in task.inputs({"image": jnp.zeros((4, 8, 8, 1)), "label": jnp.arange(4)}).items()}
    {'x': (4, 8, 8, 1), 'time': (4,), 'label': (4,)}

    Training terms: "loss", the weighted squared error, and "error/from_250", the squared error at times from 250 to
    500, and so on.  Metric: "loss", the mean at fixed times.  An exhibit shows the error at each of them.

    Attributes:
      process: from the image to noise; its `prediction` is what the model learns.
      input: the column of images.
      label: the column of classes.
      classes: the number of classes; None learns without them.
      drop_label: the share of training examples without their class, for classifier-free guidance.
      times: the number of times of an evaluation, spread evenly.
      shape: (height, width, channels) of an image; None takes that of the training images.
    """

    better: ClassVar[Mapping[str, Direction]] = {"loss": "min", "error/*": "min"}

    process: Process = Diffusion()
    input: str = "image"
    label: str = "label"
    classes: int | None = None
    drop_label: float = 0.1
    times: int = 10
    shape: tuple[int, int, int] | None = None

    def check(self) -> None:
        check_part("process", self.process)
        check_counts(self, "classes", "times", "shape")
        check_shares(self, "drop_label")
        self.process.fixed_times(self.times)

    def check_model(self, model: Any) -> None:
        known = getattr(model, "classes", self.classes)
        given = f"task.classes={self.classes or 'none'} and model.classes={known or 'none'}"
        require(known == self.classes, f"{given}: expected the same number, or none for both")
        dropped = self.classes is not None and self.drop_label > 0
        require(
            not dropped or getattr(model, "null_class", True),
            f"task.drop_label={self.drop_label}: the model has no class for no class; expected model.null_class=true, "
            "or task.drop_label=0.0",
        )

    def check_examples(self, source: Source, split: str) -> None:
        columns = {"input": self.input} | ({} if self.classes is None else {"label": self.label})
        require_columns(source, split, **columns)
        given = np.shape(first_example(source)[self.input])
        require(len(given) == 3, f"task.input={self.input!r}: {list(given)} given; expected [height, width, channels]")
        if self.classes is not None:
            labels = whole_column(source, self.label)
            wrong = (labels < 0) | (labels >= self.classes)
            if wrong.any():
                row = int(wrong.argmax())
                raise RequestError(
                    f"task.classes={self.classes}: label {labels[row]} of example {row} of the {split} split; expected "
                    f"0 to {self.classes - 1}"
                )

    def check_batch(self, first: Callable[[], Batch]) -> None:
        image = np.asarray(first()[self.input], np.float32)
        low, high = float(image.min()), float(image.max())
        fits = -1.001 <= low < 0 and high <= 1.001
        hint = f": Scale({self.input!r}, 2 / 255, shift=-1.0) for bytes" if high > 1.001 else ""
        require(
            fits,
            f"task.input={self.input!r}: images from {low:.4g} to {high:.4g}; expected -1 to 1, by a "
            f"transform in `preprocess`{hint}",
        )

    def fit(self, train: Source) -> Self:
        """Sets `shape` from the first training image where it is None."""
        shape = self.shape or tuple(map(int, np.shape(first_example(train)[self.input])))
        return dataclasses.replace(self, shape=shape)

    def inputs(self, batch: Batch) -> dict[str, jax.Array]:
        """Returns {"x": images, "time": zeros} and, with classes, "label"; without labels, models take no class."""
        label = self._label(batch)
        given = {} if label is None else {"label": label}
        return {"x": batch[self.input], "time": jnp.zeros(len(batch[self.input])), **given}

    def errors(self, apply: Apply, batch: Batch, time: jax.Array, label: jax.Array | None, **options: Any) -> jax.Array:
        """The mean squared error of each example's prediction at times [batch], with the noise of its key."""
        image = batch[self.input]
        noise = per_example(batch["key"], NOISE, jax.random.normal, image.shape[1:])
        classes = {} if label is None else {"label": label}
        predicted = apply(x=self.process.noised(image, noise, time), time=time, **classes, **options)
        predicted = predicted[..., : image.shape[-1]]
        return jnp.square(predicted - self.process.target(image, noise, time)).mean(range(1, image.ndim))

    def loss(self, apply: Apply, batch: Batch) -> Terms:
        """Returns "loss", and the error at early and late times, each [batch]."""
        time = per_example(batch["key"], TIME, self.process.draw_time)
        label = None
        if self.classes is not None:
            dropped = per_example(batch["key"], DROP, jax.random.bernoulli, p=self.drop_label)
            label = jnp.where(dropped, self.classes, batch[self.label])
        error, weight = self.errors(apply, batch, time, label, train=True), batch["weight"]
        band = jnp.minimum(time * (BANDS / self.process.end), BANDS - 1).astype(jnp.int32)
        bands = {
            f"error/from_{self.process.end * i / BANDS:.0f}": weighted(error, weight * (band == i))
            for i in range(BANDS)
        }
        return {"loss": weighted(error * self.process.weight(time), weight), **bands}

    def eval_outputs(self, apply: Apply, batch: Batch) -> dict[str, jax.Array]:
        """Returns {"error": [batch, times]}, at fixed times and with the noise of each example."""
        label = self._label(batch)

        def at(time: jax.Array) -> jax.Array:
            return self.errors(apply, batch, jnp.full(len(batch[self.input]), time), label)

        return {"error": jax.lax.map(at, jnp.asarray(self._fixed_times)).T}

    def finalize(self, outputs: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Returns "loss", the mean over examples and fixed times, weighted as in training."""
        weight = np.asarray(self.process.weight(self._fixed_times))
        return {"loss": float((outputs["error"].mean(0) * weight).mean())}

    def exhibits(self, outputs: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """Returns the curve of the error over time."""
        x, y = self._fixed_times[None].astype(float), outputs["error"].mean(0)[None]
        return {"error_by_time": Curves(x, y, names=["validation"], x_name="time", y_name="squared error")}

    def predict(self, apply: Apply, batch: Batch) -> dict[str, jax.Array]:
        """Returns {"error": [batch, times]}; images are drawn by `research.inference.draw`."""
        return self.eval_outputs(apply, batch)

    def _label(self, batch: Batch) -> jax.Array | None:
        return None if self.classes is None else batch.get(self.label)

    @property
    def _fixed_times(self) -> np.ndarray:
        return self.process.fixed_times(self.times)
