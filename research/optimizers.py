"""Optimizers as values over Optax.

    AdamW(learning_rate=3e-4, schedule=Cosine(warmup_steps=1000), weight_decay=0.1, frozen=("embedding/*",))

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
from typing import Any

import jax
import jax.numpy as jnp
import optax

from research import paths
from research.config.checks import check_part
from research.config.hparams import concrete, hparam
from research.errors import require
from research.schedules import Constant, Schedule

NO_DECAY = ("*/bias", "*/scale")
"""Biases and the scales of norms: what is not decayed by default."""

MATRICES = (("*/kernel", 1),)
"""What Muon takes for matrices by default: every kernel, its last axis the output."""


STACKED = ("*/blocks/*",)
"""Scanned layers, as `research/layers/stack.py` names them."""


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
    """What every optimizer has.

    Attributes:
      learning_rate: the highest rate, which `schedule` multiplies.
      weight_decay: None leaves decay out of the program; 0.0 is a program that may be given another value.
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

    @abc.abstractmethod
    def core(self) -> optax.GradientTransformation:
        """From gradients to the direction that is to be subtracted, before the learning rate; with weight decay."""

    def transformation(self, total_steps: int) -> optax.GradientTransformation:
        """The optimizer for a training of `total_steps`; `update` needs params.  Hyperparameters may be traced."""
        trained = optax.chain(
            self.core(),
            optax.scale_by_schedule(lambda step: -self.learning_rate_at(step, total_steps)),
            self._multiply(),
        )
        return _keep_dtypes(optax.partition({"trained": trained, "frozen": optax.set_to_zero()}, self._labels))

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
        for name, patterns in self._patterns().items():
            for pattern in patterns:
                paths.check_pattern(name, pattern)
        for pattern, multiplier in self.rates:
            require(
                concrete(multiplier) and 0 <= multiplier < math.inf,
                f"rates={(pattern, multiplier)!r}: the multiplier must be a finite number >= 0",
            )
        check_part("schedule", self.schedule, total_steps)

    def check_paths(self, params: Any) -> None:
        """Raises RequestError if a pattern matches no parameter, or nothing is left to train; shapes are enough."""
        for name, patterns in self._patterns().items():
            paths.check_patterns(name, [p for p in patterns if p not in _MAY_MATCH_NOTHING.get(name, ())], params)
        require(
            any(rate.any() for rate in jax.tree.leaves(self.trained(params))),
            f"frozen={self.frozen!r}: freezes every parameter, and leaves nothing to train",
        )

    def _patterns(self) -> dict[str, tuple[str, ...]]:
        """The patterns of every field that holds some, by the field's name."""
        found = {}
        for name in ("no_decay", "frozen", "stacked"):
            found[name] = patterns = getattr(self, name, ())
            require(isinstance(patterns, tuple), f"{name}={patterns!r}: must be a tuple of patterns, as in ('head/*',)")
        for name in ("rates", "matrices"):
            rules = getattr(self, name, ())
            pairs = isinstance(rules, tuple) and all(isinstance(rule, tuple) and len(rule) == 2 for rule in rules)
            require(pairs, f"{name}={rules!r}: must be a tuple of pairs, as in (('head/*', 0),)")
            found[name] = tuple(pattern for pattern, _ in rules)
        return found

    def _multiply(self) -> optax.GradientTransformation:
        """Scales the update of every parameter by its multiplier; frozen layers by 0."""
        rules = (*((pattern, 0.0) for pattern in self.frozen), *self.rates)

        def scale(u: jax.Array, multiplier) -> jax.Array:
            # Not u * 0, which would be NaN where the direction is not finite.
            return u if (multiplier == 1).all() else jnp.where(multiplier == 0, 0, u * jnp.asarray(multiplier, u.dtype))

        return optax.stateless(lambda updates, _: jax.tree.map(scale, updates, paths.assign(updates, rules, 1.0)))

    def _labels(self, params: optax.Params) -> Any:
        return jax.tree.map(lambda rate: "trained" if rate.any() else "frozen", self.trained(params))


@dataclasses.dataclass(frozen=True)
class SGD(Optimizer):
    """Stochastic gradient descent; momentum as PyTorch's: v = momentum v + g (None: none)."""

    learning_rate: float = hparam(0.1)
    momentum: float | None = hparam(None)
    nesterov: bool = False

    def core(self) -> optax.GradientTransformation:
        momentum = optax.identity() if self.momentum is None else optax.trace(self.momentum, self.nesterov)
        return optax.chain(self.decay(), momentum)

    def check(self, total_steps: int) -> None:
        super().check(total_steps)
        require(not self.nesterov or self.momentum is not None, "nesterov=True: needs a momentum, as in momentum=0.9")


@dataclasses.dataclass(frozen=True)
class RMSprop(Optimizer):
    """Gradients over the root of their mean square (Tieleman & Hinton, 2012).

    As PyTorch's: the mean square starts at 0, and eps is added to the root.
    """

    alpha: float = hparam(0.99)
    eps: float = hparam(1e-8)
    momentum: float | None = hparam(None)

    def core(self) -> optax.GradientTransformation:
        momentum = optax.identity() if self.momentum is None else optax.trace(self.momentum)
        return optax.chain(self.decay(), optax.scale_by_rms(self.alpha, self.eps, eps_in_sqrt=False), momentum)


@dataclasses.dataclass(frozen=True)
class Adam(Optimizer):
    """Adam (Kingma & Ba, 2015).  A weight decay is L2 here: added to the gradient."""

    b1: float = hparam(0.9)
    b2: float = hparam(0.999)
    eps: float = hparam(1e-8)

    def core(self) -> optax.GradientTransformation:
        return optax.chain(self.decay(), optax.scale_by_adam(self.b1, self.b2, self.eps))


@dataclasses.dataclass(frozen=True)
class AdamW(Optimizer):
    """Adam with decoupled weight decay (Loshchilov & Hutter, 2019)."""

    weight_decay: float | None = hparam(0.01)
    b1: float = hparam(0.9)
    b2: float = hparam(0.999)
    eps: float = hparam(1e-8)

    def core(self) -> optax.GradientTransformation:
        return optax.chain(optax.scale_by_adam(self.b1, self.b2, self.eps), self.decay())


@dataclasses.dataclass(frozen=True)
class Lion(Optimizer):
    """The sign of an interpolated momentum (Chen et al., 2023); wants a rate 3 to 10 times lower than AdamW's."""

    learning_rate: float = hparam(1e-4)
    b1: float = hparam(0.9)
    b2: float = hparam(0.99)

    def core(self) -> optax.GradientTransformation:
        return optax.chain(optax.scale_by_lion(self.b1, self.b2), self.decay())


@dataclasses.dataclass(frozen=True)
class _Layerwise(Optimizer):
    """An optimizer whose update of a weight depends on the layer's other weights.

    Attributes:
      stacked: patterns of the parameters of scanned layers, [layers, ...], whose layers are updated as if each stood
        alone; by default what `research/layers/stack.py` scans.
    """

    stacked: tuple[str, ...] = STACKED

    def is_stacked(self, path: str) -> bool:
        """Whether the parameter's leading axis counts layers."""
        return any(paths.matches(path, pattern) for pattern in self.stacked)

    def per_layer(self, one: optax.GradientTransformation) -> optax.GradientTransformation:
        """`one`, on the layers of stacked parameters one by one."""
        each = optax.GradientTransformation(jax.vmap(one.init), jax.vmap(one.update))

        def split(tree: Any) -> optax.GradientTransformation:
            # A group for every number of layers: vmap wants it to be the same for all that it maps.
            label = lambda path, x: f"{x.shape[0]} layers" if self.is_stacked(path) else "single"  # noqa: E731
            labels = paths.map_with_path(label, tree)
            groups = sorted(set(jax.tree.leaves(labels)))
            return optax.partition({group: one if group == "single" else each for group in groups}, labels)

        return optax.GradientTransformation(
            lambda params: split(params).init(params),
            lambda updates, state, params=None: split(updates).update(updates, state, params),
        )

    def check_paths(self, params: Any) -> None:
        super().check_paths(params)
        for path, x in paths.flatten(params).items():
            require(x.ndim > 0 or not self.is_stacked(path), f"stacked={self.stacked!r}: {path} is a scalar, no stack")


@dataclasses.dataclass(frozen=True)
class Lamb(_Layerwise):
    """Adam with the update of each layer as long as its weights (You et al., 2020)."""

    b1: float = hparam(0.9)
    b2: float = hparam(0.999)
    eps: float = hparam(1e-6)

    def core(self) -> optax.GradientTransformation:
        adam = optax.scale_by_adam(self.b1, self.b2, self.eps)
        return optax.chain(adam, self.decay(), self.per_layer(optax.scale_by_trust_ratio()))


@dataclasses.dataclass(frozen=True)
class Adafactor(_Layerwise):
    """Second moments kept as a row and a column (Shazeer & Stern, 2018).

    Attributes:
      decay_rate: the second moments of step t are kept by 1 - t^-decay_rate.
      clipping_threshold: the highest root mean square of a layer's update; None: no limit.
      scale_parameters: updates are relative to the root mean square of the layer's weights.
      momentum: of the update; None: none.
      min_dim_size_to_factor: layers narrower than this in their second largest axis keep second moments in full.
    """

    learning_rate: float = hparam(1e-2)
    decay_rate: float = hparam(0.8)
    eps: float = hparam(1e-30)
    clipping_threshold: float | None = hparam(1.0)
    scale_parameters: bool = True
    momentum: float | None = hparam(None)
    min_dim_size_to_factor: int = 128

    def core(self) -> optax.GradientTransformation:
        layer = [
            optax.scale_by_factored_rms(
                decay_rate=self.decay_rate, epsilon=self.eps, min_dim_size_to_factor=self.min_dim_size_to_factor
            )
        ]
        if self.clipping_threshold is not None:
            layer.append(optax.clip_by_block_rms(self.clipping_threshold))
        if self.scale_parameters:
            layer.append(optax.scale_by_param_block_rms())
        momentum = optax.identity() if self.momentum is None else optax.ema(self.momentum, debias=False)
        return optax.chain(self.per_layer(optax.chain(*layer)), momentum, self.decay())


@dataclasses.dataclass(frozen=True)
class Muon(_Layerwise):
    """Orthogonalised momentum for matrices (Jordan et al., 2024), AdamW for every other parameter.

    Attributes:
      matrices: (pattern, how many of the last axes are the output); the first that matches holds, 0 is no matrix.  The
        axes before are the input: a dense kernel [in, out] and a convolution's [height, width, in, out] have 1, a
        projection to heads [features, heads, head_dim] has 2.  Embeddings and the output layer do better with
        AdamW, so with a rule such as ("head/*", 0) in front.
      match_rms: the root mean square of a matrix's update, 0.2 as AdamW's is, so that one learning rate serves both
        (Liu et al., 2025); None scales by sqrt(max(1, out / in)) instead, as Jordan et al. do.
      momentum, nesterov, ns_steps: of the matrices; ns_steps counts Newton-Schulz iterations.
      b1, b2, eps: of AdamW.
    """

    matrices: tuple[tuple[str, int], ...] = MATRICES
    match_rms: float | None = hparam(0.2)
    momentum: float = hparam(0.95)
    nesterov: bool = True
    ns_steps: int = 5
    b1: float = hparam(0.9)
    b2: float = hparam(0.999)
    eps: float = hparam(1e-8)

    def core(self) -> optax.GradientTransformation:
        muon = optax.contrib.scale_by_muon(
            ns_steps=self.ns_steps,
            beta=self.momentum,
            nesterov=self.nesterov,
            weight_dimension_numbers=lambda tree: paths.map_with_path(self._axes, tree),
        )
        shape = optax.stateless(lambda updates, _: paths.map_with_path(self._scale_by_shape, updates))
        adam = optax.scale_by_adam(self.b1, self.b2, self.eps)
        kinds = optax.partition({"matrix": optax.chain(muon, shape), "other": adam}, self._kinds)
        return optax.chain(kinds, self.decay())

    def check(self, total_steps: int) -> None:
        super().check(total_steps)
        for pattern, outputs in self.matrices:
            require(
                isinstance(outputs, int) and outputs >= 0,
                f"matrices={(pattern, outputs)!r}: the second counts output axes, so is a whole number >= 0",
            )

    def check_paths(self, params: Any) -> None:
        super().check_paths(params)
        for path, x in paths.flatten(params).items():
            outputs, axes = paths.first(path, self.matrices, 0), x.ndim - self.is_stacked(path)
            require(
                outputs == 0 or outputs < axes,
                f"matrices: {path} has {axes} axes, so not {outputs} for the output and one for the input; "
                f"put ({path!r}, 0) in front to give it to AdamW",
            )

    def _kinds(self, params: optax.Params) -> Any:
        return paths.map_with_path(lambda path, _: "matrix" if paths.first(path, self.matrices, 0) else "other", params)

    def _axes(self, path: str, x: jax.Array) -> optax.contrib.MuonDimensionNumbers:
        """Which axes of a matrix are input and output; a layer axis is neither."""
        inputs = x.ndim - paths.first(path, self.matrices)
        return optax.contrib.MuonDimensionNumbers(
            tuple(range(int(self.is_stacked(path)), inputs)), tuple(range(inputs, x.ndim))
        )

    def _scale_by_shape(self, path: str, x: jax.Array) -> jax.Array:
        inputs, outputs = (math.prod(x.shape[i] for i in axes) for axes in self._axes(path, x))
        if self.match_rms is None:
            return x * math.sqrt(max(1.0, outputs / inputs))
        return x * jnp.asarray(self.match_rms * math.sqrt(max(inputs, outputs)), x.dtype)


def _keep_dtypes(inner: optax.GradientTransformation) -> optax.GradientTransformation:
    """Updates and state keep their types: a float64 hyperparameter does not turn float32 moments into float64 ones."""

    def update(updates, state, params=None):
        new_updates, new_state = inner.update(updates, state, params)
        return optax.tree.cast_like(new_updates, updates), optax.tree.cast_like(new_state, state)

    return optax.GradientTransformation(inner.init, update)


_MAY_MATCH_NOTHING = {
    "no_decay": NO_DECAY,
    "stacked": STACKED,
    "matrices": tuple(pattern for pattern, _ in MATRICES),
}
"""The defaults are for any model, also one without biases or norms."""

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
"""What a field of that name may hold, in any optimizer."""
