"""Records of a trial: metrics.jsonl and result.json."""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Callable, Collection, Mapping
from typing import Any

from etils import epath

from research.whole_files import is_local, write_whole


def write_json(path: epath.PathLike, record: Any) -> None:
    """Writes a JSON file atomically: readers never see a partial file, and a killed process never leaves one."""
    path = epath.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps(record, indent=1, allow_nan=False) + "\n", synced=True)


def read_json(path: epath.PathLike) -> Any | None:
    """The record in a JSON file; None if the file is missing or not valid JSON."""
    try:
        if not is_local(path):
            return json.loads(epath.Path(path).read_text())
        with open(path, "rb") as file:  # much faster, which counts for thousands of trials
            return json.loads(file.read())
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
    """Writes a trial's metrics, one line per log step and evaluation.

    When a trial continues from step `resume_from`, lines that will be written again are deleted: those of later steps,
    those of evaluations that run `once`, at the end, and with `evaluated_again` those of evaluations at `resume_from`.
    In an object store, where files cannot be appended to, nothing is deleted, and each flush writes a numbered part
    (metrics.00001.jsonl, ...).

    Args:
      written: the attribute `written` when the checkpoint of `resume_from` was saved.
      permit: called before each write; raises an error if nothing may be written any more.

    Attributes:
      kept: the records that are not deleted.
      damaged: True if the lines before `resume_from` are not those that were written.
    """

    def __init__(
        self,
        folder: epath.PathLike,
        *,
        resume_from: int = 0,
        evaluated_again: bool = False,
        once: Collection[str] = ("test",),
        written: Mapping[str, int] | None = None,
        permit: Callable[[], None] = lambda: None,
    ):
        permit()
        self.folder = epath.Path(folder)
        self._permit = permit
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lines: list[str] = []
        self.kept: list[dict[str, Any]] = []
        self.damaged = False
        self.written = {"bytes": 0, "crc": 0}
        path = self.folder / "metrics.jsonl"
        if is_local(folder) and resume_from and written:
            self.damaged = not begins_as_written(path, written)
        if is_local(folder) and path.exists():

            def stays(record: Mapping[str, Any]) -> bool:
                last = resume_from if record["split"] == "train" else resume_from - evaluated_again
                return record["split"] not in once and record["step"] <= last

            if resume_from:
                self.kept = [record for record in read_lines(path) if stays(record)]
            text = "".join(json.dumps(record) + "\n" for record in self.kept)
            write_whole(path, text)
            self._count(text)

    def write(self, step: int, split: str, metrics: Mapping[str, float]) -> None:
        """Adds a line; it reaches the file at the next `flush`."""
        values = {name: finite(value) for name, value in metrics.items()}
        self._lines.append(json.dumps({"step": step, "split": split, **values}) + "\n")

    def flush(self) -> None:
        """Writes the buffered lines to the file."""
        if not self._lines:
            return
        text = "".join(self._lines)
        if is_local(self.folder):
            with open(self.folder / "metrics.jsonl", "a") as file:
                self._permit()  # asked after opening: who takes over the folder replaces the file first
                file.write(text)
            self._count(text)
        else:
            part = len(list(self.folder.glob("metrics.*.jsonl"))) + 1
            (self.folder / f"metrics.{part:05d}.jsonl").write_text(text)
        self._lines.clear()

    def _count(self, text: str) -> None:
        """Adds text to `written`, the size and the CRC-32 of the file."""
        added = text.encode()
        self.written = {
            "bytes": self.written["bytes"] + len(added),
            "crc": zlib.crc32(added, self.written["crc"]),
        }

    def close(self) -> None:
        """Flushes."""
        self.flush()


def begins_as_written(path: epath.PathLike, written: Mapping[str, int]) -> bool:
    """True if a metrics.jsonl begins with the bytes that were there when its `MetricsLog.written` was `written`."""
    path = epath.Path(path)
    before = path.read_bytes()[: written["bytes"]] if path.exists() else b""
    return {"bytes": len(before), "crc": zlib.crc32(before)} == written


def read_lines(path: epath.PathLike) -> list[dict[str, Any]]:
    """The records of a metrics.jsonl, without lines that are damaged, or incomplete because the process was killed."""
    records = []
    for line in epath.Path(path).read_bytes().splitlines():
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if _is_line(record):
            records.append(record)
    return records


def _is_line(record: Any) -> bool:
    """True if a JSON value is a line of a metrics.jsonl: a step, a split, and numbers."""
    if not (isinstance(record, dict) and type(record.get("step")) is int and isinstance(record.get("split"), str)):
        return False
    return all(x is None or type(x) in (int, float) for name, x in record.items() if name != "split")
