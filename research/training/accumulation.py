"""Gradients of a batch in micro-batches: equal to those of the whole batch, whatever the terms' weights.

    gradients = accumulate(gradients_of(terms), weights_of(terms), micro_batches=4)
    gradient, summed, carry = gradients(params, carry, batch, key)

`terms(params, carry, batch, key)` gives loss terms, {name: (weighted sum, sum of weights)}, and what it carries from
one batch to the next (batch statistics).  A term is its sum divided by its weight over the whole batch, so the weights
of all micro-batches come first, and each micro-batch then gives its share of the gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

Terms = dict[str, tuple[jax.Array, jax.Array]]
TermsFunction = Callable[[Any, Any, Any, jax.Array], tuple[Terms, Any]]
"""(params, carry, batch, key) -> (terms, carry)"""

Gradients = Callable[..., tuple[Any, Terms, Any]]
"""(params, carry, batch, key, weights=None) -> (gradients, terms, carry); without weights, the batch is all there is"""

Weights = Callable[[Any, Any, Any, jax.Array], dict[str, jax.Array]]
"""(params, carry, batch, key) -> {name of a term: its weight}, not differentiated"""


def gradients_of(terms: TermsFunction, axis_name: str | None = None) -> Gradients:
    """The gradients of the total loss, with the terms' sums and weights beside them.

    Args:
      terms: see the module.
      axis_name: the mapped axis that the batch is split over.  The result is this part's share: sum it over the axis.
    """

    def gradients(params: Any, carry: Any, batch: Any, key: jax.Array, weights: Any = None) -> tuple[Any, Terms, Any]:
        def total(params: Any) -> tuple[jax.Array, tuple[Terms, Any]]:
            found, after = terms(params, carry, batch, key)
            whole = weights
            if whole is None:
                whole = _summed(jax.lax.stop_gradient({name: weight for name, (_, weight) in found.items()}), axis_name)
            return total_loss({name: ratio(found[name][0], whole[name]) for name in found}), (found, after)

        gradient, (found, after) = jax.grad(total, has_aux=True)(params)
        return gradient, found, after

    return gradients


def weights_of(terms: TermsFunction) -> Weights:
    """The weight of every term.

    Where the weights do not depend on the parameters, the compiler drops the forward pass that this asks for.
    """

    def weights(params: Any, carry: Any, batch: Any, key: jax.Array) -> dict[str, jax.Array]:
        return jax.lax.stop_gradient(
            {name: weight for name, (_, weight) in terms(params, carry, batch, key)[0].items()}
        )

    return weights


def accumulate(gradients: Gradients, weights: Weights, micro_batches: int, axis_name: str | None = None) -> Gradients:
    """`gradients` over a batch in `micro_batches` parts, one after another; 1 leaves it as it is.

    Args:
      gradients: as `gradients_of` gives them.
      weights: as `weights_of` gives them.
      micro_batches: a divisor of the batch; each gets a key of its own, and every micro_batches-th example, so that a
        batch that is sharded over devices stays where it is.
      axis_name: as for `gradients_of`.
    """
    if micro_batches == 1:
        return gradients

    def accumulated(params: Any, carry: Any, batch: Any, key: jax.Array) -> tuple[Any, Terms, Any]:
        split = jax.tree.map(lambda x: x.reshape(-1, micro_batches, *x.shape[1:]).swapaxes(0, 1), batch)
        parts = split, jax.random.split(key, micro_batches)
        each = jax.lax.map(lambda part: weights(params, carry, *part), parts)
        whole = _summed(jax.tree.map(lambda x: x.sum(0), each), axis_name)

        def add(state: tuple[Any, Any], part: Any) -> tuple[tuple[Any, Any], Terms]:
            total, carry = state
            gradient, found, carry = gradients(params, carry, *part, whole)
            return (jax.tree.map(jnp.add, total, gradient), carry), found

        zeros = jax.tree.map(jnp.zeros_like, params)
        (total, carry), found = jax.lax.scan(add, (zeros, carry), parts)
        return total, jax.tree.map(lambda x: x.sum(0), found), carry

    return accumulated


def total_loss(values: Mapping[str, jax.Array]) -> jax.Array:
    """The sum of "loss" and of every "loss/…"."""
    return sum(value for name, value in values.items() if name == "loss" or name.startswith("loss/"))


def ratio(total: jax.Array, weight: jax.Array) -> jax.Array:
    """total / weight, and 0 where there is nothing to average."""
    return jnp.where(weight > 0, total / jnp.where(weight > 0, weight, 1), 0)


def _summed(tree: Any, axis_name: str | None) -> Any:
    return tree if axis_name is None else jax.lax.psum(tree, axis_name)
