"""The base of the optimizers: a value over Optax.

Every optimizer is one pipeline: its `core` turns gradients into a direction, the schedule times the learning rate times
the multiplier of each parameter scales it.  Weight decay is part of the core: added to the gradient (SGD, Adam,
RMSprop: L2), to the direction (AdamW, Lion, Adafactor, Muon: decoupled, so times the learning rate, as in PyTorch), or
before the norm of the direction is taken (Lamb).

Parameters are addressed by path (see paths.py).  Layers of a scanned stack by brackets, in every field:

    rates=(("blocks[0:6]/*", 0.1), ("head/*", 10.0))     a tenth for the first six layers, ten times for the head
    no_decay=("*/bias", "*/scale", "blocks[0]/*")        the first layer is not decayed
    frozen=("blocks[0:3]/*",)                            these layers get no update
"""

from __future__ import annotations

import abc
import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import optax

from research import paths
from research.config.checks import check_part
from research.config.hparams import concrete, hparam
from research.config.inherited import describe_inherited
from research.errors import require
from research.schedules import Constant, Schedule

NO_DECAY = ("*/bias", "*/scale")
"""Biases and the scales of norms: what is not decayed by default."""


def layer_decay(decay: float, layers: Sequence[str]) -> tuple[tuple[str, float], ...]:
    """`rates` that fall from the output to the input: what was learned first is changed least (Bao et al., 2022).

    >>> layer_decay(0.5, ("*", "block0/*", "block1/*", "head/*"))
    (('head/*', 1.0), ('block1/*', 0.5), ('block0/*', 0.25), ('*', 0.125))

    Args:
      decay: the factor from a layer to the one below it.
      layers: a pattern per layer, from the input to the output; scanned ones are `blocks[0]/*`, `blocks[1]/*`, ...  A
        parameter that several match belongs to the last of them; one that none matches has the whole rate.
    """
    return tuple((pattern, float(decay**distance)) for distance, pattern in enumerate(reversed(layers)))


@dataclasses.dataclass(frozen=True)
class Optimizer(abc.ABC):
    """The fields and the pipeline of every optimizer.

    One of your own needs a `core`, from gradients to the direction that is subtracted:

    >>> @dataclasses.dataclass(frozen=True)
    ... class SignSGD(Optimizer):
    ...     def core(self):
    ...         return optax.chain(optax.scale_by_sign(), self.decay())
    >>> rule = SignSGD(learning_rate=0.1).transformation()
    >>> params = {"kernel": jnp.array([1.0, 2.0])}
    >>> updates, state = rule.update({"kernel": jnp.array([0.5, -3.0])}, rule.init(params), params)
    >>> updates["kernel"]
    Array([-0.1,  0.1], dtype=float32)

    Attributes:
      learning_rate: the highest rate, which `schedule` multiplies; trials that differ in it alone share one program.
      schedule: what the learning rate is multiplied by at every step: `Cosine(warmup_steps=1000)`.
      weight_decay: how much of a parameter is taken off it per unit of learning rate, or added to its gradient (SGD,
        Adam, RMSprop).  None leaves decay out of the program; 0.0 is a program that may be given another value.
      no_decay: patterns of the parameters that are not decayed.  The default ones may match nothing.
      rates: (pattern, multiplier of the learning rate); the first that matches holds, layer by layer.
      frozen: patterns of the parameters that get no update, no decay and no optimizer state.  Of a leaf of which only
        some layers are frozen, the whole leaf has state, and those layers a rate of 0.  A batch norm whose parameters
        are all frozen normalises by its running statistics, in training too, and leaves them as they are.
    """

    learning_rate: float = hparam(1e-3)
    schedule: Schedule = Constant()
    weight_decay: float | None = hparam(None)
    no_decay: tuple[str, ...] = NO_DECAY
    rates: tuple[tuple[str, float], ...] = ()
    frozen: tuple[str, ...] = ()

    pattern_fields: ClassVar[tuple[str, ...]] = ("no_decay", "frozen")
    """Fields that hold patterns."""
    rule_fields: ClassVar[tuple[str, ...]] = ("rates",)
    """Fields that hold pairs of a pattern and a value."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        describe_inherited(cls)

    @abc.abstractmethod
    def core(self) -> optax.GradientTransformation:
        """From gradients to the direction that is to be subtracted, before the learning rate; with weight decay."""

    def transformation(self, rate: jax.Array | float | None = None) -> optax.GradientTransformation:
        """The update rule of one step; its `update` needs params, and takes the loss as `value`.

        Hyperparameters may be traced.

        Args:
          rate: the learning rate of this step, as `learning_rate_at` gives it; by default `learning_rate` itself.
        """
        trained = optax.chain(self.scaled(self.learning_rate if rate is None else rate), self._multiply())
        return _keep_dtypes(optax.partition({"trained": trained, "frozen": optax.set_to_zero()}, self._labels))

    def scaled(self, rate: jax.Array | float) -> optax.GradientTransformation:
        """From gradients to updates, before the multipliers of `rates`: minus `rate` times the direction."""

        def scale(updates: optax.Updates, params: optax.Params) -> optax.Updates:
            return jax.tree.map(lambda u: jnp.asarray(-rate, u.dtype) * u, updates)

        return optax.chain(self.core(), optax.stateless(scale))

    @property
    def averages(self) -> bool:
        """True if the optimizer has parameters of its own for evaluation (`averaged`)."""
        return False

    def averaged(self, state: optax.OptState, params: optax.Params) -> optax.Params:
        """The parameters to evaluate with, of an optimizer that `averages`."""
        return params

    def learning_rate_at(self, step: jax.Array | int, total_steps: int) -> jax.Array:
        """The rate of the update after `step` earlier ones: a scalar."""
        return self.learning_rate * self.schedule.factor(step, total_steps)

    def trained(self, params: Any) -> Any:
        """For every parameter 1 where it is trained, 0 where it is frozen: arrays of shape [] or [layers, 1, ...]."""
        return paths.assign(params, [(pattern, 0.0) for pattern in self.frozen], 1.0)

    def decay(self) -> optax.GradientTransformation:
        """Adds weight_decay times the parameter, where `no_decay` does not forbid it."""
        if self.weight_decay is None:
            return optax.identity()

        def add(u: jax.Array, p: jax.Array, decayed) -> jax.Array:
            return u + jnp.asarray(self.weight_decay * decayed, p.dtype) * p if decayed.any() else u

        def update(updates: optax.Updates, params: optax.Params) -> optax.Updates:
            decayed = paths.assign(params, [(pattern, 0.0) for pattern in self.no_decay], 1.0)
            return jax.tree.map(add, updates, params, decayed)

        return optax.stateless(update)

    def check(self, total_steps: int) -> None:
        """Raises RequestError, the field's name first, if a value makes no sense.  For concrete values."""
        for field in dataclasses.fields(self):
            value, (expected, holds) = getattr(self, field.name), _RANGES.get(field.name, ("", None))
            if holds and not (value is None and "None" in str(field.type)):
                require(concrete(value) and holds(value), f"{field.name}={value!r}: must be {expected}")
        for name in (*self.pattern_fields, *self.rule_fields):
            for pattern in self._patterns(name, getattr(self, name)):
                paths.check_pattern(name, pattern)
        for pattern, multiplier in self.rates:
            require(
                concrete(multiplier) and 0 <= multiplier < math.inf,
                f"rates={(pattern, multiplier)!r}: the multiplier must be a finite number >= 0",
            )
        check_part("schedule", self.schedule, total_steps)

    def check_paths(self, params: Any) -> None:
        """Raises RequestError if a pattern matches no parameter, or nothing is left to train; shapes are enough.

        A field's default patterns may match nothing: they are for any model, also one without biases or norms.
        """
        for field in dataclasses.fields(self):
            if field.name in (*self.pattern_fields, *self.rule_fields):
                usual = self._patterns(field.name, field.default)
                chosen = [p for p in self._patterns(field.name, getattr(self, field.name)) if p not in usual]
                paths.check_patterns(field.name, chosen, params)
        require(
            any(rate.any() for rate in jax.tree.leaves(self.trained(params))),
            f"frozen={self.frozen!r}: freezes every parameter, and leaves nothing to train",
        )

    def _patterns(self, name: str, value: Any) -> tuple[str, ...]:
        """The patterns in the value of the field of that name."""
        if name in self.pattern_fields:
            require(isinstance(value, tuple), f"{name}={value!r}: must be a tuple of patterns, as in ('head/*',)")
            return value
        pairs = isinstance(value, tuple) and all(isinstance(rule, tuple) and len(rule) == 2 for rule in value)
        require(pairs, f"{name}={value!r}: must be a tuple of pairs, as in (('head/*', 0),)")
        return tuple(pattern for pattern, _ in value)

    def _multiply(self) -> optax.GradientTransformation:
        """Scales the update of every parameter by its multiplier; frozen layers by 0."""
        rules = (*((pattern, 0.0) for pattern in self.frozen), *self.rates)

        def scale(u: jax.Array, multiplier) -> jax.Array:
            # Not u * 0, which would be NaN where the direction is not finite.
            return u if (multiplier == 1).all() else jnp.where(multiplier == 0, 0, u * jnp.asarray(multiplier, u.dtype))

        return optax.stateless(lambda updates, _: jax.tree.map(scale, updates, paths.assign(updates, rules, 1.0)))

    def _labels(self, params: optax.Params) -> Any:
        return jax.tree.map(lambda rate: "trained" if rate.any() else "frozen", self.trained(params))


def _keep_dtypes(inner: optax.GradientTransformation) -> optax.GradientTransformationExtraArgs:
    """Updates and state keep their types: a float64 hyperparameter does not turn float32 moments into float64 ones."""

    def update(updates, state, params=None, **extra):
        new_updates, new_state = optax.with_extra_args_support(inner).update(updates, state, params, **extra)
        return optax.tree.cast_like(new_updates, updates), optax.tree.cast_like(new_state, state)

    return optax.GradientTransformationExtraArgs(inner.init, update)


_Range = tuple[str, Callable[[float], bool]]
_POSITIVE: _Range = ("a finite number > 0", lambda x: 0 < x < math.inf)
_NOT_NEGATIVE: _Range = ("a finite number >= 0", lambda x: 0 <= x < math.inf)
_SHARE: _Range = ("at least 0 and below 1", lambda x: 0 <= x < 1)
_COUNT: _Range = ("a whole number >= 1", lambda x: isinstance(x, int) and x >= 1)

_RANGES: dict[str, _Range] = {
    "learning_rate": _POSITIVE,
    "weight_decay": _NOT_NEGATIVE,
    "b1": _SHARE,
    "b2": _SHARE,
    "alpha": _SHARE,
    "momentum": _SHARE,
    "eps": _NOT_NEGATIVE,
    "decay_rate": _POSITIVE,
    "clipping_threshold": _POSITIVE,
    "match_rms": _POSITIVE,
    "min_dim_size_to_factor": _COUNT,
    "ns_steps": _COUNT,
}
"""The range of a field of that name, in any optimizer."""
