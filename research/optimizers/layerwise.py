"""Optimizers whose update of a weight depends on the other weights of its layer."""

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
"""Scanned layers, as `research/layers/stack.py` names them."""


@dataclasses.dataclass(frozen=True)
class Layerwise(Optimizer):
    """An optimizer whose update of a weight depends on the layer's other weights.

    Attributes:
      stacked: patterns of the parameters of scanned layers, [layers, ...], whose layers are updated as if each stood
        alone; by default what `research/layers/stack.py` scans.
    """

    stacked: tuple[str, ...] = STACKED

    pattern_fields: ClassVar[tuple[str, ...]] = (*Optimizer.pattern_fields, "stacked")

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
class Lamb(Layerwise):
    """Adam with the update of each layer as long as its weights (You et al., 2020), for very large batches.

    >>> rule = Lamb(0.1).transformation()
    >>> params = {"kernel": jnp.array([3.0, 4.0])}
    >>> updates, state = rule.update({"kernel": jnp.array([1.0, 1.0])}, rule.init(params), params)
    >>> round(float(jnp.linalg.norm(updates["kernel"])), 3)  # a tenth of the weights' 5
    0.5

    Attributes:
      b1, b2, eps: of Adam: what the means of gradients and squares keep, and what is added to the root.
    """

    b1: float = hparam(0.9)
    b2: float = hparam(0.999)
    eps: float = hparam(1e-6)

    def core(self) -> optax.GradientTransformation:
        adam = optax.scale_by_adam(self.b1, self.b2, self.eps)
        return optax.chain(adam, self.decay(), self.per_layer(optax.scale_by_trust_ratio()))


@dataclasses.dataclass(frozen=True)
class Adafactor(Layerwise):
    """Second moments kept as a row and a column (Shazeer & Stern, 2018): a matrix has state for its sides alone.

    >>> rule = Adafactor(weight_decay=None).transformation()
    >>> state = rule.init({"kernel": jnp.zeros((256, 512))})
    >>> sum(x.size for x in jax.tree.leaves(state)) < 1000
    True

    Attributes:
      eps: added to the squared gradients.
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
