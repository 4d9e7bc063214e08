"""Normalisation with this house's conventions: one constructor each, epsilon and momentum in view."""

from __future__ import annotations

from flax import linen as nn

from research.layers.dtypes import param_dtype


def batch_norm(
    train: bool,
    *,
    axis_name: str | None,
    dtype: str,
    momentum: float = 0.9,
    epsilon: float = 1e-5,
    name: str | None = None,
    **kwargs,
) -> nn.BatchNorm:
    """Batch normalisation over every axis but the last (Ioffe & Szegedy, 2015).

    `momentum` is the share of the old running statistic that is kept (PyTorch's 0.1 is 0.9 here); the running variance
    is the biased one.  `axis_name` is the mapped axis to average over, None where the program sees the whole batch.
    """
    return nn.BatchNorm(
        use_running_average=not train,
        axis_name=axis_name if train else None,
        momentum=momentum,
        epsilon=epsilon,
        dtype=dtype,
        param_dtype=param_dtype(dtype),
        name=name,
        **kwargs,
    )


def layer_norm(*, dtype: str, epsilon: float = 1e-5, name: str | None = None, **kwargs) -> nn.LayerNorm:
    """Layer normalisation over the last axis (Ba et al., 2016); statistics in float32 whatever `dtype`."""
    return nn.LayerNorm(epsilon=epsilon, dtype=dtype, param_dtype=param_dtype(dtype), name=name, **kwargs)
