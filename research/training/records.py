"""Records of a trial: metrics.jsonl, TensorBoard event files, result.json."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Collection, Mapping
from typing import Any

from etils import epath


def is_local(path: epath.PathLike) -> bool:
    """True if a path is on a file system, where files can be appended to; False for an object store."""
    return "://" not in os.fspath(path)


def write_json(path: epath.PathLike, record: Any) -> None:
    """Writes a JSON file atomically: readers never see a partial file, and a killed process never leaves one."""
    path = epath.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(record, indent=1, allow_nan=False) + "\n"
    if not is_local(path):
        path.write_text(text)  # an object store writes an object atomically
        return
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def read_json(path: epath.PathLike) -> Any | None:
    """The record in a JSON file; None if the file is missing or not valid JSON."""
    path = epath.Path(path)
    try:
        return json.loads(path.read_text())
    except (FileNotFoundError, json.JSONDecodeError, UnicodeDecodeError, RecursionError):
        return None


def read_record(path: epath.PathLike) -> dict[str, Any]:
    """Returns the object that a JSON file holds; {} where there is no file, or it holds none."""
    record = read_json(path)
    return record if isinstance(record, dict) else {}


def finite(value: float) -> float | None:
    """The value, or None if it is not finite, because JSON has no NaN."""
    return float(value) if math.isfinite(value) else None


class MetricsLog:
    """Writes a trial's metrics, one line per log step and evaluation, and also as TensorBoard scalars.

    When a trial continues from step `resume_from`, lines that will be written again are deleted: those of later steps,
    those of evaluations that run `once`, at the end, and with `evaluated_again` those of evaluations at `resume_from`.
    `kept` holds the other records.  In an object store, where files cannot be appended to, nothing is deleted, and each
    flush writes a numbered part (metrics.00001.jsonl, ...).
    """

    def __init__(
        self,
        folder: epath.PathLike,
        *,
        resume_from: int = 0,
        evaluated_again: bool = False,
        once: Collection[str] = ("test",),
        tensorboard: bool = True,
    ):
        self.folder = epath.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lines: list[str] = []
        self._resume_from = resume_from
        self._tensorboard = tensorboard and is_local(folder)
        self._events = None
        self.kept: list[dict[str, Any]] = []
        path = self.folder / "metrics.jsonl"
        if is_local(folder) and path.exists():

            def stays(record: Mapping[str, Any]) -> bool:
                last = resume_from if record["split"] == "train" else resume_from - evaluated_again
                return record["split"] not in once and record["step"] <= last

            if resume_from:
                self.kept = [record for record in read_lines(path) if stays(record)]
            temporary = self.folder / f".metrics.{os.getpid()}.tmp"
            temporary.write_text("".join(json.dumps(record) + "\n" for record in self.kept))
            os.replace(temporary, path)

    def write(self, step: int, split: str, metrics: Mapping[str, float]) -> None:
        """Adds a line; it reaches the file at the next `flush`."""
        values = {name: finite(value) for name, value in metrics.items()}
        self._lines.append(json.dumps({"step": step, "split": split, **values}) + "\n")
        if self._tensorboard:
            for name, value in metrics.items():
                self.events.add_scalar(f"{split}/{name}", value, step)

    @property
    def events(self) -> Any:
        """TensorBoard's writer; None if no event files are written."""
        if self._events is None and self._tensorboard:
            from tensorboardX import SummaryWriter

            self._events = SummaryWriter(
                str(self.folder / "tensorboard"), purge_step=self._resume_from + 1, flush_secs=10, write_to_disk=True
            )
        return self._events

    def flush(self) -> None:
        """Writes the buffered lines to the file."""
        if not self._lines:
            return
        text = "".join(self._lines)
        if is_local(self.folder):
            with open(self.folder / "metrics.jsonl", "a") as file:
                file.write(text)
        else:
            part = len(list(self.folder.glob("metrics.*.jsonl"))) + 1
            (self.folder / f"metrics.{part:05d}.jsonl").write_text(text)
        self._lines.clear()

    def close(self) -> None:
        """Flushes, and ends the thread of TensorBoard's writer."""
        self.flush()
        if self._events is not None:
            self._events.close()


def read_lines(path: epath.PathLike) -> list[dict[str, Any]]:
    """The records of a metrics.jsonl, without lines that are incomplete because the process was killed."""
    records = []
    for line in epath.Path(path).read_text().splitlines():
        try:
            record = json.loads(line)
        except (json.JSONDecodeError, RecursionError):
            continue
        if isinstance(record, dict) and {"step", "split"} <= record.keys():
            records.append(record)
    return records
