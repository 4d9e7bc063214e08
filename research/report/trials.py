"""The trials of runs as rows of a CSV file: what was asked for, and every score."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from typing import Any

from research.report.runs import RunResult


def to_csv(runs: Sequence[RunResult]) -> str:
    """A row for each trial, with a column for each field that differs between trials and for each metric."""
    paths = dict.fromkeys(path for run in runs for path in (*run.varied, *run.crossed) if path != "seed")
    metrics = dict.fromkeys(name for run in runs for trial in run.trials for name in trial.metrics)
    rows = [_row(run, i, paths, metrics) for run in runs for i in range(len(run.trials))]
    file = io.StringIO()
    writer = csv.DictWriter(file, list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()


def _row(run: RunResult, i: int, paths: Sequence[str], metrics: Sequence[str]) -> dict[str, Any]:
    trial = run.trials[i]
    settings = {path: trial.overrides.get(path, run.value(trial.variant, path)) for path in paths}
    return {
        "run": run.label,
        "trial": trial.name,
        "variant": trial.variant,
        "seed": trial.seed,
        **{path: json.dumps(x) if isinstance(x, dict | list) else x for path, x in settings.items()},
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
