"""Gradient accumulation: micro-batches give the gradients of the whole batch, whatever the weights of the loss terms.

    gradients = accumulate(gradients_of(terms), weights_of(terms), micro_batches=4)
    gradient, summed, carry = gradients(params, carry, batch, key)

`terms(params, carry, batch, key)` returns loss terms, {name: (weighted sum, sum of weights)}, and the updated `carry`,
which passes from one batch to the next (batch statistics).  A term is its sum divided by its weight over the whole
batch, so the weights of all micro-batches are summed first; then each micro-batch adds its share of the gradient.
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
"""(params, carry, batch, key, weights=None) -> (gradients, terms, carry); None takes the weights of this batch"""

Weights = Callable[[Any, Any, Any, jax.Array], dict[str, jax.Array]]
"""(params, carry, batch, key) -> {name of a term: its weight}, not differentiated"""


def gradients_of(terms: TermsFunction, axis_name: str | None = None) -> Gradients:
    """Makes a function that returns the gradients of the total loss and the terms' sums and weights.

    Args:
      terms: see the module's docstring.
      axis_name: the mapped axis that the batch is split over.  Each part returns its share; sum these over the axis.
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
    """Makes a function that returns the weight of every term.

    It runs the forward pass, which the compiler removes if the weights do not depend on the parameters.
    """

    def weights(params: Any, carry: Any, batch: Any, key: jax.Array) -> dict[str, jax.Array]:
        return jax.lax.stop_gradient(
            {name: weight for name, (_, weight) in terms(params, carry, batch, key)[0].items()}
        )

    return weights


def accumulate(gradients: Gradients, weights: Weights, micro_batches: int, axis_name: str | None = None) -> Gradients:
    """Makes `gradients` process a batch in `micro_batches` parts, one after another; 1 returns `gradients` itself.

    Args:
      gradients: made by `gradients_of`.
      weights: made by `weights_of`.
      micro_batches: a divisor of the batch size.  Each part has its own key and takes every micro_batches-th example,
        so that no example of a sharded batch moves to another device.
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
    """The sum of the terms named "loss" or "loss/…"."""
    return sum(value for name, value in values.items() if name == "loss" or name.startswith("loss/"))


def ratio(total: jax.Array, weight: jax.Array) -> jax.Array:
    """total / weight, or 0 where the weight is 0."""
    return jnp.where(weight > 0, total / jnp.where(weight > 0, weight, 1), 0)


def _summed(tree: Any, axis_name: str | None) -> Any:
    return tree if axis_name is None else jax.lax.psum(tree, axis_name)
