"""The trials of runs as rows of a CSV file: what was asked for, and every score."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from typing import Any

from research.report.runs import RunResult, TrialResult


def to_csv(runs: Sequence[RunResult]) -> str:
    """A row for each trial, with a column for each field that differs between trials and for each metric."""
    found = [{name: _text(value) for name, value in row.items()} for row in rows(runs)]
    file = io.StringIO()
    writer = csv.DictWriter(file, list(found[0]) if found else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(found)
    return file.getvalue()


def rows(runs: Sequence[RunResult]) -> list[dict[str, Any]]:
    """The values of each trial by the name of their column."""
    paths = dict.fromkeys(path for run in runs for path in (*run.varied, *run.crossed) if path != "seed")
    metrics = dict.fromkeys(name for run in runs for trial in run.trials for name in trial.metrics)
    return [_row(run, trial, paths, metrics) for run in runs for trial in run.trials]


def _text(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, dict | list) else value


def _row(run: RunResult, trial: TrialResult, paths: Iterable[str], metrics: Iterable[str]) -> dict[str, Any]:
    settings = {path: trial.overrides.get(path, run.value(trial.variant, path)) for path in paths}
    return {
        "run": run.label,
        "trial": trial.name,
        "variant": trial.variant,
        "seed": trial.seed,
        **settings,
        "status": trial.status,
        **{name: trial.metrics.get(name) for name in metrics},
        "steps": trial.steps,
        "best_step": trial.best_step,
        "pruned_at_step": trial.pruned_at_step,
        "stopped_at_step": trial.stopped_at_step,
        "seconds": trial.seconds,
        "steps_per_second": trial.steps_per_second,
        "parameters": trial.parameters,
        "error": trial.error,
    }
