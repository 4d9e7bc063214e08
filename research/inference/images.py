"""Draws images with a run trained by `Denoising`, or with published weights.

from research.inference import draw, load

digits = load("runs/digits_diffusion/base")
images = draw(digits, label=7, number=16, guidance=2.0, seed=1)  # [16, 8, 8, 1], from 0 to 1
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from research.data.batches import in_batches
from research.diffusion.samplers import DDIM, Sampler
from research.errors import RequestError, nearest, require
from research.inference.predictor import Predictor
from research.inference.writing import check_predictor
from research.tasks import samples
from research.tasks.denoising import Denoising
from research.tasks.randomness import example_keys
from research.training.step import bound_apply

Label = int | str


def draw(
    predictor: Predictor | tuple[nn.Module, Any],
    label: Label | Sequence[Label] | None = None,
    number: int | None = None,
    *,
    steps: int | None = None,
    guidance: float | None = None,
    seed: int = 0,
    sampler: Sampler | None = None,
    image: np.ndarray | None = None,
    strength: float = 0.5,
    task: Denoising | None = None,
    batch_size: int = 64,
) -> np.ndarray:
    """Draws images, float32 [number, height, width, channels] from 0 to 1.

    Image i depends only on `seed` and i, not on the number of images.  Classes, guidance and seed share one compiled
    program.

    Args:
      predictor: a run trained by `Denoising`; or (model, variables) with their `task`.
      label: the class of all images, or one for each; a number, or a name where the data name their classes.  None
        draws from all classes without guidance.
      number: of images; None means one for each label.
      steps: of the sampler; None means the sampler's.
      guidance: the scale of classifier-free guidance; None uses none.
      seed: seeds the noise.
      sampler: None means DDIM in 50 steps, or in as many as the process has.
      image: [number, height, width, channels] from 0 to 1, to vary: the images get noise and lose it again.
      strength: the share of the steps that a varied image goes back, above 0 and up to 1; all of them keep nothing.
      task: the process, classes and shape of a model that is no run.
      batch_size: images drawn at a time.

    Raises:
      RequestError: the model draws no images, a class is unknown, there are more steps than the process has, guidance
        is asked of a model without classes, or a value is out of range.
    """
    if isinstance(predictor, tuple):
        require(isinstance(task, Denoising), "draw: (model, variables) given; expected their task=Denoising(…) as well")
        (model, variables), names = predictor, None
        require(task.shape is not None, "task.shape=none: expected (height, width, channels)")
    else:
        check_predictor(predictor, "draw", Denoising)
        require(task is None, "task: expected none; the run has its own")
        model, variables, task = predictor.experiment.model, predictor.variables, predictor.experiment.task
        names = predictor.experiment.data.class_names
    sampler = _sampler(sampler, steps, task)
    labels = _labels(label, number, task.classes, names)
    count = len(labels)
    require(0 <= seed < 2**32, f"seed={seed}: expected 0 to 4294967295")
    require(batch_size >= 1, f"batch_size={batch_size}: expected at least 1")
    samples.with_guidance(task, guidance)
    require(guidance is None or label is not None, f"guidance={guidance}: expected a label to guide to")
    free = label is not None or task.classes is None or task.drop_label > 0
    require(free, f"label: expected 0 to {(task.classes or 0) - 1}; the model never learned to draw without a class")
    skip = 0
    if image is not None:
        image = np.asarray(image, np.float32)
        right = image.shape == (count, *task.shape) and image.min() >= 0 and image.max() <= 1
        require(right, f"image: {list(image.shape)}; expected {[count, *task.shape]}, from 0 to 1")
        require(0 < strength <= 1, f"strength={strength}: expected 0 < strength <= 1")
        skip = sampler.steps - max(round(sampler.steps * strength), 1)

    def compute(rows: np.ndarray) -> jax.Array:
        keys = example_keys(jax.random.key(seed), jnp.asarray(rows, jnp.int32))
        own = None if task.classes is None else labels[rows]
        start = None if image is None else 2 * image[rows] - 1
        scale = None if guidance is None else jnp.float32(guidance)
        return _drawn(model, task, sampler, skip, variables, keys, own, scale, start)

    return in_batches(compute, count, batch_size)


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _drawn(model, task, sampler, skip, variables, keys, label, guidance, start) -> jax.Array:
    apply = bound_apply(model, variables)
    return samples.shown(samples.draw(apply, task, sampler, keys, label, guidance, start=start, skip=skip))


def _sampler(sampler: Sampler | None, steps: int | None, task: Denoising) -> Sampler:
    """The sampler with the number of steps that is asked for, checked for the process."""
    if sampler is None:
        sampler = DDIM(steps=min(50, task.process.most_steps or 50))
    if steps is not None:
        sampler = dataclasses.replace(sampler, steps=steps)
    sampler.check(task.process)
    return sampler


def _labels(label: Any, number: int | None, classes: int | None, names: Sequence[str] | None) -> np.ndarray:
    """The class of each image, int32 [number]; `classes` stands for no class.

    Raises:
      RequestError: a class is unknown, or the numbers of labels and images differ.
    """
    require(number is None or number >= 1, f"number={number}: expected at least 1")
    require(classes is not None or label is None, f"label={label!r}: the model has no classes; expected none")
    many = isinstance(label, Sequence | np.ndarray) and not isinstance(label, str)
    given = list(label) if many else [label] * (number or 1)
    require(len(given) > 0, "label: an empty list; expected at least one class")
    require(number in (None, len(given)), f"number={number}: {len(given)} labels given; expected one for each image")
    return np.array([_label(one, classes, names) for one in given], np.int32)


def _label(label: Any, classes: int | None, names: Sequence[str] | None) -> int:
    if label is None:
        return classes or 0
    if isinstance(label, str):
        known = list(names or map(str, range(classes)))
        if label not in known:
            raise RequestError(f"label={label!r}: no such class; {nearest(label, known)}")
        return known.index(label)
    whole = isinstance(label, int | np.integer) and not isinstance(label, bool)
    require(whole and 0 <= label < classes, f"label={label!r}: no such class; expected 0 to {classes - 1}")
    return int(label)
