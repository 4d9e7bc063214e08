"""Starting from parameters that were trained before: `Experiment.init_from`."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from research import paths
from research.errors import RequestError
from research.experiment import Experiment
from research.inference import read_variables, trial_folder
from research.train_state import TrainState


def initial_parameters(experiment: Experiment, state: TrainState, *, stacked: bool) -> TrainState:
    """`state` with the parameters and other collections of the run at `experiment.init_from`.

    What matches a pattern of `experiment.init_skip` keeps its fresh values: a new head, for instance.

    Args:
      state: fresh; its arrays, or their shapes to only check that all fits.
      stacked: whether the arrays of the state have a leading axis of trials, each of which gets the same.

    Raises:
      RequestError: names and shapes that do not fit, all in one line.
    """
    source = read_variables(trial_folder(experiment.init_from))
    given = paths.flatten(source)
    problems: list[str] = []
    unused = dict.fromkeys(given)

    def choose(path: str, fresh: Any) -> Any:
        if any(paths.matches(path, pattern) for pattern in experiment.init_skip):
            unused.pop(path, None)
            return fresh
        shape = fresh.shape[1:] if stacked else fresh.shape
        if path not in given:
            problems.append(f"{path} is not there")
        elif np.shape(given[path]) != shape:
            problems.append(f"{path} is {list(np.shape(given[path]))}, not {list(shape)}")
        elif not isinstance(fresh, jax.ShapeDtypeStruct):
            fresh = jnp.broadcast_to(jnp.asarray(given[path], fresh.dtype), fresh.shape)
        unused.pop(path, None)
        return fresh

    fresh = {"params": state.params, **state.collections}
    fresh = {name: {name: tree} for name, tree in fresh.items()}
    chosen = {name: paths.map_with_path(choose, tree)[name] for name, tree in fresh.items()}
    skipped = [path for path in unused if any(paths.matches(path, pattern) for pattern in experiment.init_skip)]
    problems += [f"{path} has no place" for path in unused if path not in skipped]
    if problems:
        raise RequestError(
            f"init_from={experiment.init_from}: {'; '.join(problems[:6])}"
            + (f"; and {len(problems) - 6} more" if len(problems) > 6 else "")
            + "; name what is to stay fresh in init_skip, such as 'params/head/*'"
        )
    params = chosen.pop("params")
    ema = None if state.ema is None else jax.tree.map(_copy, params)
    return state.replace(params=params, collections=chosen, ema=ema)


def _copy(x: Any) -> Any:
    """Training uses up the buffers of its state, so no two of its arrays may share one."""
    return x if isinstance(x, jax.ShapeDtypeStruct) else jnp.array(x)
