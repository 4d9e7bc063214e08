"""Stochastic depth (Huang et al., 2016), also drop path or drop connect: a residual branch left out at random."""

from __future__ import annotations

from flax import linen as nn


def stochastic_depth(rate: float, *, train: bool, axes: int) -> nn.Dropout:
    """Drops the branch [batch, ...] of a whole example with probability `rate`; kept ones are scaled to the same mean.

    Args:
      rate: in [0, 1).
      axes: number of axes of the branch, the batch included.
    """
    return nn.Dropout(rate, broadcast_dims=tuple(range(1, axes)), deterministic=not train)


def linear_rates(rate: float, depth: int) -> tuple[float, ...]:
    """One rate per block, growing from 0 at the first to `rate` at the last, as the paper proposes."""
    return tuple(rate * i / max(depth - 1, 1) for i in range(depth))
