"""One trial and its folder: what it trains, what is kept of it on disk, how it stands."""

from __future__ import annotations

import contextlib
import dataclasses
import traceback
from collections.abc import Callable
from typing import Any

from etils import epath

from research.errors import one_line
from research.experiment import Experiment
from research.training.checkpoints import Store
from research.training.records import MetricsLog, read_json, write_json


@dataclasses.dataclass(frozen=True)
class Trial:
    """An experiment with its name and the folder that it writes to; resolved (`Experiment.fit`)."""

    name: str
    experiment: Experiment
    folder: epath.Path


class TrialRecord:
    """What the loop keeps of one trial: its files, and how it stands."""

    def __init__(self, trial: Trial, until: int, note: Callable[[str], None]):
        self.trial = trial
        self.note = note
        self.store = Store(trial.folder / "checkpoints", trial.experiment.checkpoints)
        self.log: MetricsLog | None = None
        self.status = standing(trial, until)
        self.metrics: dict[str, float | None] = {}

    @property
    def active(self) -> bool:
        return self.status is None

    def guarded(self, action: Callable[[], None]) -> None:
        """Runs what concerns only this trial, if it is active: an error fails it and leaves the others alone."""
        if not self.active:
            return
        try:
            action()
        except Exception as error:  # of files, of Orbax, of a task's metrics
            self.fail(error)

    def fail(self, error: Exception) -> None:
        """Ends the trial as failed."""
        with contextlib.suppress(OSError):
            record_failure(self.trial.folder, error)
        self.end("failed", error=one_line(error))

    def end(self, status: str, **facts: Any) -> None:
        """Closes the trial's files and writes result.json.  Where even that fails, the missing file says it."""
        self.status = status
        for close in (self.log.close if self.log else lambda: None, self.store.close):
            try:
                close()
            except Exception as error:
                self.status, facts["error"] = "failed", facts.get("error", one_line(error))
        if self.status == "failed":
            self.note(f"{self.trial.name}: failed: {facts['error']}")
        with contextlib.suppress(OSError):
            write_json(self.trial.folder / "result.json", {"status": self.status, "metrics": self.metrics, **facts})
            if self.status != "failed":
                (self.trial.folder / "error.txt").unlink(missing_ok=True)


def standing(trial: Trial, until: int) -> str | None:
    """None where a trial has something to train until that step; else "finished", "diverged", or "paused" there."""
    status = finished_status(trial.folder)
    if status is None and until < trial.experiment.steps:
        store = Store(trial.folder / "checkpoints")
        status = "paused" if max(store.steps(), default=0) >= until else None
        store.close()
    return status


def record_failure(folder: epath.Path, error: Exception) -> None:
    """A result.json that says why a trial failed, in a line, and an error.txt with the whole story."""
    write_json(folder / "result.json", {"status": "failed", "metrics": {}, "error": one_line(error)})
    (folder / "error.txt").write_text("".join(traceback.format_exception(error)))


def finished_status(folder: epath.Path) -> str | None:
    """ "finished" or "diverged" where a trial has ended and is kept; None where it is to be (re)run."""
    result = read_json(folder / "result.json")
    status = result.get("status") if isinstance(result, dict) else None
    return status if status in ("finished", "diverged") else None
