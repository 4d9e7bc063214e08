"""The state that training carries from one step to the next."""

from __future__ import annotations

from typing import Any

import jax
from flax import struct


@struct.dataclass
class TrainState:
    """Everything that changes during training, or may differ between trials that share a program.

    Attributes:
      step: int32 [], optimizer steps taken.
      params: the "params" collection, a nested dict of arrays.
      collections: every other collection that persists between steps, such as "batch_stats".
      opt_state: the optimizer's state.
      ema: moving average of all of the model's variables, {"params": ..., "batch_stats": ...}, or None.
      rng: the trial's key, made from its seed; it never changes, and each step folds its step number into it.
      hparams: {dotted path in the experiment: scalar}, the floats that a sweep may vary without a new compilation.
    """

    step: jax.Array
    params: Any
    collections: Any
    opt_state: Any
    ema: Any
    rng: jax.Array
    hparams: dict[str, jax.Array]

    def variables(self, *, averaged: bool = False) -> dict[str, Any]:
        """The model's variables, {"params": ..., "batch_stats": ...}; `averaged` gives the moving average, if kept."""
        return self.ema if averaged and self.ema is not None else {"params": self.params, **self.collections}


def is_key(x: Any) -> bool:
    """True if an array, or its shape, has the dtype of typed random keys."""
    return hasattr(x, "dtype") and jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)
