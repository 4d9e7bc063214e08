"""Stochastic depth (Huang et al., 2016), also called drop path or drop connect: randomly skips residual branches."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import linen as nn


class StochasticDepth(nn.Module):
    """Drops the branch [batch, ...] of an example with probability `rate`; kept branches are scaled to preserve the
    mean.

    Attributes:
      rate: in [0, 1); inside scanned layers, an array [] per layer.
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
    """One rate per block, increasing linearly from 0 for the first to `rate` for the last, as the paper proposes.

    >>> linear_rates(0.2, 3)
    (0.0, 0.1, 0.2)
    """
    return tuple(rate * i / max(depth - 1, 1) for i in range(depth))
