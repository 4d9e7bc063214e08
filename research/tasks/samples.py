"""Evaluations that draw images by a denoising model, at their own interval: samples, their paths, and guidance.

The same noise is used at every evaluation, so that one sees the model learn.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np

from research.config.checks import check_counts, check_part
from research.diffusion.guidance import guided
from research.diffusion.sample import path, sample
from research.diffusion.samplers import DDIM, Sampler
from research.errors import RequestError, prefixed, require
from research.evaluation.exhibits import ImageGrid
from research.tasks.denoising import Denoising
from research.tasks.task import Apply, Batch, Task


@dataclasses.dataclass(frozen=True, kw_only=True)
class Samples(Task):
    """Draws images, of each class in turn.

    >>> from research.evaluation import Evaluation
    >>> Evaluation("samples", examples=80, every=1000, task=Samples(sampler=DDIM(steps=20))).check()

    Metrics: "mean" and "deviation" of all pixels, from 0 to 1, to compare with those of the data.

    Attributes:
      sampler: from noise to image.
      guidance: the scale of classifier-free guidance; 1 is the model itself, in two calls per step, and None in one.
      denoising: the task that the model learned; None means the experiment's.
    """

    sampler: Sampler = DDIM()
    guidance: float | None = None
    denoising: Denoising | None = None

    def check(self) -> None:
        check_part("sampler", self.sampler)
        if self.denoising is not None:
            self.check_denoising(self.denoising)

    def check_denoising(self, task: Denoising) -> None:
        """Raises RequestError if a model that learned `task` cannot draw such samples."""
        with_guidance(task, self.guidance)
        with prefixed("sampler: "):
            self.sampler.check(task.process)

    def beside(self, task: Task) -> Self:
        if self.denoising is None:
            require(isinstance(task, Denoising), f"{type(self).__name__}: the experiment's task is no Denoising")
            self = dataclasses.replace(self, denoising=task)
        self.check_denoising(self.denoising)
        return self

    def labels(self, batch: Batch) -> jax.Array | None:
        """The class of each sample, in turn; None without classes."""
        classes = self.denoising.classes
        return None if classes is None else batch["example"] % classes

    def eval_outputs(self, apply: Apply, batch: Batch) -> dict[str, jax.Array]:
        """Returns {"image": from 0 to 1} and, with classes, "label"."""
        label = self.labels(batch)
        images = draw(apply, self.denoising, self.sampler, batch["key"], label, self.guidance)
        return {"image": shown(images)} | ({} if label is None else {"label": label})

    def finalize(self, outputs: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Returns "mean" and "deviation"."""
        return {"mean": float(outputs["image"].mean()), "deviation": float(outputs["image"].std())}

    def exhibits(self, outputs: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """Returns the samples in a grid, a row for each class."""
        images = outputs["image"]
        rows = min(self.denoising.classes or max(int(len(images) ** 0.5), 1), len(images))
        columns = min(len(images) // rows, 10)
        grid = images[: rows * columns].reshape(columns, rows, *images.shape[1:]).swapaxes(0, 1)
        names = None if self.denoising.classes is None else [f"class {i}" for i in range(rows)]
        return {"samples": ImageGrid(grid, row_names=names)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class SamplePaths(Samples):
    """Draws images, and shows the way from noise to each of them.

    >>> SamplePaths(sampler=DDIM(steps=20), frames=6).check()

    Attributes:
      sampler, guidance, denoising: as of `Samples`.
      frames: the images shown of each way, the last one included.
    """

    frames: int = 8

    def check(self) -> None:
        super().check()
        check_counts(self, "frames", least=2)

    def eval_outputs(self, apply: Apply, batch: Batch) -> dict[str, jax.Array]:
        """Returns {"image", "path": [batch, frames, ...]}, from 0 to 1."""
        predict = predictor(apply, self.denoising, self.labels(batch), self.guidance)
        images, seen = path(predict, self.denoising.process, self.sampler, batch["key"], self.denoising.shape)
        chosen = np.linspace(0, seen.shape[1], self.frames).astype(int)
        whole = jnp.concatenate([seen, images[:, None]], axis=1)
        return {"image": shown(images), "path": shown(whole[:, chosen])}

    def exhibits(self, outputs: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """Returns the paths in a grid, a row for each sample."""
        return {"paths": ImageGrid(outputs["path"][:10])}


@dataclasses.dataclass(frozen=True, kw_only=True)
class GuidedSamples(Samples):
    """Draws the same noise with each of several scales of guidance.

    >>> GuidedSamples(scales=(0.0, 1.0, 4.0)).check()

    Attributes:
      sampler, denoising: as of `Samples`; `guidance` stays None.
      scales: of guidance.
    """

    scales: tuple[float, ...] = (0.0, 1.0, 2.0, 4.0, 8.0)

    def check(self) -> None:
        super().check()
        require(len(self.scales) > 0, "scales=(): expected at least one")
        require(self.guidance is None, f"guidance={self.guidance}: expected none; `scales` has the scales")

    def check_denoising(self, task: Denoising) -> None:
        super().check_denoising(task)
        for scale in self.scales:
            with_guidance(task, scale)

    def eval_outputs(self, apply: Apply, batch: Batch) -> dict[str, jax.Array]:
        """Returns {"image": [batch, scales, ...], from 0 to 1}."""
        label, keys = self.labels(batch), batch["key"]

        def at(scale: jax.Array) -> jax.Array:
            return shown(draw(apply, self.denoising, self.sampler, keys, label, scale))

        return {"image": jnp.moveaxis(jax.lax.map(at, jnp.asarray(self.scales)), 0, 1)}

    def exhibits(self, outputs: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """Returns the samples in a grid, a row for each sample and a column for each scale."""
        return {"guidance": ImageGrid(outputs["image"][:10], column_names=[f"{scale:g}" for scale in self.scales])}


def draw(
    apply: Apply,
    task: Denoising,
    sampler: Sampler,
    keys: jax.Array,
    label: jax.Array | None = None,
    guidance: jax.Array | float | None = None,
    **variation: Any,
) -> jax.Array:
    """Draws an image of `task.shape` for each key, from about -1 to 1; `variation` as for `diffusion.sample`."""
    predict = predictor(apply, task, label, guidance)
    return sample(predict, task.process, sampler, keys, task.shape, **variation)


def predictor(apply: Apply, task: Denoising, label: jax.Array | None, guidance: jax.Array | float | None) -> Any:
    """A function (x, time) -> the prediction for images of the given classes."""

    def model(x: jax.Array, time: jax.Array, label: jax.Array | None) -> jax.Array:
        return apply(x=x, time=time, **({} if label is None else {"label": label}))

    return guided(model, label, scale=guidance, null=task.classes)


def shown(images: jax.Array) -> jax.Array:
    """Images from 0 to 1, of images from -1 to 1."""
    return jnp.clip((images + 1) / 2, 0, 1)


def with_guidance(task: Denoising, guidance: float | None) -> None:
    """Raises RequestError if a model that learned `task` cannot be guided."""
    if guidance is None:
        return
    require(abs(guidance) < float("inf"), f"guidance={guidance}: expected a number, or none")
    if task.classes is None:
        raise RequestError(f"guidance={guidance:g}: the model has no classes; expected none")
    trained = "it never learned to draw without a class (task.drop_label=0.0)"
    require(task.drop_label > 0, f"guidance={guidance:g}: {trained}; expected none")
