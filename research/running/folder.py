"""A run's folder: the request (sweep.json) and a folder per trial."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import platform
import subprocess
from typing import Any

from etils import epath

from research.config.migration import LAYOUT
from research.config.once import Once, json_of
from research.config.serialization import from_json, stable_hash, to_json
from research.errors import RequestError
from research.evaluation.evaluations import directions_of
from research.experiment import Experiment
from research.listing import visible
from research.locations import location
from research.running.plan import Group
from research.running.request import Request
from research.tasks.task import direction
from research.training.records import is_local, read_json, write_json


class RunFolder:
    """The folder of one run."""

    def __init__(self, path: epath.PathLike, asked: str = ""):
        """Names the folder; errors about its place begin with `asked`, such as "--out "."""
        self.path, self._asked = location(path, asked), asked

    @property
    def sweep_file(self) -> epath.Path:
        return self.path / "sweep.json"

    def trial(self, name: str) -> epath.Path:
        return self.path / "trials" / name

    def groups(self) -> list[Group]:
        """The groups recorded in sweep.json, in order."""
        return [Group.from_record(record) for record in (read_json(self.sweep_file) or {}).get("groups", [])]

    def check_same(self, request: Request, prune: str | None) -> None:
        """Raises RequestError if the folder holds anything but the same run; the message names the first difference."""
        if is_local(self.path):
            there = next(p for p in (self.path, *self.path.absolute().parents) if p.exists())
            if not there.is_dir():
                raise RequestError(f"{there}: a file, not a folder; choose another folder")
        if not self.path.exists():
            return
        # A launcher that was killed before it wrote sweep.json leaves only these files, and `--profile` a folder.
        try:
            inside = visible(self.path)
        except OSError as error:
            raise RequestError(f"{self._asked}{self.path}: {error.strerror}") from None
        if all(p.name in ("lease.json", "profile") or p.name.endswith(".tmp") for p in inside):
            return
        held = read_json(self.sweep_file)
        if not _is_record(held):
            raise RequestError(f"{self.path}: not empty and not a run (no readable sweep.json); choose another folder")
        asked = json.loads(json.dumps(request.record() | {"prune": prune}))
        for key, value in asked.items():
            if key != "trials" and held.get(key) != value and key != "hash":
                raise RequestError(
                    f"{self.path} holds {key}={held.get(key)!r}, but {key}={value!r} was requested; "
                    "choose another folder"
                )
        # Hashes of different layouts cannot be compared; `check_configs` compares the experiments instead.
        alike = _comparable if held.get("layout") == LAYOUT else _without_hashes
        if alike(held) != alike(asked):
            difference = _difference(self, request)
            raise RequestError(f"{self.path}: the experiment has changed since ({difference}); choose another folder")

    def write_request(self, request: Request, stack: str, prune: str | None) -> None:
        """Writes sweep.json, unless it exists because the run is being continued."""
        if read_json(self.sweep_file) is None:
            record = request.record() | {
                "layout": LAYOUT,
                "stack": stack,
                "prune": prune,
                "command": request.command,
                "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
                "commit": commit(request.code),
                "versions": versions(),
                "protocol": {
                    "selection": "validation split only",
                    "test": "scored once, at the end of training",
                    "seeds": sorted({trial.seed for trial in request.trials}),
                },
                "groups": [],
            }
            write_json(self.sweep_file, record)

    def add_groups(self, groups: list[Group]) -> None:
        """Adds groups to those in sweep.json, which is rewritten: once for all chunks of a program."""
        held = read_json(self.sweep_file)
        write_json(self.sweep_file, held | {"groups": [*held["groups"], *(group.record() for group in groups)]})

    def check_configs(self, experiments: dict[str, Experiment], once: Once | None = None) -> list[str]:
        """Returns the trials that have no readable config.json yet.

        Args:
          experiments: the resolved experiments by trial name.
          once: keeps what was computed of the parts that experiments share.

        Raises:
          RequestError: a trial's resolved experiment differs from its config.json, as after data changed.
        """
        once, without = Once() if once is None else once, []
        for name, experiment in experiments.items():
            held, now = read_json(self.trial(name) / "config.json"), json_of(experiment, once)
            if not isinstance(held, dict):
                without.append(name)
            elif held.get("experiment") != now:
                before = _of_today(held.get("experiment"))
                if before != now:
                    difference = _first_difference(before, now, "")
                    raise RequestError(
                        f"{self.path}: trial {name} has changed since ({difference}); choose another folder"
                    )
                self._check_direction(name, held["experiment"], experiment)
        return without

    def _check_direction(self, name: str, held: dict[str, Any], experiment: Experiment) -> None:
        """Raises RequestError if a trial chose its best checkpoint in another direction than its task declares."""
        best, mode = experiment.checkpoints.best, held["checkpoints"].get("mode")
        if best is not None and mode not in (None, direction(experiment.task, best)):
            raise RequestError(
                f"{self.path}: trial {name} kept the checkpoint with the {mode} of {best}, but its task declares the "
                "other direction; choose another folder"
            )

    def write_config(self, name: str, experiment: Experiment) -> None:
        """Writes a trial's config.json: its resolved experiment, the hash, and the direction of each metric."""
        path = self.trial(name) / "config.json"
        if read_json(path) is None:
            better = directions_of(experiment.task, experiment.evaluations)
            record = {"trial": name, "hash": stable_hash(experiment), "better": better}
            record |= {"headline": list(experiment.task.headline)} if experiment.task.headline else {}
            write_json(path, record | {"experiment": to_json(experiment)})


def _comparable(record: dict[str, Any]) -> Any:
    """The parts of sweep.json that must be equal to continue a run."""
    return record.get("hash"), record.get("trials")


def _without_hashes(record: dict[str, Any]) -> Any:
    """The parts of a sweep.json of an older layout that must be equal to continue a run: its trials, without hashes."""
    return [
        {key: _of_today(value) if key == "overrides" else value for key, value in trial.items() if key != "hash"}
        for trial in record["trials"]
    ]


def _of_today(record: Any) -> Any:
    """Converts a value's record to the current layout; returns it unchanged if the value cannot be rebuilt."""
    try:
        return to_json(from_json(record))
    except RequestError:
        return record


def _is_record(held: Any) -> bool:
    """True if the content of sweep.json is a run's: trials, and groups of these trials."""
    try:
        names = {trial["name"] for trial in held["trials"]}
        return all(names.issuperset(Group.from_record(record).trials) for record in held["groups"])
    except (TypeError, KeyError, AttributeError):
        return False


def _first_difference(held: Any, now: Any, path: str) -> str:
    """Describes the first difference between two JSON values."""
    if isinstance(held, dict) and isinstance(now, dict):
        for key in dict.fromkeys([*held, *now]):
            if held.get(key) != now.get(key):
                return _first_difference(held.get(key), now.get(key), f"{path}.{key}" if path else key)
    if isinstance(held, list) and isinstance(now, list) and len(held) == len(now):
        for i, (a, b) in enumerate(zip(held, now, strict=True)):
            if a != b:
                return _first_difference(a, b, f"{path}.{i}")
    return f"{path} {held!r:.60} became {now!r:.60}"


def _difference(folder: RunFolder, request: Request) -> str:
    """Describes the first difference between the trials of sweep.json, with their config.json, and those requested."""
    held = {trial["name"]: trial for trial in (read_json(folder.sweep_file) or {}).get("trials", [])}
    asked = {trial["name"]: trial for trial in request.record()["trials"]}
    for name in asked.keys() ^ held.keys():
        return f"trial {name} is {'new' if name in asked else 'gone'}"
    for name, trial in asked.items():
        for key, value in trial.items():
            if key != "hash" and held[name].get(key) != json.loads(json.dumps(value)):
                return f"trial {name}: {key} {held[name].get(key)!r} became {value!r}"
    for trial in request.trials:
        config, now = read_json(folder.trial(trial.name) / "config.json"), to_json(trial.experiment)
        before = _of_today(config.get("experiment")) if isinstance(config, dict) else None
        if isinstance(before, dict) and _unfitted(before, now) != now:
            return f"trial {trial.name}: {_first_difference(_unfitted(before, now), now, '')}"
    return "its defaults have changed"


def _unfitted(held: Any, now: Any) -> Any:
    """Returns the record of a resolved experiment with null wherever that of the unresolved one has it."""
    if isinstance(held, dict) and isinstance(now, dict):
        return {key: _unfitted(value, now.get(key)) for key, value in held.items()}
    if isinstance(held, list) and isinstance(now, list) and len(held) == len(now):
        return [_unfitted(a, b) for a, b in zip(held, now, strict=True)]
    return None if now is None else held


def commit(where: epath.PathLike) -> str | None:
    """The commit of a folder of code, with "+changes" if the working tree differs; None outside version control."""
    where = os.fspath(where) or "."
    try:
        head = subprocess.run(["git", "-C", where, "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10)
        if head.returncode:
            return None
        changed = subprocess.run(
            ["git", "-C", where, "status", "--porcelain", "--untracked-files=no"],
            capture_output=True,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return head.stdout.strip() + ("+changes" if changed.stdout.strip() else "")


def versions() -> dict[str, str]:
    """The versions of Python and of the libraries that affect results, and the kind of device."""
    import jax

    names = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
    found = {name: importlib.metadata.version(name) for name in names}
    device = jax.devices()[0]
    return {"python": platform.python_version(), **found, "device": f"{jax.device_count()} x {device.device_kind}"}
