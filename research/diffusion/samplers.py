"""Samplers as values: which times they visit, and their step from one level of noise to the next.

A step reads the image and the noise that the model predicts, so that every sampler works with every prediction.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from research.config.checks import check_counts, check_factors, check_shares, check_types
from research.diffusion.process import Level, Process, RectifiedFlow
from research.errors import require


class Step(NamedTuple):
    """One step of a sampler.

    Attributes:
      predict: (x, time) -> the image and the noise in x.
      x: [batch, ...], at level `now`.
      now, then: the levels before and after the step, scalars.
      time, next_time: their times, scalars.
      noise: (), draws fresh noise of the shape of x.
      memory: what the sampler returned beside x from the step before; at first what `start` returns.
    """

    predict: Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]
    x: jax.Array
    now: Level
    then: Level
    time: jax.Array
    next_time: jax.Array
    noise: Callable[[], jax.Array]
    memory: Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sampler(abc.ABC):
    """Base class of samplers.

    Attributes:
      steps: from noise to image.
      clip: predicted images are clipped to -clip … clip; None does not clip, as for latents without bounds.
    """

    steps: int = 50
    clip: float | None = None

    def check(self, process: Process | None = None) -> None:
        """Raises RequestError for a value out of range, or a process that the sampler cannot use."""
        check_types(self)
        check_counts(self, "steps")
        check_factors(self, "clip")
        if process is not None:
            process.times(self.steps)

    def start(self, x: jax.Array) -> Any:
        """The memory before the first step."""
        return ()

    @abc.abstractmethod
    def step(self, given: Step) -> tuple[jax.Array, Any]:
        """Returns x at the next level, and the memory for the next step."""

    def predicted(self, given: Step) -> tuple[jax.Array, jax.Array]:
        """The image, clipped, and the noise that is then in `given.x`."""
        image, noise = given.predict(given.x, given.time)
        if self.clip is None:
            return image, noise
        (alpha, sigma), image = given.now, jnp.clip(image, -self.clip, self.clip)
        return image, jnp.where(sigma > 0, (given.x - alpha * image) / jnp.where(sigma > 0, sigma, 1), noise)


def between(now: Level, then: Level) -> tuple[jax.Array, jax.Array]:
    """(the ratio of the α, the variance that the process adds) from level `then` to the noisier level `now`."""
    ratio = now.alpha / then.alpha
    return ratio, jnp.square(now.sigma) - jnp.square(ratio * then.sigma)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DDPM(Sampler):
    """Draws from the posterior of each step: ancestral sampling (Ho et al., 2020).

    Attributes:
      variance: of the posterior: the "small" one, of a process from a known image, or the "large" one, that the
        process adds.
    """

    steps: int = 1000
    clip: float | None = 1.0
    variance: Literal["small", "large"] = "small"

    def step(self, given: Step) -> tuple[jax.Array, Any]:
        now, then = given.now, given.then
        image, _ = self.predicted(given)
        ratio, added = between(now, then)
        whole = jnp.square(now.sigma)
        small = added * jnp.square(then.sigma) / whole
        mean = (then.alpha * added * image + ratio * jnp.square(then.sigma) * given.x) / whole
        deviation = jnp.sqrt(jnp.where(then.sigma > 0, added if self.variance == "large" else small, 0))
        return mean + deviation * given.noise(), ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class DDIM(Sampler):
    """Takes few steps, deterministic with `eta=0`, as noisy as DDPM's with `eta=1` (Song et al., 2021).

    Attributes:
      eta: the share of the small posterior deviation that is drawn anew.
      keep_noise: keep the noise that was predicted for the image before clipping, as many published samplers do;
        guided images, of which much is clipped, then keep noise.
    """

    clip: float | None = 1.0
    eta: float = 0.0
    keep_noise: bool = False

    def check(self, process: Process | None = None) -> None:
        super().check(process)
        check_shares(self, "eta")

    def predicted(self, given: Step) -> tuple[jax.Array, jax.Array]:
        if not self.keep_noise or self.clip is None:
            return super().predicted(given)
        image, noise = given.predict(given.x, given.time)
        return jnp.clip(image, -self.clip, self.clip), noise

    def step(self, given: Step) -> tuple[jax.Array, Any]:
        now, then = given.now, given.then
        image, noise = self.predicted(given)
        if self.eta == 0:
            return then.alpha * image + then.sigma * noise, ()
        _, added = between(now, then)
        deviation = self.eta * jnp.sqrt(added) * then.sigma / now.sigma
        kept = jnp.sqrt(jnp.maximum(jnp.square(then.sigma) - jnp.square(deviation), 0))
        return then.alpha * image + kept * noise + deviation * given.noise(), ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class DPMSolver(Sampler):
    """DPM-Solver++(2M): extrapolates the predicted image from two steps, deterministic (Lu et al., 2022, algorithm 2).

    The first and the last step have first order.
    """

    steps: int = 20
    clip: float | None = 1.0

    def start(self, x: jax.Array) -> Any:
        return jnp.zeros_like(x), jnp.float32(jnp.inf)

    def step(self, given: Step) -> tuple[jax.Array, Any]:
        now, then = given.now, given.then
        image, _ = self.predicted(given)
        before, size_before = given.memory
        # λ = log(α / σ) is infinite at either end; there the step has first order.
        size = jnp.log(then.alpha / then.sigma) - jnp.log(now.alpha / now.sigma)
        share = jnp.where(jnp.isfinite(size) & jnp.isfinite(size_before), size / (2 * size_before), 0.0)
        extrapolated = image + share * (image - before)
        ratio = then.sigma / now.sigma
        return ratio * given.x + (then.alpha - ratio * now.alpha) * extrapolated, (image, size)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Euler(Sampler):
    """Follows the velocity of a rectified flow, once per step."""

    def check(self, process: Process | None = None) -> None:
        super().check(process)
        _check_flow(self, process)

    def step(self, given: Step) -> tuple[jax.Array, Any]:
        image, noise = self.predicted(given)
        return given.x + (given.then.sigma - given.now.sigma) * (noise - image), ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Heun(Sampler):
    """Follows the mean of the velocities of a rectified flow at both ends of each step: second order, two calls."""

    steps: int = 25

    def check(self, process: Process | None = None) -> None:
        super().check(process)
        _check_flow(self, process)

    def step(self, given: Step) -> tuple[jax.Array, Any]:
        image, noise = self.predicted(given)
        size, velocity = given.then.sigma - given.now.sigma, noise - image
        ahead = given._replace(x=given.x + size * velocity, now=given.then, time=given.next_time)
        image, noise = self.predicted(ahead)
        return given.x + size * (velocity + noise - image) / 2, ()


def _check_flow(sampler: Sampler, process: Process | None) -> None:
    name = type(sampler).__name__
    require(
        process is None or (isinstance(process, RectifiedFlow) and process.prediction == "velocity"),
        f"{name} needs process=RectifiedFlow with prediction='velocity'; other processes have DDIM, DPMSolver and DDPM",
    )
