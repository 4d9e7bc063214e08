"""Reads a run's folder: the request, and the outcome of each trial.  Writes nothing there."""

from __future__ import annotations

import dataclasses
import datetime
import functools
import importlib
import json
import math
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from research.config.migration import current_name
from research.console import printable
from research.errors import RequestError
from research.locations import location
from research.metrics.directions import Direction
from research.report.runs import Curve, RunResult, TrialResult, lookup


def read_runs(folders: Sequence[Any]) -> tuple[RunResult, ...]:
    """Reads the runs in `folders` and labels them for a common table.

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


def read_run(folder: Any) -> RunResult:
    """Reads the run in `folder`; a damaged trial gets the status `unreadable`.

    Raises:
      RequestError: the folder is not a run.
    """
    folder = location(folder)
    sweep = _read_sweep(folder)
    trials = tuple(_read_trial(folder, trial) for trial in sweep["trials"])
    run = RunResult(
        folder=str(folder),
        experiment=_module(str(sweep.get("experiment", ""))),
        sweep=_name(sweep.get("sweep")) or "base",
        trials=trials,
        baseline=_name(sweep.get("baseline")),
        commit=str(sweep.get("commit") or ""),
        hash=str(sweep.get("hash") or ""),
        versions=_mapping(sweep.get("versions")),
        protocol=_mapping(sweep.get("protocol")),
        metric=str(sweep.get("prune") or "").partition(":")[0] or _kept_by(trials),
        date=str(sweep.get("created") or "")[:10] or _date(folder, trials),
        headline=next((_headline(trial.config) for trial in trials if trial.config), ()),
    )
    typed = str(sweep.get("command") or "")
    return dataclasses.replace(run, command=_command(run, typed, _mapping(sweep.get("settings"))))


def _read_sweep(folder) -> dict:
    path = folder / "sweep.json"
    if not path.exists():
        if not folder.exists():
            raise RequestError(f"{folder}: no such folder; expected one that `python -m launch run` wrote")
        inside = sorted(str(child) for child in _children(folder) if (child / "sweep.json").exists())
        hint = f"did you mean {' '.join(inside)}?" if inside else "expected a folder that `python -m launch run` wrote"
        raise RequestError(f"{folder}: not a run, since it has no sweep.json; {hint}")
    try:
        sweep = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise RequestError(f"{path}: not readable as JSON ({_line(error)}); expected a file of `launch run`") from None
    trials = sweep.get("trials") if isinstance(sweep, dict) else None
    if not isinstance(trials, list) or not all(isinstance(trial, dict) and "name" in trial for trial in trials):
        raise RequestError(f"{path}: holds no list of named trials; expected a file that `python -m launch run` wrote")
    return sweep


def _read_trial(run, asked: Mapping[str, Any]) -> TrialResult:
    """Joins one entry of sweep.json's trials with the content of its folder."""
    folder = run / "trials" / str(asked["name"])
    overrides = _mapping(asked.get("overrides"))
    seed = asked.get("seed", overrides.get("seed"))
    curves, cut_lines = _read_curves(folder)
    config = _read_config(folder / "config.json")
    trial = TrialResult(
        name=str(asked["name"]),
        variant=_name(asked.get("variant")) or "base",
        seed=seed if isinstance(seed, int) else None,
        overrides=overrides,
        hash=str(asked.get("hash") or ""),
        config=config,
        better=_better(config),
        curves=curves,
        cut_lines=cut_lines,
    )
    path = folder / "result.json"
    try:
        if not path.exists():
            return trial
        return _at_best_step(dataclasses.replace(trial, **_result(json.loads(path.read_text()))))
    except (OSError, ValueError, RecursionError) as error:
        return dataclasses.replace(trial, status="unreadable", error=f"result.json: {_line(error)}")


def _result(result: Any) -> dict[str, Any]:
    """Reads the fields of `TrialResult` from result.json.  Raises ValueError if it is not a result."""
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
        "mfu": _number(result.get("mfu")),
        "starved_seconds": _number(result.get("starved_seconds")),
        "storage": str(result.get("storage") or ""),
        "stacked": len(stacked) if isinstance(stacked, list) else _integer(stacked),
        "parameters": _integer(result.get("parameters")),
        "pruned_at_step": _integer(pruned_at),
        "stopped_at_step": _integer(_number(result.get("stopped_at_step"))),
        "best_step": _integer(result.get("best_step")),
        "error": _line(result.get("error") or ""),
    }


def _at_best_step(trial: TrialResult) -> TrialResult:
    """Replaces the metrics of evaluations during training by those of the tested checkpoint, if it is not the last."""
    metrics = dict(trial.metrics)
    for (split, name), curve in trial.curves.items():
        if trial.best_step is not None and split != "train":
            at = curve.values[curve.steps == trial.best_step]
            if at.size and math.isfinite(at[0]):
                metrics[f"{split}/{name}"] = float(at[0])
    return dataclasses.replace(trial, metrics=metrics)


def _headline(config: Mapping[str, Any]) -> tuple[str, ...]:
    """The patterns of the metrics that the task shows, from config.json; () for older runs and for tasks with few."""
    said = config.get("headline")
    return tuple(map(str, said)) if isinstance(said, list) else ()


def _better(config: Mapping[str, Any]) -> Mapping[str, Direction]:
    """The direction of each metric from config.json, or for older runs from the task's class if the library has it."""
    said = config.get("better")
    if not isinstance(said, dict):
        task = lookup(config, "task._type")
        said = _declared(task) if isinstance(task, str) else {}
    return {metric: way for metric, way in said.items() if way in ("min", "max")}


@functools.cache
def _declared(task: str) -> Mapping[str, Direction]:
    """The directions declared by a class of the library, given "module:Class" from a record; {} for other classes."""
    module, _, name = task.rpartition(":")
    module, name = current_name(module, name)
    if not module.startswith("research.tasks."):
        return {}
    try:
        return getattr(importlib.import_module(module), name).better
    except (ImportError, AttributeError):
        return {}


def _read_config(path) -> Mapping[str, Any]:
    try:
        config = json.loads(path.read_text()) if path.exists() else {}
    except (OSError, ValueError, RecursionError):
        return {}
    return _mapping(config)


def _read_curves(folder) -> tuple[dict[tuple[str, str], Curve], int]:
    """Reads every logged number by (split, metric), and the number of incomplete lines.

    A resumed trial logs some steps twice; the later line counts.  A line that was cut off while writing is skipped.
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
            except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
                cut += 1
                continue
            for name, value in record.items():
                number = math.nan if value is None else _float(value)
                if name not in ("step", "split") and number is not None:
                    points.setdefault((split, name), {})[step] = number
    return {key: _curve(values) for key, values in points.items()}, cut


def _parts(folder) -> list:
    """metrics.jsonl, then metrics.00001.jsonl and so on, in the order of writing."""
    parts = []
    for path in _children(folder):
        if match := re.fullmatch(r"metrics(?:\.(\d+))?\.jsonl", path.name):
            parts.append((int(match[1] or -1), path))
    return [path for _, path in sorted(parts, key=lambda part: part[0])]


def _children(folder) -> list:
    """The entries of a folder; avoids glob patterns, since names may contain brackets and stars."""
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _curve(values: Mapping[int, float]) -> Curve:
    steps = sorted(values)
    return Curve(np.asarray(steps, np.int64), np.asarray([values[step] for step in steps], np.float64))


def _kept_by(trials: Sequence[TrialResult]) -> str:
    """The metric by which every trial kept its best checkpoint; empty if none or several metrics did."""
    metrics = {lookup(trial.config, "checkpoints.best") for trial in trials if trial.config}
    (metric,) = metrics if len(metrics) == 1 else ("",)
    return metric if isinstance(metric, str) else ""


def _labels(runs: Sequence[RunResult]) -> list[str]:
    """The shortest kind of name that distinguishes all runs."""
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


def _command(run: RunResult, typed: str, settings: Mapping[str, Any]) -> str:
    """The recorded command without --out, or else a command that makes the same request."""
    if typed.startswith(("fit in ", "run_sweep in ")):  # a call in Python
        return typed
    if typed.startswith(("python -m launch run ", "espalier run ")):
        return re.sub(r" --out[ =]('[^']*'|\S+)", "", typed)
    words = ["python", "-m", "launch", "run", run.experiment]
    if run.sweep != "base":
        words += ["--sweep", run.sweep]
    if run.seeds and run.seeds == tuple(range(len(run.seeds))):
        words += ["--seeds", str(len(run.seeds))]
    for path, value in settings.items():
        words += ["--set", f"{path}={value if isinstance(value, str) else json.dumps(value)}"]
    return shlex.join(words)


def _date(folder, trials: Sequence[TrialResult]) -> str:
    """The date (UTC) of the newest result, or of sweep.json if there is none."""
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
    """A module's name, or a file's name without its folder, which depends on the machine."""
    return name.removeprefix("file:").rsplit("/", 1)[-1] if name.startswith("file:") else name


def _name(x: Any) -> str | None:
    """The name of a variant or sweep, as tables, pictures and warnings of their fonts can show it; None without one."""
    return printable(str(x)) if x else None


def _mapping(x: Any) -> Mapping[str, Any]:
    return x if isinstance(x, dict) else {}


def _float(x: Any) -> float | None:
    """Converts a number (not a bool) to float, including NaN and infinities; None for other values."""
    return float(x) if isinstance(x, int | float) and not isinstance(x, bool) else None


def _number(x: Any) -> float | None:
    """Converts a finite number to float; None for other values."""
    number = _float(x)
    return number if number is not None and math.isfinite(number) else None


def _integer(x: Any) -> int | None:
    number = _number(x)
    return None if number is None else int(number)


def _line(x: Any) -> str:
    """Converts `x` to text on one line."""
    return " ".join(str(x).split())
