"""Reads a trial's folder: its experiment and the variables of a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from etils import epath

from research.config.serialization import from_json, stable_hash
from research.console import counted
from research.errors import RequestError, nearest
from research.experiment import Experiment
from research.listing import visible
from research.locations import location
from research.training.checkpoints import CorruptCheckpoint, Store
from research.training.records import read_record


class Saved(NamedTuple):
    """A checkpoint to evaluate or predict with.

    Attributes:
      step: training steps before the checkpoint was saved.
      variables: {"params": …, "batch_stats": …} in NumPy; the moving averages, if the run kept them.
    """

    step: int
    variables: dict[str, Any]


def trial_folder(path: epath.PathLike, trial: str | None = None) -> epath.Path:
    """The folder of a trial, found from the trial's own folder or from its run's folder.

    Raises:
      RequestError: there is no trial, or there are several and `trial` is not the name of one.
    """
    folder = location(path)
    if (folder / "config.json").exists():
        return folder
    trials = {path.name: path for path in trial_folders(folder)}
    if not trials:
        raise RequestError(f"{folder}: no run there (expected trials/ or config.json)")
    if trial is None and len(trials) == 1:
        return next(iter(trials.values()))
    if trial not in trials:
        which = "trial" if trial is None else f"trial={trial!r}"
        raise RequestError(f"{folder} holds {counted(len(trials), 'trial')}; {which}: {nearest(trial or '', trials)}")
    return trials[trial]


def trial_folders(run: epath.PathLike) -> list[epath.Path]:
    """Returns the folders of a run's trials, sorted by name; [] where there is no run."""
    inside = epath.Path(run) / "trials"
    return [path for path in visible(inside) if path.is_dir()] if inside.is_dir() else []


def read_experiment(folder: epath.PathLike, *, trust: bool = False) -> Experiment:
    """Reads the resolved experiment of a trial from its config.json.

    Args:
      trust: also run the code of files and modules outside of this project that the experiment consists of.

    Raises:
      RequestError: the file is missing, is not the record of an experiment, is not as it was written, or names code
        that is not trusted.
    """
    path = epath.Path(folder) / "config.json"
    record = read_record(path)
    experiment = from_json(record.get("experiment"), trust=trust)
    if not isinstance(experiment, Experiment):
        raise RequestError(f"{path}: not readable as the record of an experiment")
    if not is_as_written(record):
        raise RequestError(f"{path}: changed since it was written, as its hash shows; restore it, or train again")
    return experiment


def is_as_written(config: Mapping[str, Any]) -> bool:
    """True if the experiment in the record of a config.json has the hash that the record states, or it states none."""
    return not config.get("hash") or stable_hash(config.get("experiment")) == config["hash"]


def read_saved(folder: epath.PathLike, step: int | None = None) -> Saved:
    """Reads a checkpoint of a trial: of `step`, else the one that the test split was scored with, else the newest.

    Raises:
      RequestError: there is no checkpoint, there is none at `step`, or the checkpoint cannot be read.
    """
    name = read_record(epath.Path(folder) / "config.json").get("trial")
    store = Store(epath.Path(folder) / "checkpoints", trial=name)
    try:
        steps = store.steps()
        if not steps:
            raise RequestError(f"{folder}: no checkpoint in it yet")
        best = read_record(epath.Path(folder) / "result.json").get("best_step")
        wanted = step if step is not None else best if best in steps else steps[0]
        if wanted not in steps:
            raise RequestError(f"step={step}: {folder} has checkpoints of the steps {sorted(steps)}")
        state = store.restore(wanted)
    except CorruptCheckpoint as error:
        raise RequestError(str(error)) from None
    finally:
        store.close()
    variables = {"params": state["params"], **(state.get("collections") or {})}
    average = state.get("ema")
    if average is not None:
        # Older checkpoints hold the moving average of the parameters only, without batch statistics.
        variables = average if "params" in average else variables | {"params": average}
    return Saved(wanted, variables)


def read_variables(folder: epath.PathLike, step: int | None = None) -> dict[str, Any]:
    """The variables of a trial's checkpoint, as `read_saved` reads them."""
    return read_saved(folder, step).variables
