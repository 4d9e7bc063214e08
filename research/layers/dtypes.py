"""Dtypes for computation and for parameters."""

from __future__ import annotations

from typing import Literal

import jax.numpy as jnp

DType = Literal["float32", "bfloat16", "float64"]


def param_dtype(dtype: str) -> jnp.dtype:
    """The dtype of the parameters of a model that computes in `dtype`: float32, or float64 for float64."""
    return jnp.promote_types(dtype, jnp.float32)
