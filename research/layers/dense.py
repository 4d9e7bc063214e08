"""The dense layer: Linen's, with the dtypes and initializer that all models share."""

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
    """x W (+ b) over the last axis, computed in `dtype`, with parameters in at least float32.

    `init` initializes W (default: LeCun normal); b starts at zero.
    """
    init = init or nn.initializers.lecun_normal()
    return nn.Dense(
        features, use_bias=use_bias, dtype=dtype, param_dtype=param_dtype(dtype), kernel_init=init, name=name
    )
