"""The state that training carries from step to step."""

from __future__ import annotations

from typing import Any

import jax
from flax import struct


@struct.dataclass
class TrainState:
    """All that changes during training, or may differ between trials that share a program.

    Attributes:
      step: int32 [], optimizer steps taken.
      params: the "params" collection, a nested dict of arrays.
      collections: every other collection that persists between steps, such as "batch_stats".
      opt_state: the optimizer's state.
      ema: moving average of all of the model's variables, {"params": ..., "batch_stats": ...}, or None.
      rng: the trial's key, from its seed; it never changes, and each step folds its number into it.
      hparams: {dotted path in the experiment: scalar}, the floats a sweep may vary without a new compilation.
    """

    step: jax.Array
    params: Any
    collections: Any
    opt_state: Any
    ema: Any
    rng: jax.Array
    hparams: dict[str, jax.Array]

    def variables(self, *, averaged: bool = False) -> dict[str, Any]:
        """{"params": ..., "batch_stats": ...} to apply the model to; with `averaged`, the average where one is kept."""
        return self.ema if averaged and self.ema is not None else {"params": self.params, **self.collections}


def is_key(x: Any) -> bool:
    """Whether an array, or its shape, is one of typed random keys."""
    return hasattr(x, "dtype") and jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)
