"""The records in a checkpoint beside its state: whose it is, scores, times, and checksums of all of them."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Mapping
from typing import Any

from etils import epath

from research.training.records import begins_as_written, read_json, read_lines

SPENT = ("seconds", "starved_seconds", "steps")
"""The numbers in the record `spent`, the arguments of `Clock`."""


class CheckpointRecords:
    """Makes and reads the records of the checkpoints of one trial: JSON, a subfolder per record.

        checksums   the CRC-32 of every array of the state, by path
        scores      the metrics of the evaluations at this step
        spent       the training time and steps so far
        about       the step, the trial, the size and the CRC-32 of metrics.jsonl, and the CRC-32 of every record

    Checkpoints of older versions lack `about`; the oldest ones lack others, too.

    Args:
      folder: the folder of the checkpoints.
      trial: the name of the trial; None accepts the checkpoints of any trial.
      note: called with a line for each damaged record that the checkpoint is used without.
    """

    def __init__(self, folder: epath.Path, trial: str | None, note: Callable[[str], None]):
        self.folder = folder
        self.trial = trial
        self.note = note

    def make(
        self,
        step: int,
        *,
        checksums: Mapping[str, int],
        scores: Mapping[str, float | None],
        spent: Mapping[str, float],
        logged: Mapping[str, int],
    ) -> dict[str, dict[str, Any]]:
        """The records of a checkpoint by name."""
        records = {"checksums": dict(checksums), "scores": dict(scores), "spent": dict(spent)}
        about = {"step": step, "trial": self.trial, "logged": dict(logged)}
        about["records"] = {name: _crc(record) for name, record in records.items()}
        return records | {"about": about | {"crc": _crc(about)}}

    def scores(self, step: int) -> dict[str, float | None] | None:
        """The scores; None, after a note, if they are damaged."""
        return self._intact(step, "scores")

    def spent(self, step: int) -> dict[str, float]:
        """The training time and steps; {}, after a note, if they are damaged."""
        spent = self._intact(step, "spent") or {}
        if spent.keys() <= set(SPENT) and all(type(x) in (int, float) for x in spent.values()):
            return spent
        self.note(f"checkpoint {step}: its spent is damaged; it is used without")
        return {}

    def logged(self, step: int) -> dict[str, int]:
        """The size and the CRC-32 of metrics.jsonl when the checkpoint was saved; {} if they are not known."""
        return (self._about(step) or {}).get("logged", {})

    def of_another(self, step: int) -> str | None:
        """Says as which trial and step a checkpoint was saved; None if it was saved as this one, or is of an older
        version.
        """
        about = self._about(step)
        if not about or about["step"] == step and None in (self.trial, about["trial"]):
            return None
        if (about["step"], about["trial"]) == (step, self.trial):
            return None
        trial = "" if about["trial"] is None else f"trial {about['trial']}, "
        return f"it was saved as {trial}step {about['step']}"

    def verifies(self, step: int, found: Mapping[str, int], state_step: int) -> bool:
        """True if the state of a checkpoint is unchanged since it was written.

        Args:
          found: the CRC-32 of every array that was read, by path.
          state_step: the step in the state.
        """
        about, written = self._about(step), self.read(step, "checksums")
        if not isinstance(written, dict) or any(found.get(path, crc) != crc for path, crc in written.items()):
            return False
        if not about:  # damaged, or of an older version
            return state_step == step
        return about["records"]["checksums"] == _crc(written)

    def read(self, step: int, name: str) -> Any:
        """A record as it is; None if it cannot be read."""
        return read_json(self.folder / str(step) / name / "metadata")

    def _about(self, step: int) -> dict[str, Any] | None:
        """The record `about`; {} if it is damaged; None in checkpoints of older versions."""
        if not (self.folder / str(step) / "about").exists():
            return None
        held = self.read(step, "about")
        held = dict(held) if isinstance(held, dict) else {}
        crc = held.pop("crc", None)
        return held if crc == _crc(held) else {}

    def _intact(self, step: int, name: str) -> dict[str, Any] | None:
        """A record; {} if an older version did not write it; None, after a note, if it is damaged."""
        held, about = self.read(step, name), self._about(step)
        if about is None and not (self.folder / str(step) / name).exists():
            return {}
        if isinstance(held, dict) and (about is None or about.get("records", {}).get(name) == _crc(held)):
            return held
        self.note(f"checkpoint {step}: its {name} record is damaged; it is used without")
        return None


def metrics_at(
    folder: epath.Path, trial: str, step: int, note: Callable[[str], None]
) -> dict[str, float | None] | None:
    """The metrics of a trial's evaluations at a step, such as {"validation/loss": 0.5}.

    They are those of the checkpoint of this step.  If it has been deleted, they are the lines of metrics.jsonl, as long
    as the file is what later checkpoints say.

    Args:
      folder: the folder of the trial.
      note: called with a line if something is damaged.

    Returns:
      None if there was no evaluation at the step, or its metrics are damaged.
    """
    records = CheckpointRecords(folder / "checkpoints", trial, lambda line: note(f"{trial}: {line}"))
    saved = [int(p.name) for p in records.folder.iterdir() if p.name.isdecimal()] if records.folder.exists() else []
    if step in saved and not records.of_another(step) and (scores := records.scores(step)):
        return scores
    log = folder / "metrics.jsonl"
    if not log.exists():
        return None
    later = [written for other in saved if other >= step and (written := records.logged(other))]
    if not all(begins_as_written(log, written) for written in later):
        note(f"{trial}: metrics.jsonl is damaged: the metrics at step {step} are not known")
        return None
    lines = [line for line in read_lines(log) if line["step"] == step and line["split"] != "train"]
    named = [(line["split"], name, x) for line in lines for name, x in line.items() if name not in ("step", "split")]
    return {f"{split}/{name}": x for split, name, x in named} or None


def _crc(record: Any) -> int:
    """The CRC-32 of a JSON value."""
    return zlib.crc32(json.dumps(record, sort_keys=True).encode())
