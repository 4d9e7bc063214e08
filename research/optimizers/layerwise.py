"""Optimizers whose update of a weight depends on the layer's other weights."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import jax
import optax

from research import paths
from research.config.hparams import hparam
from research.errors import require
from research.optimizers.optimizer import Optimizer

STACKED = ("*/blocks/*",)
"""Patterns of the parameters of scanned layers, as `research/layers/stack.py` names them."""


@dataclasses.dataclass(frozen=True)
class Layerwise(Optimizer):
    """An optimizer whose update of a weight depends on the layer's other weights.

    Attributes:
      stacked: patterns of the parameters of scanned layers, [layers, ...], each of whose layers is updated by itself;
        by default the layers that `research/layers/stack.py` scans.
    """

    stacked: tuple[str, ...] = STACKED

    pattern_fields: ClassVar[tuple[str, ...]] = (*Optimizer.pattern_fields, "stacked")

    def is_stacked(self, path: str) -> bool:
        """True if the parameter's leading axis counts layers."""
        return any(paths.matches(path, pattern) for pattern in self.stacked)

    def per_layer(self, one: optax.GradientTransformation) -> optax.GradientTransformation:
        """Applies `one` to each layer of stacked parameters separately."""
        each = optax.GradientTransformation(jax.vmap(one.init), jax.vmap(one.update))

        def split(tree: Any) -> optax.GradientTransformation:
            # One group per number of layers, because vmap needs mapped axes of equal size.
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
class Lamb(Layerwise):
    """Adam with each layer's update scaled to the norm of its weights (You et al., 2020), for very large batches.

    >>> rule = Lamb(0.1).transformation()
    >>> params = {"kernel": jnp.array([3.0, 4.0])}
    >>> updates, state = rule.update({"kernel": jnp.array([1.0, 1.0])}, rule.init(params), params)
    >>> round(float(jnp.linalg.norm(updates["kernel"])), 3)  # a tenth of the weights' 5
    0.5

    Attributes:
      b1, b2: decay rates of Adam's running means of the gradients and their squares.
      eps: added to the root of the mean square in Adam.
    """

    b1: float = hparam(0.9)
    b2: float = hparam(0.999)
    eps: float = hparam(1e-6)

    def core(self) -> optax.GradientTransformation:
        adam = optax.scale_by_adam(self.b1, self.b2, self.eps)
        return optax.chain(adam, self.decay(), self.per_layer(optax.scale_by_trust_ratio()))


@dataclasses.dataclass(frozen=True)
class Adafactor(Layerwise):
    """Adam-like updates with second moments factored into a row and a column (Shazeer & Stern, 2018), to save memory.

    >>> rule = Adafactor(weight_decay=None).transformation()
    >>> state = rule.init({"kernel": jnp.zeros((256, 512))})
    >>> sum(x.size for x in jax.tree.leaves(state)) < 1000
    True

    Attributes:
      eps: added to the squared gradients.
      decay_rate: second moments decay by 1 - t^-decay_rate at step t.
      clipping_threshold: maximum root mean square of a layer's update; None sets no limit.
      scale_parameters: multiplies updates by the root mean square of the layer's weights.
      momentum: decay rate of a running mean of the updates; None uses no momentum.
      min_dim_size_to_factor: layers whose second largest axis is smaller than this keep full second moments.
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
