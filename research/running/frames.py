"""Runs as pandas tables; pandas is in the extra [notebooks]."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from research.config.extras import from_extra
from research.report import numbers
from research.report.runs import STATUSES, RunResult
from research.report.table import Table, records
from research.report.trials import rows

if TYPE_CHECKING:
    import pandas

_OF_RUN = ("run", "experiment", "sweep", "variant", "chosen", "commit", "hash")
"""Columns of table.csv that are equal for all rows of one run, or become the index or a column of another type."""


def table(shown: Table) -> pandas.DataFrame:
    """A row for each variant of one run, with the columns of table.csv and the fields that differ."""
    pandas = _pandas("table()")
    run, rows = shown.runs[0], []
    for row, record in zip(shown.rows, records(shown), strict=True):
        settings = {path: native(run.value(row.variant, path)) for path in run.varied}
        kept = {name: x for name, x in record.items() if name not in _OF_RUN and name not in settings}
        rows.append({"variant": row.variant, **settings, "chosen": row.chosen, **kept})
    frame = pandas.DataFrame(rows).set_index("variant")
    rare = [status for status in STATUSES if status != "finished" and not frame[status].any()]
    unused = [name for name in ("chosen",) if not frame[name].any()]
    return frame.drop(columns=rare + unused)


def trials(run: RunResult) -> pandas.DataFrame:
    """A row for each trial of a run."""
    pandas = _pandas("trials()")
    found = [{name: native(value) for name, value in row.items() if name != "run"} for row in rows([run])]
    return pandas.DataFrame(found).set_index("trial")


def curves(run: RunResult) -> pandas.DataFrame:
    """A row for each number that was logged in training, by trial, split, metric and step."""
    pandas = _pandas("curves()")
    names = ("trial", "variant", "seed", "split", "metric")
    parts: dict[str, list[Any]] = {name: [] for name in (*names, "step", "value")}
    for trial in run.trials:
        for (split, metric), curve in trial.curves.items():
            labels = (trial.name, trial.variant, trial.seed, split, metric)
            for name, label in zip(names, labels, strict=True):
                parts[name] += [label] * len(curve.steps)
            parts["step"].append(curve.steps)
            parts["value"].append(curve.values)
    joined = {name: np.concatenate(parts[name]) if parts[name] else [] for name in ("step", "value")}
    return pandas.DataFrame({**parts, **joined})


def _pandas(what: str) -> Any:
    return from_extra("pandas", "notebooks", what)


def native(value: Any) -> Any:
    """A value of a field as a person would write it: lists as tuples, parts such as an optimizer as text."""
    if isinstance(value, list):
        return tuple(native(child) for child in value)
    return numbers.value(value) if isinstance(value, dict) else value
