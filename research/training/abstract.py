"""An experiment's state as shapes, and its hparams as arrays, for checks, tables and compilation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from research import paths
from research.config.hparams import hparams
from research.errors import RequestError
from research.experiment import Experiment
from research.training.state import TrainState
from research.training.step import make_init


def hparam_arrays(experiment: Experiment) -> dict[str, jax.Array]:
    """The experiment's hparams as `make_init` takes them: {dotted path: float array []}."""
    return {path: jnp.asarray(value, jnp.result_type(float)) for path, value in hparams(experiment).items()}


def abstract_state(experiment: Experiment, batch: Mapping[str, Any]) -> TrainState:
    """The shapes and dtypes of the state before the first step; the initialisation is traced but not run.

    Args:
      experiment: resolved (`Experiment.fit`).
      batch: arrays, or their shapes.
    """
    return jax.eval_shape(make_init(experiment), jax.random.key(0), dict(batch), hparam_arrays(experiment))


def check_carried(before: TrainState, after: TrainState) -> None:
    """Raises RequestError unless the state after a step has the same structure, shapes and dtypes as before."""
    held, made = paths.flatten(before), paths.flatten(after)
    for path in [*held, *made]:
        if path not in made or path not in held:
            which = "drops" if path not in made else "adds"
            raise RequestError(f"the train step {which} {path}: expected a state of the same structure after each step")
        if (held[path].shape, held[path].dtype) != (made[path].shape, made[path].dtype):
            given, got = (f"{x.dtype} {list(x.shape)}" for x in (held[path], made[path]))
            raise RequestError(f"the train step changes {path} from {given} to {got}; expected no change")
