"""Processes that add noise to images, and the quantities that a model can predict.

Every process mixes an image x₀ with noise ε: x = α x₀ + σ ε.  The time of a model runs from 0, the image, to 1000, the
noise; a process says which levels (α, σ) a time has.  Diffusion has as many times as training steps; a rectified flow
has all.
"""

from __future__ import annotations

import abc
import dataclasses
import functools
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from research.config.checks import check_counts, check_factors, check_types
from research.errors import RequestError, require

Prediction = Literal["noise", "image", "v", "velocity"]
"""ε, x₀, v = α ε − σ x₀ (Salimans & Ho, 2022), or ε − x₀, the velocity of a straight line from the image to the noise.
"""

LAST = 1000.0
"""The time of a rectified flow at which only noise is left."""


class Level(NamedTuple):
    """The shares of image and noise at a time, arrays of one shape: x = α x₀ + σ ε."""

    alpha: jax.Array
    sigma: jax.Array

    @property
    def snr(self) -> jax.Array:
        """The signal-to-noise ratio α² / σ²."""
        return jnp.square(self.alpha) / jnp.square(self.sigma)

    def like(self, x: jax.Array) -> Level:
        """Adds axes of size 1, so that levels [batch] broadcast with images [batch, ...]."""
        shape = (*self.alpha.shape, *(1,) * (x.ndim - self.alpha.ndim))
        return Level(self.alpha.reshape(shape), self.sigma.reshape(shape))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Process(abc.ABC):
    """Base class of processes; all methods are pure."""

    prediction: Prediction = "noise"
    weighting: Literal["simple", "min_snr"] = "simple"
    snr_limit: float = 5.0

    def check(self) -> None:
        """Raises RequestError for a value out of range."""
        check_types(self)
        check_factors(self, "snr_limit")

    @property
    @abc.abstractmethod
    def end(self) -> float:
        """The end of the times from which `draw_time` draws; the first is 0."""

    @property
    def most_steps(self) -> int | None:
        """The maximum number of steps of a sampler; None if there is no limit."""
        return None

    @abc.abstractmethod
    def level(self, time: jax.Array) -> Level:
        """The level at times of any shape; from 0 to 1000, or below 0 for the image itself."""

    @abc.abstractmethod
    def draw_time(self, key: jax.Array, shape: tuple[int, ...] = ()) -> jax.Array:
        """Draws times for training."""

    @abc.abstractmethod
    def times(self, steps: int) -> np.ndarray:
        """The times of a sampler from noise to image, [steps + 1]."""

    @abc.abstractmethod
    def fixed_times(self, count: int) -> np.ndarray:
        """Times at the middle of `count` equal parts of the whole, [count], for evaluation.

        Raises:
          RequestError: there are fewer times.
        """

    def noised(self, image: jax.Array, noise: jax.Array, time: jax.Array) -> jax.Array:
        """Mixes images [batch, ...] with noise at times [batch]."""
        level = self.level(time).like(image)
        return level.alpha * image + level.sigma * noise

    def target(self, image: jax.Array, noise: jax.Array, time: jax.Array) -> jax.Array:
        """The right prediction for images [batch, ...] with noise, at times [batch]."""
        return target(self.prediction, image, noise, self.level(time).like(image))

    def parts(self, predicted: jax.Array, x: jax.Array, time: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Converts a prediction for x [batch, ...] at times [batch] to (the image, the noise)."""
        return parts(self.prediction, predicted, x, self.level(time).like(x))

    def weight(self, time: jax.Array) -> jax.Array:
        """The weight of the squared error of predictions at times of any shape.

        "simple" is 1 (Ho et al., 2020).  "min_snr" is at most `snr_limit` in units of the error of the image (Hang et
        al., 2023), and the same number in units of the prediction.
        """
        level = self.level(time)
        if self.weighting == "simple":
            return jnp.ones_like(level.alpha)
        squared = {
            "noise": 1 / level.snr,
            "image": jnp.ones_like(level.alpha),
            "v": jnp.square(level.sigma),
            "velocity": jnp.square(level.sigma),
        }[self.prediction]
        return jnp.minimum(level.snr, self.snr_limit) * squared


@dataclasses.dataclass(frozen=True, kw_only=True)
class Diffusion(Process):
    """Adds noise in `train_steps` steps and keeps the variance (Ho et al., 2020).

    >>> process = Diffusion(schedule="cosine", prediction="v")
    >>> [round(float(x), 3) for x in process.level(jnp.array(0))]
    [1.0, 0.006]
    >>> process.times(4).tolist()
    [999, 749, 499, 249, -1]

    Attributes:
      schedule: the variance β that each step adds: "linear" from `first` to `last`; "scaled_linear", whose root is
        linear; or "cosine" (Nichol & Dhariwal, 2021), which needs no bounds.
      train_steps: the number of times.
      first, last: β at the first and the last time.
      spacing: the times of a sampler with fewer steps (Lin et al., 2024, table 2): "trailing" ends each part of the
        whole, "linspace" has both ends, and "leading" begins each part, as in many published settings; it leaves out
        the noisiest times, the more so if the steps do not divide `train_steps`.
      prediction: of the model: the "noise", the "image" or "v".
      weighting: of the loss at each time; see `weight`.
      snr_limit: of "min_snr".
    """

    schedule: Literal["linear", "scaled_linear", "cosine"] = "linear"
    train_steps: int = 1000
    first: float = 1e-4
    last: float = 0.02
    spacing: Literal["leading", "trailing", "linspace"] = "trailing"

    def check(self) -> None:
        super().check()
        check_counts(self, "train_steps", least=2)
        require(self.train_steps <= LAST, f"train_steps={self.train_steps}: expected at most {LAST:.0f}")
        require(self.prediction != "velocity", "prediction='velocity': expected 'noise', 'image' or 'v'")
        in_order = 0 < self.first <= self.last < 1
        require(in_order, f"first={self.first}, last={self.last}: expected 0 < first <= last < 1")

    @property
    def end(self) -> float:
        return float(self.train_steps)

    @property
    def most_steps(self) -> int:
        return self.train_steps

    def level(self, time: jax.Array) -> Level:
        time = jnp.asarray(time, jnp.int32)
        image = time < 0
        kept, added = (jnp.asarray(x)[jnp.maximum(time, 0)] for x in _levels(self))
        return Level(jnp.where(image, 1.0, kept), jnp.where(image, 0.0, added))

    def draw_time(self, key: jax.Array, shape: tuple[int, ...] = ()) -> jax.Array:
        return jax.random.randint(key, shape, 0, self.train_steps)

    def times(self, steps: int) -> np.ndarray:
        """The times of a sampler; -1, the image itself, is the last.

        Raises:
          RequestError: there are more steps than times.
        """
        many = self.train_steps
        require(1 <= steps <= many, f"steps={steps}: expected 1 to the {many} training steps of the process")
        times = {
            "leading": np.arange(steps)[::-1] * (many // steps),
            "trailing": np.round(np.arange(many, 0, -many / steps))[:steps] - 1,
            "linspace": np.round(np.linspace(0, many - 1, steps))[::-1],
        }[self.spacing]
        return np.append(times, -1).astype(np.int32)

    def fixed_times(self, count: int) -> np.ndarray:
        require(count <= self.train_steps, f"times={count}: expected at most process.train_steps={self.train_steps}")
        return np.int32((np.arange(count) + 0.5) / count * self.train_steps)


@functools.cache
def _levels(process: Diffusion) -> tuple[np.ndarray, np.ndarray]:
    """α and σ at each time, float32 [train_steps], from products in float64."""
    if process.schedule == "cosine":
        edges = np.cos((np.arange(process.train_steps + 1) / process.train_steps + 0.008) / 1.008 * np.pi / 2) ** 2
        betas = np.minimum(1 - edges[1:] / edges[:-1], 0.999)
    else:
        power = 2 if process.schedule == "scaled_linear" else 1
        ends = process.first ** (1 / power), process.last ** (1 / power)
        betas = np.linspace(*ends, process.train_steps) ** power
    kept = np.cumprod(1 - betas)
    return np.sqrt(kept).astype(np.float32), np.sqrt(1 - kept).astype(np.float32)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RectifiedFlow(Process):
    """Mixes image and noise on a straight line (Liu et al., 2023; Lipman et al., 2023).

    >>> [float(x) for x in RectifiedFlow().level(jnp.array(250.0))]
    [0.75, 0.25]

    Attributes:
      draws: times for training: "uniform", or "logit_normal", more often in the middle (Esser et al., 2024).
      prediction: of the model: the "velocity" or the "image".
      weighting: of the loss at each time; see `weight`.
      snr_limit: of "min_snr".
    """

    prediction: Prediction = "velocity"
    draws: Literal["uniform", "logit_normal"] = "uniform"

    def check(self) -> None:
        super().check()
        known = self.prediction in ("velocity", "image")
        require(known, f"prediction={self.prediction!r}: expected 'velocity' or 'image'")

    @property
    def end(self) -> float:
        return LAST

    def level(self, time: jax.Array) -> Level:
        sigma = jnp.maximum(jnp.asarray(time, jnp.float32), 0) / LAST
        return Level(1 - sigma, sigma)

    def draw_time(self, key: jax.Array, shape: tuple[int, ...] = ()) -> jax.Array:
        if self.draws == "logit_normal":
            return LAST * jax.nn.sigmoid(jax.random.normal(key, shape))
        return LAST * jax.random.uniform(key, shape)

    def times(self, steps: int) -> np.ndarray:
        require(steps >= 1, f"steps={steps}: expected at least 1")
        return np.linspace(LAST, 0, steps + 1, dtype=np.float32)

    def fixed_times(self, count: int) -> np.ndarray:
        return np.float32((np.arange(count) + 0.5) / count * LAST)


def target(kind: Prediction, image: jax.Array, noise: jax.Array, level: Level) -> jax.Array:
    """Converts an image and its noise to the prediction of a `kind`."""
    if kind == "v":
        return level.alpha * noise - level.sigma * image
    return {"noise": noise, "image": image, "velocity": noise - image}[kind]


def parts(kind: Prediction, predicted: jax.Array, x: jax.Array, level: Level) -> tuple[jax.Array, jax.Array]:
    """Converts a prediction of a `kind` to the image and the noise, such that x = α image + σ noise.

    "v" needs α² + σ² = 1, "velocity" α + σ = 1, "noise" α > 0 and "image" σ > 0.
    """
    alpha, sigma = level
    if kind == "noise":
        return (x - sigma * predicted) / alpha, predicted
    if kind == "image":
        return predicted, (x - alpha * predicted) / sigma
    if kind == "v":
        return alpha * x - sigma * predicted, sigma * x + alpha * predicted
    if kind == "velocity":
        return x - sigma * predicted, x + alpha * predicted
    raise RequestError(f"prediction={kind!r}: expected 'noise', 'image', 'v' or 'velocity'")
