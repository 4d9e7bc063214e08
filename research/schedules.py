"""Learning-rate schedules: the factor on the learning rate at step 0, 1, ..., total_steps - 1.

    Cosine(warmup_steps=1000, final=0.1)     0 at step 0, 1 at step 1000, towards 0.1 at step total_steps

A schedule is a value; its factors agree with PyTorch's and Hugging Face's schedules of the same name.
"""

from __future__ import annotations

import abc
import dataclasses
import math
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from research.config.hparams import concrete, hparam
from research.config.inherited import describe_inherited
from research.errors import require


@dataclasses.dataclass(frozen=True)
class Schedule(abc.ABC):
    """A factor on the learning rate at every step.

    Your own schedule defines `factor`:

    >>> @dataclasses.dataclass(frozen=True)
    ... class Halving(Schedule):
    ...     def factor(self, step, total_steps):
    ...         return 0.5 ** (4 * jnp.asarray(step) // total_steps)
    >>> [float(Halving().factor(step, 100)) for step in (0, 25, 50, 99)]
    [1.0, 0.5, 0.25, 0.125]
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        describe_inherited(cls)

    @abc.abstractmethod
    def factor(self, step: jax.Array | int, total_steps: int) -> jax.Array:
        """Returns the factor, a scalar, at `step` (counted from 0, may be traced) of a training of `total_steps`."""

    def check(self, total_steps: int) -> None:
        """Raises RequestError, starting with the field's name, if the values do not fit `total_steps`."""
        require(total_steps >= 1, f"total_steps={total_steps}: must be at least 1")


@dataclasses.dataclass(frozen=True)
class _Warmup(Schedule):
    """A linear increase from 0 over `warmup_steps`, followed by a curve.

    Attributes:
      warmup_steps: the steps of the increase; the factor is 0 at step 0 and 1 at step `warmup_steps`.
    """

    warmup_steps: int = 0

    @abc.abstractmethod
    def curve(self, step: jax.Array, total_steps: int) -> jax.Array:
        """Returns the factor from step `warmup_steps` on."""

    def factor(self, step: jax.Array | int, total_steps: int) -> jax.Array:
        step = jnp.asarray(step)
        rise = _ratio(step, self.warmup_steps)
        return jnp.where(step < self.warmup_steps, rise, self.curve(jnp.maximum(step, self.warmup_steps), total_steps))

    def progress(self, step: jax.Array, total_steps: int) -> jax.Array:
        """Increases from 0 at the end of the warm-up to 1 at `total_steps`, then stays at 1."""
        return jnp.minimum(_ratio(step - self.warmup_steps, total_steps - self.warmup_steps), 1.0)

    def check(self, total_steps: int) -> None:
        super().check(total_steps)
        require(
            _whole(self.warmup_steps) and 0 <= self.warmup_steps <= total_steps,
            f"warmup_steps={self.warmup_steps}: must be a whole number from 0 to total_steps={total_steps}",
        )


@dataclasses.dataclass(frozen=True)
class Constant(_Warmup):
    """1 after the warm-up.

    >>> [float(Constant(warmup_steps=10).factor(step, 100)) for step in (0, 5, 10, 99)]
    [0.0, 0.5, 1.0, 1.0]
    """

    def curve(self, step: jax.Array, total_steps: int) -> jax.Array:
        return jnp.ones_like(step, dtype=float)


@dataclasses.dataclass(frozen=True)
class Cosine(_Warmup):
    """Half a cosine from 1 down to `final` (Loshchilov & Hutter, 2017, without restarts).

    >>> schedule = Cosine(warmup_steps=10, final=0.1)
    >>> [round(float(schedule.factor(step, 110)), 3) for step in (0, 5, 10, 60, 110)]
    [0.0, 0.5, 1.0, 0.55, 0.1]

    Attributes:
      final: the factor at the end of training.
    """

    final: float = hparam(0.0)

    def curve(self, step: jax.Array, total_steps: int) -> jax.Array:
        return _cosine(1.0, self.final, self.progress(step, total_steps))

    def check(self, total_steps: int) -> None:
        super().check(total_steps)
        _check_final(self.final)


@dataclasses.dataclass(frozen=True)
class Linear(_Warmup):
    """A straight line from 1 down to `final`.

    >>> [round(float(Linear(final=0.2).factor(step, 100)), 3) for step in (0, 25, 50, 100)]
    [1.0, 0.8, 0.6, 0.2]

    Attributes:
      final: the factor at the end of training.
    """

    final: float = hparam(0.0)

    def curve(self, step: jax.Array, total_steps: int) -> jax.Array:
        return 1.0 - (1.0 - self.final) * self.progress(step, total_steps)

    def check(self, total_steps: int) -> None:
        super().check(total_steps)
        _check_final(self.final)


@dataclasses.dataclass(frozen=True)
class Polynomial(_Warmup):
    """final + (1 - final) (1 - progress)^power, where progress goes from 0 after the warm-up to 1 at the end.

    >>> [round(float(Polynomial(power=2.0).factor(step, 100)), 3) for step in (0, 50, 90, 100)]
    [1.0, 0.25, 0.01, 0.0]

    Attributes:
      final: the factor at the end of training.
      power: 1 is a straight line; higher powers decrease earlier.
    """

    final: float = hparam(0.0)
    power: float = hparam(2.0)

    def curve(self, step: jax.Array, total_steps: int) -> jax.Array:
        return self.final + (1.0 - self.final) * (1.0 - self.progress(step, total_steps)) ** self.power

    def check(self, total_steps: int) -> None:
        super().check(total_steps)
        _check_final(self.final)
        require(_positive(self.power), f"power={self.power}: must be a finite number > 0")


@dataclasses.dataclass(frozen=True)
class InverseSqrt(_Warmup):
    """sqrt(timescale / (timescale + steps since the warm-up)) (Vaswani et al., 2017).

    >>> schedule = InverseSqrt(warmup_steps=100)
    >>> [round(float(schedule.factor(step, 10_000)), 3) for step in (50, 100, 400, 10_000)]
    [0.5, 1.0, 0.5, 0.1]

    Attributes:
      timescale: the steps after the warm-up until the factor is sqrt(1/2); None means `warmup_steps`, as in the paper,
        or 10,000 without warm-up.
    """

    timescale: int | None = None

    def curve(self, step: jax.Array, total_steps: int) -> jax.Array:
        timescale = self.timescale or self.warmup_steps or 10_000
        return (1.0 + _ratio(step - self.warmup_steps, timescale)) ** -0.5

    def check(self, total_steps: int) -> None:
        super().check(total_steps)
        require(
            self.timescale is None or (_whole(self.timescale) and self.timescale > 0),
            f"timescale={self.timescale}: must be None or a whole number of steps > 0",
        )


@dataclasses.dataclass(frozen=True)
class Step(_Warmup):
    """Multiplies the factor by `decay` at every milestone, or once `every` so many steps; both count from step 0.

    >>> [round(float(Step(milestones=(30, 60), decay=0.1).factor(step, 90)), 3) for step in (29, 30, 60)]
    [1.0, 0.1, 0.01]
    >>> [round(float(Step(every=30, decay=0.5).factor(step, 90)), 3) for step in (29, 30, 60)]
    [1.0, 0.5, 0.25]

    Attributes:
      milestones: the steps, in increasing order; empty if `every` is given.
      every: the steps between two decreases; None if `milestones` are given.
      decay: the factor of each decrease.
    """

    milestones: tuple[int, ...] = ()
    every: int | None = None
    decay: float = hparam(0.1)

    def curve(self, step: jax.Array, total_steps: int) -> jax.Array:
        passed = step // self.every if self.every else jnp.sum(step >= np.asarray(self.milestones, int))
        return self.decay ** passed.astype(float)

    def check(self, total_steps: int) -> None:
        super().check(total_steps)
        require(
            bool(self.milestones) != bool(self.every),
            f"milestones={self.milestones}, every={self.every}: give one of the two, as in every=30",
        )
        require(
            self.every is None or (_whole(self.every) and 0 < self.every < total_steps),
            f"every={self.every}: must be a whole number of steps from 1 to below total_steps={total_steps}",
        )
        require(
            all(_whole(x) for x in self.milestones)
            and all(a < b for a, b in zip((0, *self.milestones), (*self.milestones, total_steps), strict=True)),
            f"milestones={self.milestones}: must be rising steps from 1 to below total_steps={total_steps}",
        )
        _check_decay(self.decay)


@dataclasses.dataclass(frozen=True)
class Exponential(_Warmup):
    """decay^(steps since the warm-up / every): a factor of `decay` per `every` steps, smoothly.

    >>> [round(float(Exponential(decay=0.25, every=100).factor(step, 200)), 3) for step in (0, 50, 100, 200)]
    [1.0, 0.5, 0.25, 0.062]

    Attributes:
      decay: the factor over `every` steps.
      every: the number of steps.
    """

    decay: float = hparam(0.99)
    every: int = 1

    def curve(self, step: jax.Array, total_steps: int) -> jax.Array:
        return self.decay ** _ratio(step - self.warmup_steps, self.every)

    def check(self, total_steps: int) -> None:
        super().check(total_steps)
        _check_decay(self.decay)
        require(_whole(self.every) and self.every > 0, f"every={self.every}: must be a whole number of steps > 0")


@dataclasses.dataclass(frozen=True)
class WarmupStableDecay(_Warmup):
    """1 until the last `decay_steps`, then decreases to `final` (Hu et al., 2024).

    >>> schedule = WarmupStableDecay(warmup_steps=10, decay_steps=20)
    >>> [round(float(schedule.factor(step, 100)), 3) for step in (5, 10, 80, 90, 100)]
    [0.5, 1.0, 1.0, 0.5, 0.0]

    Attributes:
      decay_steps: the steps of the decrease.
      final: the factor at the end of training.
      shape: of the decrease; "sqrt" is 1 - sqrt(progress) (Hägele et al., 2024).
    """

    decay_steps: int = 0
    final: float = hparam(0.0)
    shape: Literal["linear", "cosine", "sqrt"] = "linear"

    def curve(self, step: jax.Array, total_steps: int) -> jax.Array:
        progress = jnp.clip(_ratio(step - (total_steps - self.decay_steps), self.decay_steps), 0.0, 1.0)
        fallen = {"linear": progress, "cosine": 1.0 - _cosine(1.0, 0.0, progress), "sqrt": jnp.sqrt(progress)}
        return 1.0 - (1.0 - self.final) * fallen[self.shape]

    def check(self, total_steps: int) -> None:
        super().check(total_steps)
        require(
            _whole(self.decay_steps) and 1 <= self.decay_steps <= total_steps - self.warmup_steps,
            f"decay_steps={self.decay_steps}: must be at least 1 and fit after "
            f"warmup_steps={self.warmup_steps} into total_steps={total_steps}",
        )
        require(self.shape in ("linear", "cosine", "sqrt"), f"shape={self.shape!r}: must be linear, cosine or sqrt")
        _check_final(self.final)


@dataclasses.dataclass(frozen=True)
class OneCycle(Schedule):
    """Cosines from 1 / div_factor up to 1, then down to 1 / (div_factor final_div_factor) (Smith & Topin, 2018).

    >>> schedule = OneCycle(pct_start=0.3)
    >>> [round(float(schedule.factor(step, 100)), 3) for step in (0, 29, 64, 99)]
    [0.04, 1.0, 0.5, 0.0]

    Attributes:
      pct_start: the fraction of the steps before the peak; the lowest rate is at the last step, as in PyTorch.
      div_factor: the peak rate divided by the first rate.
      final_div_factor: the first rate divided by the last rate.
    """

    pct_start: float = 0.3
    div_factor: float = hparam(25.0)
    final_div_factor: float = hparam(1e4)

    def factor(self, step: jax.Array | int, total_steps: int) -> jax.Array:
        step = jnp.asarray(step)
        peak, last = self.pct_start * total_steps - 1, total_steps - 1
        start = 1.0 / self.div_factor
        rise = _cosine(start, 1.0, _ratio(step, peak))
        fall = _cosine(1.0, start / self.final_div_factor, jnp.minimum(_ratio(step - peak, last - peak), 1.0))
        return jnp.where(step <= peak, rise, fall)

    def check(self, total_steps: int) -> None:
        super().check(total_steps)
        require(
            _positive(self.pct_start) and self.pct_start < 1 < self.pct_start * total_steps,
            f"pct_start={self.pct_start}: must be between 0 and 1, and more than one of total_steps={total_steps}",
        )
        for name in ("div_factor", "final_div_factor"):
            value = getattr(self, name)
            require(_positive(value) and value >= 1, f"{name}={value}: must be a finite number >= 1")


@dataclasses.dataclass(frozen=True)
class CosineRestarts(_Warmup):
    """Repeated cosines from 1 to `final` (SGDR; Loshchilov & Hutter, 2017).

    >>> schedule = CosineRestarts(period=100, growth=2)
    >>> [round(float(schedule.factor(step, 700)), 3) for step in (0, 50, 100, 200, 300)]
    [1.0, 0.5, 1.0, 0.5, 1.0]

    Attributes:
      period: the steps of the first cosine.
      growth: the length of each cosine, as a multiple of the one before.
      final: the factor at the end of each cosine.
    """

    period: int = 1000
    growth: int = 1
    final: float = hparam(0.0)

    def curve(self, step: jax.Array, total_steps: int) -> jax.Array:
        starts = [self.warmup_steps]
        while starts[-1] < total_steps:
            starts.append(starts[-1] + self.period * self.growth ** (len(starts) - 1))
        cycle = jnp.sum(step >= np.asarray(starts[1:], int))
        length = jnp.asarray(np.diff(starts, append=np.inf), dtype=float)[cycle]
        return _cosine(1.0, self.final, (step - jnp.asarray(starts)[cycle]) / length)

    def check(self, total_steps: int) -> None:
        super().check(total_steps)
        for name in ("period", "growth"):
            value = getattr(self, name)
            require(_whole(value) and value > 0, f"{name}={value}: must be a whole number > 0")
        _check_final(self.final)


def _ratio(steps: jax.Array, of: float) -> jax.Array:
    return jnp.asarray(steps, dtype=float) / (of or 1)  # the ratio is unused if `of` is 0


def _cosine(start, end, progress: jax.Array) -> jax.Array:
    """Interpolates from `start` to `end` along half a cosine, as `progress` goes from 0 to 1."""
    return end + (start - end) * 0.5 * (1.0 + jnp.cos(jnp.pi * progress))


def _whole(x) -> bool:
    return isinstance(x, int) and not isinstance(x, bool)


def _positive(x) -> bool:
    return concrete(x) and 0 < x < math.inf


def _check_final(final: float) -> None:
    require(concrete(final) and 0 <= final <= 1, f"final={final}: must be from 0 to 1, a fraction of the learning rate")


def _check_decay(decay: float) -> None:
    require(concrete(decay) and 0 < decay <= 1, f"decay={decay}: must be above 0 and at most 1")
