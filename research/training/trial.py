"""A trial: an experiment, its name and its folder, and what the folder says of how it stands."""

from __future__ import annotations

import dataclasses
import traceback

from etils import epath

from research.errors import one_line
from research.experiment import Experiment
from research.training.checkpoints import Store
from research.training.records import read_json, write_json


@dataclasses.dataclass(frozen=True)
class Trial:
    """An experiment with its name and the folder that it writes to; resolved (`Experiment.fit`)."""

    name: str
    experiment: Experiment
    folder: epath.Path


def standing(trial: Trial, until: int) -> str | None:
    """None where a trial has something to train until that step; else "finished", "diverged", or "paused" there."""
    status = finished_status(trial.folder)
    if status is None and until < trial.experiment.steps:
        store = Store(trial.folder / "checkpoints")
        status = "paused" if max(store.steps(), default=0) >= until else None
        store.close()
    return status


def record_failure(folder: epath.Path, error: Exception) -> None:
    """Writes a result.json that says why a trial failed, in a line, and an error.txt with the traceback."""
    write_json(folder / "result.json", {"status": "failed", "metrics": {}, "error": one_line(error)})
    (folder / "error.txt").write_text("".join(traceback.format_exception(error)))


def finished_status(folder: epath.Path) -> str | None:
    """ "finished" or "diverged" where a trial has ended and is kept; None where it is to be (re)run."""
    result = read_json(folder / "result.json")
    status = result.get("status") if isinstance(result, dict) else None
    return status if status in ("finished", "diverged") else None
