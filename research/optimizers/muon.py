"""Muon: orthogonalised momentum for matrices."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import optax

from research import paths
from research.config.hparams import hparam
from research.errors import require
from research.optimizers.layerwise import Layerwise

MATRICES = (("*/kernel", 1),)
"""The parameters that Muon takes for matrices by default: every kernel, its last axis the output."""


@dataclasses.dataclass(frozen=True)
class Muon(Layerwise):
    """Orthogonalised momentum for matrices (Jordan et al., 2024), AdamW for every other parameter.

    >>> optimizer = Muon(1e-2, weight_decay=0.1, matrices=(("head/*", 0), ("*/kernel", 1)))
    >>> params = {"hidden": {"kernel": jnp.ones((8, 8)), "bias": jnp.ones(8)}, "head": {"kernel": jnp.ones((8, 2))}}
    >>> optimizer.check_paths(params)
    >>> rule = optimizer.transformation()
    >>> updates, state = rule.update(params, rule.init(params), params)
    >>> jax.tree.map(jnp.shape, updates["head"])
    {'kernel': (8, 2)}

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

    rule_fields: ClassVar[tuple[str, ...]] = (*Layerwise.rule_fields, "matrices")

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
        """The axes of a matrix that are input and output; a layer axis is neither."""
        inputs = x.ndim - paths.first(path, self.matrices)
        return optax.contrib.MuonDimensionNumbers(
            tuple(range(int(self.is_stacked(path)), inputs)), tuple(range(inputs, x.ndim))
        )

    def _scale_by_shape(self, path: str, x: jax.Array) -> jax.Array:
        inputs, outputs = (math.prod(x.shape[i] for i in axes) for axes in self._axes(path, x))
        if self.match_rms is None:
            return x * math.sqrt(max(1.0, outputs / inputs))
        return x * jnp.asarray(self.match_rms * math.sqrt(max(inputs, outputs)), x.dtype)
