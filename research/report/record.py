"""The numbers of a report as a small JSON record, from which documents are written."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from research.errors import RequestError
from research.report import numbers, sentences
from research.report.runs import RunResult
from research.report.statistics import Difference, Summary
from research.report.table import Row, Table

LAYOUT = 1
"""The version of the record's layout."""


def to_record(table: Table) -> dict[str, Any]:
    """The runs with their sources, and every number of every variant at full precision."""
    runs, rows = [_run(run) for run in table.runs], [_row(table, row) for row in table.rows]
    return {"layout": LAYOUT, "metrics": list(table.metrics), "runs": runs, "rows": rows}


def _run(run: RunResult) -> dict[str, Any]:
    return {
        "label": run.label,
        **dict(sentences.provenance(run)),
        "seeds": list(run.seeds),
        "trials": len(run.trials),
        "baseline": run.baseline if run.compares else None,
    }


def _row(table: Table, row: Row) -> dict[str, Any]:
    metrics = {}
    for name, cell in row.cells.items():
        metrics[name] = dataclasses.asdict(cell.summary)
        if cell.difference is not None:
            gap = dataclasses.asdict(cell.difference)
            metrics[name]["difference"] = {key: x for key, x in gap.items() if x is not None}
    return {
        "variant": row.name,
        "baseline": row.is_baseline and row.run.compares,
        "chosen": row.chosen,
        "trials": row.trials,
        "parameters": row.parameters,
        "seconds": row.seconds,
        "metrics": metrics,
    }


def to_table(record: Mapping[str, Any], metrics: tuple[str, ...] = ()) -> str:
    """A record as Markdown: a table of some of its metrics, and a line about their source.

    Args:
      record: as `to_record` makes it.
      metrics: names; () takes those that the report showed.

    Raises:
      RequestError: it is no such record, or has no such metric.
    """
    try:
        rows, runs = record["rows"], record["runs"]
        shown = list(metrics or record["metrics"])
        lacking = [name for name in shown if not any(name in row["metrics"] for row in rows)]
        if lacking:
            raise RequestError(f"no metric {lacking[0]} in the record")
        return "\n".join([*_lines(rows, shown), "", *map(_source, runs)])
    except (KeyError, TypeError, AttributeError) as error:
        raise RequestError(f"not a record of numbers: {error}") from None


def _lines(rows: list[Mapping[str, Any]], metrics: list[str]) -> list[str]:
    compared = [name for name in metrics if any("difference" in row["metrics"].get(name, {}) for row in rows)]
    heads, columns = ["variant"], [[row["variant"] for row in rows]]
    for name in metrics:
        cells = [_summary(row, name) for row in rows]
        form = numbers.column(cells)
        heads.append(name)
        columns.append([numbers.measure(cell, form) if cell.n else "" for cell in cells])
        if name in compared:
            gaps = [_difference(row, name) for row in rows]
            form = numbers.column([gap for gap in gaps if gap is not None])
            heads.append("difference")
            columns.append(["" if gap is None else numbers.difference(gap, form).rstrip(numbers.STAR) for gap in gaps])
    body = [f"| {' | '.join(cells)} |" for cells in zip(*columns, strict=True)]
    return [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}", *body]


def _summary(row: Mapping[str, Any], metric: str) -> Summary:
    found = row["metrics"].get(metric, {})
    return Summary(found.get("mean"), found.get("std"), found.get("n", 0))


def _difference(row: Mapping[str, Any], metric: str) -> Difference | None:
    found = row["metrics"].get(metric, {}).get("difference")
    return None if found is None else Difference(found.get("mean"), found.get("low"), found.get("high"), found["n"])


def _source(run: Mapping[str, Any]) -> str:
    seeds = run["seeds"]
    listed = f"seeds {seeds[0]} to {seeds[-1]}" if len(seeds) > 1 else f"seed {seeds[0]}" if seeds else "no seed"
    commit = str(run.get("commit", ""))
    said = [f"`{run['command']}`", listed, f"{run['trials']} trials"]
    said += [f"commit {commit[:12]}{'+changes' if '+' in commit else ''}"] * bool(commit)
    said += [str(run[key]) for key in ("date", "compute") if key in run]
    return f"{', '.join(said)}."
