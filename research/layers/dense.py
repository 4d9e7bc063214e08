"""The dense layer, with its dtypes (Linen's, with what all models here say of it said once)."""

from __future__ import annotations

from flax import linen as nn

from research.layers.dtypes import param_dtype


def dense(
    features: int,
    *,
    dtype: str,
    use_bias: bool = True,
    init: nn.initializers.Initializer | None = None,
    name: str | None = None,
) -> nn.Dense:
    """x W (+ b) over the last axis, computed in `dtype`, with parameters in float32 at least.

    `init` is of W, LeCun's normal unless told otherwise; b begins at zero.
    """
    init = init or nn.initializers.lecun_normal()
    return nn.Dense(
        features, use_bias=use_bias, dtype=dtype, param_dtype=param_dtype(dtype), kernel_init=init, name=name
    )
