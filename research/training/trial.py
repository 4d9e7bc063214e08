"""A trial: an experiment with its name and folder, and its status, which is read from the folder."""

from __future__ import annotations

import dataclasses
import traceback

from etils import epath

from research.errors import placed
from research.experiment import Experiment
from research.training.checkpoints import Store
from research.training.records import read_json, write_json
from research.whole_files import write_whole


@dataclasses.dataclass(frozen=True)
class Trial:
    """A resolved experiment (`Experiment.fit`) with its name and the folder that it writes to."""

    name: str
    experiment: Experiment
    folder: epath.Path


def standing(trial: Trial, until: int) -> str | None:
    """None if a trial still has to train to reach step `until`; else "finished", "diverged" or "paused"."""
    status = finished_status(trial.folder)
    if status is None and until < trial.experiment.steps:
        store = Store(trial.folder / "checkpoints")
        status = "paused" if max(store.steps(), default=0) >= until else None
        store.close()
    return status


def record_failure(folder: epath.Path, error: Exception) -> None:
    """Writes the error of a failed trial, as one line to result.json and with its traceback to error.txt."""
    write_json(folder / "result.json", {"status": "failed", "metrics": {}, "error": placed(error)})
    told = "".join(traceback.format_exception(error)).encode("utf-8", "backslashreplace")
    write_whole(folder / "error.txt", told)


def finished_status(folder: epath.Path) -> str | None:
    """The status of a trial that needs no further training, "finished" or "diverged"; else None."""
    result = read_json(folder / "result.json")
    status = result.get("status") if isinstance(result, dict) else None
    return status if status in ("finished", "diverged") else None
