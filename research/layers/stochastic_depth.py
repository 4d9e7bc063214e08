"""Stochastic depth (Huang et al., 2016), also drop path or drop connect: a residual branch left out at random."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import linen as nn


class StochasticDepth(nn.Module):
    """Drops the branch [batch, ...] of a whole example with probability `rate`; kept ones are scaled to the same mean.

    Attributes:
      rate: in [0, 1); an array [] inside scanned layers, each of which has its own.
    """

    rate: float | jax.Array

    @nn.compact
    def __call__(self, branch: jax.Array, *, train: bool) -> jax.Array:
        if not train or (isinstance(self.rate, float) and self.rate == 0):
            return branch
        shape = (len(branch), *(1,) * (branch.ndim - 1))
        kept = jax.random.bernoulli(self.make_rng("dropout"), 1 - self.rate, shape)
        return jnp.where(kept, branch / jnp.asarray(1 - self.rate, branch.dtype), 0)


def linear_rates(rate: float, depth: int) -> tuple[float, ...]:
    """One rate per block, growing from 0 at the first to `rate` at the last, as the paper proposes."""
    return tuple(rate * i / max(depth - 1, 1) for i in range(depth))
