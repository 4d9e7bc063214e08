"""Initialises an experiment from trained parameters: `Experiment.init_from`.

    init_from="runs/transfer/pretrain"                                      a run, or a trial of one
    init_from="vit/model.safetensors", init_skip=("params/head/*",)         published weights, with a new head
    init_from="google/vit-base-patch16-224", init_skip=("params/head/*",)   the same, from the hub

Published weights are read into the experiment's model, which must match the published one (`load_pretrained` builds
it); a ViT's learned positions are interpolated to its `image_size`.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from research import paths
from research.errors import RequestError, prefixed
from research.experiment import Experiment
from research.pretrained.catalog import family_of
from research.pretrained.files import is_checkpoint
from research.pretrained.load import read_into
from research.training.folder import read_variables, trial_folder
from research.training.state import TrainState


def initial_parameters(experiment: Experiment, state: TrainState, *, stacked: bool) -> TrainState:
    """Replaces the parameters and other collections of `state` by those that `experiment.init_from` names.

    Arrays whose path matches a pattern of `experiment.init_skip`, such as a new head, keep their fresh values.

    Args:
      state: the state before the first step, as arrays; or as shapes, to check only that everything fits.
      stacked: the arrays of the state have a leading trial axis; all trials get the same values.

    Raises:
      RequestError: names or shapes do not fit; one line lists them.
    """
    fresh = {"params": state.params, **state.collections}
    wanted = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[int(stacked) :], x.dtype), fresh)
    with prefixed("init_from: "):
        given = paths.flatten(_source(experiment, wanted))
    paths.check_patterns("init_skip", experiment.init_skip, given | paths.flatten(wanted))
    problems: list[str] = []

    def skipped(path: str) -> bool:
        return any(paths.matches(path, pattern) for pattern in experiment.init_skip)

    def choose(path: str, fresh: Any, wanted: Any) -> Any:
        if skipped(path):
            return fresh
        if path not in given:
            problems.append(f"{path} is missing")
        elif np.shape(given[path]) != wanted.shape:
            problems.append(f"{path} is {list(np.shape(given[path]))}, not {list(wanted.shape)}")
        elif not isinstance(fresh, jax.ShapeDtypeStruct):
            return jnp.broadcast_to(jnp.asarray(given[path], fresh.dtype), fresh.shape)
        return fresh

    chosen = paths.map_with_path(choose, fresh, wanted)
    known = paths.flatten(fresh)
    problems += [f"{path} is not in the model" for path in given if path not in known and not skipped(path)]
    if problems:
        raise RequestError(
            f"init_from={experiment.init_from}: {'; '.join(problems[:6])}"
            + (f"; and {len(problems) - 6} more" if len(problems) > 6 else "")
            + "; add fresh parameters to init_skip, such as 'params/head/*'"
        )
    ema = None if state.ema is None else jax.tree.map(_copy, chosen)
    params = chosen.pop("params")
    return state.replace(params=params, collections=chosen, ema=ema)


def _source(experiment: Experiment, wanted: Any) -> dict[str, Any]:
    """The variables to start from: those of a run, or published ones without the arrays that stay fresh."""
    where, model = experiment.init_from, experiment.model
    if not is_checkpoint(where):
        return read_variables(trial_folder(where))
    leaves = paths.flatten(wanted)
    fresh = [path for path in leaves if any(paths.matches(path, pattern) for pattern in experiment.init_skip)]
    return read_into(model, where, channels=family_of(model).image_channels(leaves), fresh=fresh)


def _copy(x: Any) -> Any:
    """Copies an array: training donates the buffers of its state, so no two arrays of the state may share one."""
    return x if isinstance(x, jax.ShapeDtypeStruct) else jnp.array(x)
