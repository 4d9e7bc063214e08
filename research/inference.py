"""A finished run, loaded to be used: three lines, no data-set code.

from research.inference import load
predict = load("runs/digits_mlp/base").predict
predict(images)["label"]
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from etils import epath

from research.checkpoints import CorruptCheckpoint, Store
from research.data.transforms import preprocess
from research.errors import RequestError, nearest
from research.experiment import Experiment
from research.records import read_json
from research.serialization import from_json


def trial_folder(path: epath.PathLike, trial: str | None = None) -> epath.Path:
    """The folder of a trial, from that folder or from a run's that holds it.

    Raises:
      RequestError: there is none, or several to choose from, and which.
    """
    folder = epath.Path(path)
    if (folder / "config.json").exists():
        return folder
    trials = {p.name: p for p in sorted((folder / "trials").iterdir())} if (folder / "trials").is_dir() else {}
    if not trials:
        raise RequestError(f"{folder}: no run there (expected trials/ or config.json)")
    if trial is None and len(trials) == 1:
        return next(iter(trials.values()))
    if trial not in trials:
        which = "trial" if trial is None else f"trial={trial!r}"
        raise RequestError(f"{folder} holds {len(trials)} trials; {which}: {nearest(trial or '', trials)}")
    return trials[trial]


def read_experiment(folder: epath.PathLike) -> Experiment:
    """The resolved experiment of a trial, from its config.json."""
    record = read_json(epath.Path(folder) / "config.json")
    if record is None or "experiment" not in record:
        raise RequestError(f"{epath.Path(folder) / 'config.json'}: not readable as the record of an experiment")
    return from_json(record["experiment"])


def load(path: epath.PathLike, *, trial: str | None = None, step: int | None = None) -> Predictor:
    """A trained model, ready to predict.

    Args:
      path: a trial's folder, or that of a run with one trial.
      trial: which of a run's trials, by name.
      step: of which checkpoint; by default the one the test split was scored with.

    Raises:
      RequestError: no such run, trial or checkpoint.
    """
    folder = trial_folder(path, trial)
    return Predictor(read_experiment(folder), read_variables(folder, step))


def read_variables(folder: epath.PathLike, step: int | None = None) -> dict[str, Any]:
    """The model's variables of a trial's checkpoint: {"params": averaged ones where kept, "batch_stats": …}, in NumPy.

    Raises:
      RequestError: there is no checkpoint, or none that can be read.
    """
    store = Store(epath.Path(folder) / "checkpoints")
    try:
        steps = store.steps()
        if not steps:
            raise RequestError(f"{folder}: no checkpoint in it yet")
        best = (read_json(epath.Path(folder) / "result.json") or {}).get("best_step")
        wanted = step if step is not None else best if best in steps else steps[0]
        if wanted not in steps:
            raise RequestError(f"step={step}: {folder} has checkpoints of the steps {sorted(steps)}")
        state = store.restore(wanted)
    except CorruptCheckpoint as error:
        raise RequestError(str(error)) from None
    finally:
        store.close()
    params = state["params"] if state.get("ema") is None else state["ema"]
    return {"params": params, **(state.get("collections") or {})}


class Predictor:
    """A model with its variables, and the task that says what its outputs mean."""

    def __init__(self, experiment: Experiment, variables: Mapping[str, Any]):
        self.experiment = experiment
        self.variables = jax.device_put(dict(variables))

    def predict(self, raw: Any) -> dict[str, np.ndarray]:
        """What the task predicts for each example, in NumPy.

        Args:
          raw: one array [example, ...] of the task's input, a dict of columns, or what the experiment's data encodes
            (rows of a table, paths of images).
        """
        if hasattr(raw, "shape") and hasattr(self.experiment.task, "input"):
            raw = {self.experiment.task.input: raw}
        columns = self.experiment.data.encode(raw)
        needed = getattr(self.experiment.task, "input", None)
        if needed is not None and needed not in columns:
            raise RequestError(f"the input has no column {needed!r}; {nearest(needed, columns)}")
        count = len(next(iter(columns.values())))
        if count == 0:
            raise RequestError("the input is empty: expected at least one example")
        size = min(self.experiment.eval_batch_size, count)
        parts = []
        for start in range(0, count, size):
            # The last part is padded to the size of the others, so that there is one program.
            rows = np.arange(start, start + size) % count
            parts.append(jax.device_get(self._predict(self.variables, {k: x[rows] for k, x in columns.items()})))
        return jax.tree.map(lambda *x: np.concatenate(x)[:count], *parts)

    @functools.cached_property
    def _predict(self) -> Any:
        experiment = self.experiment

        @jax.jit
        def predict(variables: Any, columns: Any) -> dict[str, jax.Array]:
            batch = preprocess(experiment.preprocess, columns, partial=True)
            return experiment.task.predict(functools.partial(experiment.model.apply, variables), batch)

        return predict
