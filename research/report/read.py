"""From a run's folder to values: what was asked, and how each trial ended.  Only reads."""

from __future__ import annotations

import dataclasses
import datetime
import json
import math
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from research.errors import RequestError

Status = Literal["finished", "pruned", "diverged", "failed", "missing", "unreadable"]

STATUSES: tuple[Status, ...] = ("finished", "pruned", "diverged", "failed", "missing", "unreadable")


@dataclasses.dataclass(frozen=True)
class Curve:
    """One metric of one trial on one split: `values[i]` was logged at `steps[i]`; both `[points]`, steps ascending."""

    steps: np.ndarray
    values: np.ndarray


@dataclasses.dataclass(frozen=True)
class Trial:
    """One training: what was asked of it and what its folder holds.

    Attributes:
      status: `result.json`'s, except that a finished trial which the sweep stopped early is `pruned`, one without
        `result.json` is `missing`, and one whose `result.json` cannot be understood is `unreadable`.
      metrics: finite numbers only, as `"test/accuracy"`; a NaN is left out, so that n shows it.
      curves: by `(split, metric)`.
      starved_seconds: of `seconds`, those of waiting for a batch when all before it were computed.
      cut_lines: lines of metrics.jsonl that were skipped because they are not whole.
    """

    name: str
    variant: str
    seed: int | None = None
    overrides: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    hash: str = ""
    status: Status = "missing"
    metrics: Mapping[str, float] = dataclasses.field(default_factory=dict)
    steps: int | None = None
    seconds: float | None = None
    steps_per_second: float | None = None
    starved_seconds: float | None = None
    stacked: int | None = None
    parameters: int | None = None
    pruned_at_step: int | None = None
    error: str = ""
    config: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    curves: Mapping[tuple[str, str], Curve] = dataclasses.field(default_factory=dict)
    cut_lines: int = 0


@dataclasses.dataclass(frozen=True)
class Run:
    """A folder that `launch run` wrote: sweep.json and the trials, in the order in which they were asked for.

    Attributes:
      metric: the one that the run itself chose by, trials or checkpoints, if it did.
      command: asks for the same run again.
      date: day on which it was asked for.
      label: what tells this run from the others in the same report; empty if it is alone.
    """

    folder: str
    experiment: str
    sweep: str
    trials: tuple[Trial, ...]
    baseline: str | None = None
    commit: str = ""
    hash: str = ""
    versions: Mapping[str, str] = dataclasses.field(default_factory=dict)
    protocol: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    command: str = ""
    metric: str = ""
    date: str = ""
    label: str = ""

    @property
    def variants(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(trial.variant for trial in self.trials))

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(sorted({trial.seed for trial in self.trials if trial.seed is not None}))

    @property
    def short_name(self) -> str:
        """The experiment's last word."""
        return self.experiment.removesuffix(".py").replace("/", ".").split(".")[-1]

    @property
    def short_commit(self) -> str:
        """Twelve digits of the commit, and whether the working tree differed from it."""
        commit, plus, changes = self.commit.partition("+")
        return commit[:12] + plus + changes

    def of(self, variant: str) -> tuple[Trial, ...]:
        """The trials of one variant."""
        return tuple(trial for trial in self.trials if trial.variant == variant)


def read_runs(folders: Sequence[Any]) -> tuple[Run, ...]:
    """The runs in `folders`, labelled so that they can stand in one table.

    Raises:
      RequestError: no folder was given, or one of them is not a run.
    """
    if not folders:
        raise RequestError(
            "no run given: expected folders that `python -m launch run` wrote, such as runs/digits_mlp/base"
        )
    runs = [read_run(folder) for folder in dict.fromkeys(str(folder) for folder in folders)]
    if len(runs) == 1:
        return tuple(runs)
    return tuple(dataclasses.replace(run, label=label) for run, label in zip(runs, _labels(runs), strict=True))


def read_run(folder: Any) -> Run:
    """The run in `folder`.  Raises `RequestError` if it is not one; a damaged trial is `unreadable`, not an error."""
    from etils import epath

    folder = epath.Path(folder)
    sweep = _read_sweep(folder)
    trials = tuple(_read_trial(folder, trial) for trial in sweep["trials"])
    run = Run(
        folder=str(folder),
        experiment=_module(str(sweep.get("experiment", ""))),
        sweep=str(sweep.get("sweep") or "base"),
        trials=trials,
        baseline=sweep.get("baseline"),
        commit=str(sweep.get("commit") or ""),
        hash=str(sweep.get("hash") or ""),
        versions=_mapping(sweep.get("versions")),
        protocol=_mapping(sweep.get("protocol")),
        metric=str(sweep.get("prune") or "").partition(":")[0] or _kept_by(trials),
        date=str(sweep.get("created") or "")[:10] or _date(folder, trials),
    )
    typed = str(sweep.get("command") or "")
    return dataclasses.replace(run, command=_command(run, typed, _mapping(sweep.get("settings"))))


def _read_sweep(folder) -> dict:
    path = folder / "sweep.json"
    if not path.exists():
        if not folder.exists():
            raise RequestError(f"{folder}: there is no such folder; expected one that `python -m launch run` wrote")
        inside = sorted(str(child) for child in _children(folder) if (child / "sweep.json").exists())
        hint = f"did you mean {' '.join(inside)}?" if inside else "expected a folder that `python -m launch run` wrote"
        raise RequestError(f"{folder}: not a run, it holds no sweep.json; {hint}")
    try:
        sweep = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise RequestError(f"{path}: not readable as JSON ({_line(error)}); expected what `launch run` wrote") from None
    trials = sweep.get("trials") if isinstance(sweep, dict) else None
    if not isinstance(trials, list) or not all(isinstance(trial, dict) and "name" in trial for trial in trials):
        raise RequestError(f"{path}: no list of named trials in it; expected what `python -m launch run` wrote")
    return sweep


def _read_trial(run, asked: Mapping[str, Any]) -> Trial:
    """One entry of sweep.json's trials, joined with what its folder holds."""
    folder = run / "trials" / str(asked["name"])
    overrides = _mapping(asked.get("overrides"))
    seed = asked.get("seed", overrides.get("seed"))
    curves, cut_lines = _read_curves(folder)
    trial = Trial(
        name=str(asked["name"]),
        variant=str(asked.get("variant") or "base"),
        seed=seed if isinstance(seed, int) else None,
        overrides=overrides,
        hash=str(asked.get("hash") or ""),
        config=_read_config(folder / "config.json"),
        curves=curves,
        cut_lines=cut_lines,
    )
    path = folder / "result.json"
    try:
        if not path.exists():
            return trial
        return dataclasses.replace(trial, **_result(json.loads(path.read_text())))
    except (OSError, ValueError) as error:
        return dataclasses.replace(trial, status="unreadable", error=f"result.json: {_line(error)}")


def _result(result: Any) -> dict[str, Any]:
    """The fields of `Trial` that result.json gives.  Raises ValueError if it is not a result."""
    if not isinstance(result, dict):
        raise ValueError(f"expected an object, got {type(result).__name__}")
    status = result.get("status")
    if status not in ("finished", "diverged", "failed", "pruned"):
        raise ValueError(f"status is {status!r}; expected finished, diverged or failed")
    metrics = result.get("metrics") or {}
    if not isinstance(metrics, dict):
        raise ValueError(f"metrics: expected an object, got {type(metrics).__name__}")
    pruned_at = _number(result.get("pruned_at_step"))
    stacked = result.get("stacked")
    return {
        "status": "pruned" if status == "finished" and pruned_at is not None else status,
        "metrics": {name: value for name, x in metrics.items() if (value := _number(x)) is not None},
        "steps": _integer(result.get("steps")),
        "seconds": _number(result.get("seconds")),
        "steps_per_second": _number(result.get("steps_per_second")),
        "starved_seconds": _number(result.get("starved_seconds")),
        "stacked": len(stacked) if isinstance(stacked, list) else _integer(stacked),
        "parameters": _integer(result.get("parameters")),
        "pruned_at_step": _integer(pruned_at),
        "error": _line(result.get("error") or ""),
    }


def _read_config(path) -> Mapping[str, Any]:
    try:
        config = json.loads(path.read_text()) if path.exists() else {}
    except (OSError, ValueError):
        return {}
    return _mapping(config)


def _read_curves(folder) -> tuple[dict[tuple[str, str], Curve], int]:
    """Every logged number by (split, metric), and how many lines were not whole.

    A trial that was resumed logs some steps twice: the later line holds.  A line cut off mid-write is skipped.
    """
    points: dict[tuple[str, str], dict[int, float]] = {}
    cut = 0
    for path in _parts(folder):
        try:
            text = path.read_bytes().decode("utf-8", errors="replace")
        except OSError:
            continue
        for line in text.splitlines():
            if not line.strip():
                continue
            try:
                record = json.loads(line)
                step, split = int(record["step"]), str(record.get("split", "train"))
            except (ValueError, TypeError, KeyError, AttributeError, OverflowError):
                cut += 1
                continue
            for name, value in record.items():
                number = math.nan if value is None else _float(value)
                if name not in ("step", "split") and number is not None:
                    points.setdefault((split, name), {})[step] = number
    return {key: _curve(values) for key, values in points.items()}, cut


def _parts(folder) -> list:
    """metrics.jsonl, then metrics.00001.jsonl and so on: the order in which they were written."""
    parts = []
    for path in _children(folder):
        if match := re.fullmatch(r"metrics(?:\.(\d+))?\.jsonl", path.name):
            parts.append((int(match[1] or -1), path))
    return [path for _, path in sorted(parts, key=lambda part: part[0])]


def _children(folder) -> list:
    """What is in a folder; not by a pattern, since names may hold brackets and stars."""
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _curve(values: Mapping[int, float]) -> Curve:
    steps = sorted(values)
    return Curve(np.asarray(steps, np.int64), np.asarray([values[step] for step in steps], np.float64))


def lookup(config: Mapping[str, Any], path: str, default: Any = None) -> Any:
    """The value at a dotted path of config.json (`"model.depth"`, `"data.transforms.0.size"`), or `default`."""
    roots = [config, config.get("experiment")] if isinstance(config, Mapping) else []
    for node in roots:
        for key in path.split("."):
            if isinstance(node, Mapping) and key in node:
                node = node[key]
            elif isinstance(node, list) and key.isdigit() and int(key) < len(node):
                node = node[int(key)]
            else:
                break
        else:
            return node
    return default


def _kept_by(trials: Sequence[Trial]) -> str:
    """The metric by which every trial kept its best checkpoint; empty where they kept none, or by several."""
    metrics = {lookup(trial.config, "checkpoints.best") for trial in trials if trial.config}
    (metric,) = metrics if len(metrics) == 1 else ("",)
    return metric if isinstance(metric, str) else ""


def _labels(runs: Sequence[Run]) -> list[str]:
    """The shortest kind of name that tells all the runs apart."""
    kinds = (
        lambda run: run.sweep,
        lambda run: run.short_name,
        lambda run: f"{run.short_name}/{run.sweep}",
        lambda run: run.folder.rstrip("/").split("/")[-1],
        lambda run: "/".join(run.folder.rstrip("/").split("/")[-2:]),
    )
    for kind in kinds:
        labels = [kind(run) for run in runs]
        if len(set(labels)) == len(labels):
            return labels
    return [f"{run.sweep} ({i})" for i, run in enumerate(runs, start=1)]


def _command(run: Run, typed: str, settings: Mapping[str, Any]) -> str:
    """What was typed, less where it was to be written; without a record of it, what would ask for the same."""
    if typed.startswith("python -m launch run "):
        return re.sub(r" --out[ =]('[^']*'|\S+)", "", typed)
    words = ["python", "-m", "launch", "run", run.experiment]
    if run.sweep != "base":
        words += ["--sweep", run.sweep]
    if run.seeds and run.seeds == tuple(range(len(run.seeds))):
        words += ["--seeds", str(len(run.seeds))]
    for path, value in settings.items():
        words += ["--set", f"{path}={value if isinstance(value, str) else json.dumps(value)}"]
    return shlex.join(words)


def _date(folder, trials: Sequence[Trial]) -> str:
    """The day (UTC) of the newest result, or of sweep.json if there is none."""
    paths = [folder / "trials" / trial.name / "result.json" for trial in trials if trial.status != "missing"]
    times = []
    for path in paths or [folder / "sweep.json"]:
        try:
            times.append(path.stat().mtime)
        except OSError:
            continue
    newest = max((time for time in times if time), default=None)
    return "" if newest is None else datetime.datetime.fromtimestamp(newest, datetime.UTC).date().isoformat()


def _module(name: str) -> str:
    """A module's name, or that of a file without its folder: where it lies on this machine is nobody's business."""
    return name.removeprefix("file:").rsplit("/", 1)[-1] if name.startswith("file:") else name


def _mapping(x: Any) -> Mapping[str, Any]:
    return x if isinstance(x, dict) else {}


def _float(x: Any) -> float | None:
    """`x` as a float if it is a number (not a bool), NaN and infinities included."""
    return float(x) if isinstance(x, int | float) and not isinstance(x, bool) else None


def _number(x: Any) -> float | None:
    """`x` as a float if it is a finite number."""
    number = _float(x)
    return number if number is not None and math.isfinite(number) else None


def _integer(x: Any) -> int | None:
    number = _number(x)
    return None if number is None else int(number)


def _line(x: Any) -> str:
    """What `x` says, on one line."""
    return " ".join(str(x).split())
