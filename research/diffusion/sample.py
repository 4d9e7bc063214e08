"""Samples images: a scan over the steps of a sampler, with a random key for each image.

An image depends only on its key, not on the size of the batch nor on the devices.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from research.diffusion.process import Level, Process
from research.diffusion.samplers import Sampler, Step
from research.tasks.randomness import per_example

Predict = Callable[[jax.Array, jax.Array], jax.Array]
"""(x [batch, ...], time [batch]) -> the prediction of a process, in the shape of x."""


def sample(
    predict: Predict,
    process: Process,
    sampler: Sampler,
    keys: jax.Array,
    shape: tuple[int, ...],
    *,
    start: jax.Array | None = None,
    skip: int = 0,
) -> jax.Array:
    """Draws one image of `shape` for each key, [batch, *shape].

    >>> from research.diffusion import DDIM, Diffusion
    >>> keys = jax.random.split(jax.random.key(0), 3)
    >>> sample(lambda x, time: x, Diffusion(), DDIM(steps=5), keys, (2, 2, 1)).shape
    (3, 2, 2, 1)

    Args:
      predict: the model, with its classes and guidance.
      keys: [batch].
      start: images [batch, *shape] to vary: they get noise and go the rest of the way.
      skip: the number of first steps that images in `start` skip, below `sampler.steps`.

    Raises:
      RequestError: the sampler cannot use the process.
    """
    return _run(predict, process, sampler, keys, shape, start, skip)[0]


def path(
    predict: Predict, process: Process, sampler: Sampler, keys: jax.Array, shape: tuple[int, ...]
) -> tuple[jax.Array, jax.Array]:
    """Draws images, and returns (images, the noisy images before each step [batch, steps, *shape])."""
    x, seen = _run(predict, process, sampler, keys, shape, None, 0, keep=True)
    return x, jnp.moveaxis(seen, 0, 1)


def _run(
    predict: Predict,
    process: Process,
    sampler: Sampler,
    keys: jax.Array,
    shape: tuple[int, ...],
    start: jax.Array | None,
    skip: int,
    keep: bool = False,
) -> tuple[jax.Array, Any]:
    sampler.check(process)
    times = jnp.asarray(process.times(sampler.steps)[skip:])
    levels = process.level(times)
    first = per_example(keys, 0, jax.random.normal, shape)
    x = levels.sigma[0] * first if start is None else levels.alpha[0] * start + levels.sigma[0] * first
    x = first if start is None else x

    def predicted(x: jax.Array, time: jax.Array) -> tuple[jax.Array, jax.Array]:
        time = jnp.full(len(x), time)
        return process.parts(predict(x, time), x, time)

    def one(carried: tuple[jax.Array, Any], i: jax.Array) -> tuple[tuple[jax.Array, Any], Any]:
        x, memory = carried
        given = Step(
            predict=predicted,
            x=x,
            now=Level(levels.alpha[i], levels.sigma[i]),
            then=Level(levels.alpha[i + 1], levels.sigma[i + 1]),
            time=times[i],
            next_time=times[i + 1],
            noise=lambda: per_example(keys, skip + i + 1, jax.random.normal, shape),
            memory=memory,
        )
        return sampler.step(given), x if keep else None

    (x, _), seen = jax.lax.scan(one, (x, sampler.start(x)), jnp.arange(len(times) - 1))
    return x, seen
