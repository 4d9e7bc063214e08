"""The table: one row per variant, with its metrics over seeds, differences to the baseline, and the chosen variant."""

from __future__ import annotations

import csv
import dataclasses
import functools
import io
import json
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, NamedTuple

from research.metrics.directions import Direction
from research.report import numbers, selection
from research.report.choices import Choices
from research.report.numbers import Format
from research.report.runs import STATUSES, RunResult, Status
from research.report.selection import Criterion
from research.report.statistics import Difference, Summary, by_pair, holm, paired_difference, summarize, that_count

SORTED = 6
"""The number of variants without a baseline from which the best come first."""

PRUNED = 3
"""The number of pruned variants from which they are counted, instead of shown."""


@dataclasses.dataclass(frozen=True)
class Cell:
    """A metric of a variant.

    Attributes:
      difference: to the baseline; None for the baseline itself, for runs without one, and for the selecting metric if
        another one is stated.
      best: True for a validation score that no comparable variant exceeds.
    """

    summary: Summary
    difference: Difference | None = None
    best: bool = False


@dataclasses.dataclass(frozen=True, eq=False)
class Row:
    """A variant: its numbers, and the number of its trials by status.

    Attributes:
      criterion: the metrics that judge the variants of its run.
      chosen: True if its validation score is the best among the variants of its run and of comparable runs.
    """

    run: RunResult
    variant: str
    cells: Mapping[str, Cell]
    counts: Mapping[Status, int]
    criterion: Criterion = Criterion()
    parameters: int | None = None
    seconds: float | None = None
    chosen: bool = False

    @property
    def name(self) -> str:
        return f"{self.run.label}/{self.variant}" if self.run.label else self.variant

    @property
    def is_baseline(self) -> bool:
        return self.variant == self.run.baseline

    @property
    def trials(self) -> str:
        """`3 of 5; 1 diverged, 1 missing`."""
        ended = ", ".join(f"{self.counts[status]} {status}" for status in STATUSES[1:] if self.counts.get(status))
        total = sum(self.counts.values())
        return f"{self.counts.get('finished', 0)} of {total}" + (f"; {ended}" if ended else "")

    def mean(self, metric: str | None) -> float | None:
        """The mean of a metric over finished trials; None if the variant lacks it."""
        return self.cells[metric].summary.mean if metric in self.cells else None

    def bold(self, metric: str) -> bool:
        """True for a best validation score, and for the stated score of the variant that it chooses."""
        return (metric in self.cells and self.cells[metric].best) or (self.chosen and metric == self.criterion.score)


@dataclasses.dataclass(frozen=True, eq=False)
class Table:
    """The rows of one or several runs with common columns.

    Attributes:
      every: all metrics that were scored, for table.csv; `metrics` are those that are shown.
      groups: the runs whose scores can be ranked together.
      choices: what the author chose.
      pruned: the rows of variants that a search pruned; they are in table.csv, but not in `rows`.
    """

    runs: tuple[RunResult, ...]
    metrics: tuple[str, ...]
    rows: tuple[Row, ...]
    groups: tuple[tuple[RunResult, ...], ...] = ()
    every: tuple[str, ...] = ()
    choices: Choices = Choices()
    pruned: tuple[Row, ...] = ()

    def title(self, metric: str) -> str:
        """What a metric is called in the report."""
        return self.choices.names.get(metric, metric)

    def form(self, metric: str) -> Format:
        """How the means of a metric are written."""
        return self._forms[metric][0]

    def form_of_differences(self, metric: str) -> Format:
        """How the differences of a metric to the baseline are written."""
        return self._forms[metric][1]

    @functools.cached_property
    def _forms(self) -> dict[str, tuple[Format, Format]]:
        found = {}
        for metric in dict.fromkeys((*self.metrics, *self.every)):
            cells = [row.cells[metric] for row in self.rows if metric in row.cells]
            how = {"digits": self.choices.digits, "percent": self.choices.in_percent(metric)}
            gaps = [cell.difference for cell in cells if cell.difference is not None]
            found[metric] = numbers.column([cell.summary for cell in cells], **how), numbers.column(gaps, **how)
        return found

    def compares(self, metric: str) -> bool:
        """True if the table has differences of a metric to a baseline."""
        return metric in self._compared

    @functools.cached_property
    def _compared(self) -> frozenset[str]:
        cells = ((name, cell) for row in self.rows for name, cell in row.cells.items())
        return frozenset(name for name, cell in cells if cell.difference is not None)

    @property
    def finished(self) -> int:
        return sum(row.counts.get("finished", 0) for row in self.rows)

    @property
    def score(self) -> str:
        """The stated metric of the first run that has one; empty if nothing was scored."""
        return next((row.criterion.score for row in self.rows if row.criterion.score), "")

    def direction(self, metric: str) -> Direction | None:
        """The direction of a metric; None if no run declares it, or if declarations differ."""
        found = {run.direction(metric) for run in self.runs} - {None}
        return found.pop() if len(found) == 1 else None

    def unit(self, metric: str) -> str:
        return " (%)" if self.choices.in_percent(metric) else ""

    def arrow(self, metric: str) -> str:
        return {"max": " ↑", "min": " ↓", None: ""}[self.direction(metric)]

    def of(self, runs: Sequence[RunResult]) -> Table:
        """The part of the table that shows `runs`."""
        rows = tuple(row for row in self.rows if row.run in runs)
        metrics = tuple(metric for metric in self.metrics if any(metric in row.cells for row in rows))
        groups = tuple(group for group in self.groups if set(group) <= set(runs))
        pruned = tuple(row for row in self.pruned if row.run in runs)
        return Table(tuple(runs), metrics, rows, groups, self.every, self.choices, pruned)

    def shortened(self, count: int) -> Table:
        """The table with at most `count` rows for each group of comparable runs: the baselines, then the best."""
        if len(self.rows) <= count:
            return self
        kept = set()
        for group in self.groups:
            rows = sorted(ranked([row for row in self.rows if row.run in group]), key=lambda row: not row.is_baseline)
            kept |= {(row.run, row.variant) for row in rows[:count]}
        rows = tuple(row for row in self.rows if (row.run, row.variant) in kept)
        return dataclasses.replace(self, rows=rows)


def build(runs: Sequence[RunResult], choices: Choices = Choices()) -> Table:  # noqa: B008
    """Builds the table of `runs`.

    Raises:
      RequestError: a choice is of no variant or metric.
    """
    variants = list(dict.fromkeys(variant for run in runs for variant in run.variants))
    runs = choices.of_runs(runs)
    several = sum(len(run.variants) for run in runs) > 1
    columns = {run: selection.columns(run, several) for run in runs}
    criteria = {run: selection.criterion(run) for run in runs}
    groups = tuple(tuple(group) for group in selection.comparable(runs))
    scored = {run: selection.scored(run) for run in runs}
    every = tuple(dict.fromkeys(name for part in (columns, scored) for run in runs for name in part[run]))
    usual = [name for run in runs for name in selection.headline(run, columns[run], criteria[run])]
    choices.check(variants, every)
    metrics = choices.of_metrics(every, tuple(dict.fromkeys(usual)))
    rows = []
    for run in runs:
        baseline = functools.cache(functools.partial(_pairs_of_baseline, run))
        rows += [_row(run, variant, every, criteria[run], baseline) for variant in run.variants]
    if choices.correction == "holm":
        rows = [corrected for run in runs for corrected in _corrected([row for row in rows if row.run is run], every)]
    marked = {}
    for group in groups:
        own = [row for row in rows if row.run in group]
        marked |= {(row.run, row.variant): row for row in _with_choice(_with_best(own))}
    rows = [row for run in runs for row in _in_order([marked[r.run, r.variant] for r in rows if r.run is run])]
    pruned = tuple(row for row in rows if set(row.counts) == {"pruned"})
    pruned = pruned if len(pruned) >= PRUNED else ()
    shown = tuple(row for row in rows if row not in pruned)
    return Table(tuple(runs), metrics, shown, groups, every, choices, pruned)


def _pairs_of_baseline(run: RunResult, metric: str) -> Mapping[Hashable, float]:
    return by_pair(run.of(run.baseline), metric, run.crossed)


def _row(
    run: RunResult,
    variant: str,
    metrics: Sequence[str],
    criterion: Criterion,
    baseline: Callable[[str], Mapping[Hashable, float]],
) -> Row:
    trials = run.of(variant)
    compared = run.compares and run.baseline != variant
    cells = {}
    counted = that_count(trials)
    for name in metrics:
        if not any(name in trial.metrics for trial in run.trials):
            continue
        pairs = None
        if compared and (name != criterion.chooser or name == criterion.score):
            pairs = paired_difference(by_pair(trials, name, run.crossed), baseline(name))
        values = [trial.metrics[name] for trial in counted if name in trial.metrics]
        cells[name] = Cell(summarize(values), pairs)
    parameters = {trial.parameters for trial in trials} - {None}
    seconds = summarize(trial.seconds for trial in that_count(trials) if trial.seconds is not None)
    return Row(
        run=run,
        variant=variant,
        cells=cells,
        counts=Counter(trial.status for trial in trials),
        criterion=criterion,
        parameters=parameters.pop() if len(parameters) == 1 else None,
        seconds=seconds.mean,
    )


def _in_order(rows: Sequence[Row]) -> Sequence[Row]:
    """The rows of a run: as asked for if there is a baseline or a chosen order, else the best first."""
    ordered = any(row.run.compares for row in rows) or len(rows) < SORTED
    return rows if ordered else ranked(rows)


def _corrected(rows: Sequence[Row], metrics: Sequence[str]) -> list[Row]:
    """Corrects the comparisons of each metric with the baseline for their number."""
    cells = [dict(row.cells) for row in rows]
    for name in metrics:
        tested = [own for own in cells if name in own and own[name].difference and own[name].difference.p is not None]
        for own, p in zip(tested, holm([own[name].difference.p for own in tested]), strict=True):
            own[name] = dataclasses.replace(
                own[name], difference=dataclasses.replace(own[name].difference, corrected=p)
            )
    return [dataclasses.replace(row, cells=own) for row, own in zip(rows, cells, strict=True)]


def best_rows(rows: Sequence[Row], metric: str | None, way: Direction | None) -> list[Row]:
    """The rows with the best mean of a metric, several in case of ties; none if fewer than two have a mean."""
    scored = [row for row in rows if row.mean(metric) is not None]
    if way is None or len(scored) < 2:
        return []
    best = (min if way == "min" else max)(row.mean(metric) for row in scored)
    return [row for row in scored if row.mean(metric) == best]


def ranked(rows: Sequence[Row]) -> list[Row]:
    """Sorts rows of comparable runs by validation score, best first; keeps their order if no metric chooses."""
    criterion = rows[0].criterion if rows else Criterion()
    sign = -1 if criterion.direction == "max" else 1

    def place(row: Row) -> tuple:
        mean = row.mean(criterion.chooser) if criterion.chooses else None
        return (not row.counts.get("finished"), mean is None, 0 if mean is None else sign * mean)

    return sorted(rows, key=place)


def _with_best(rows: Sequence[Row]) -> list[Row]:
    """Marks the best validation scores among rows of comparable runs."""
    metrics = dict.fromkeys(name for row in rows for name in row.cells)
    ranking = [name for name in metrics if name.startswith("validation/") or name == rows[0].criterion.chooser]
    best = {name: set(best_rows(rows, name, rows[0].run.direction(name))) for name in ranking}

    def marked(row: Row) -> dict[str, Cell]:
        return {name: dataclasses.replace(cell, best=row in best.get(name, ())) for name, cell in row.cells.items()}

    return [dataclasses.replace(row, cells=marked(row)) for row in rows]


def _with_choice(rows: Sequence[Row]) -> list[Row]:
    """Marks the chosen rows among those of comparable runs; runs with a baseline have none."""
    choice = [row for row in rows if not row.run.compares]
    chosen = set(best_rows(choice, rows[0].criterion.chooser, rows[0].criterion.direction))
    return [dataclasses.replace(row, chosen=row in chosen) for row in rows]


# Texts of the cells -------------------------------------------------------------------------------


class CellText(NamedTuple):
    """The text of a cell."""

    text: str
    bold: bool = False


def texts(table: Table) -> tuple[list[str], list[list[CellText]]]:
    """Headers, and the texts of every row: variant, metrics, parameters, seconds, trials."""
    has_parameters = any(row.parameters is not None for row in table.rows)
    has_seconds = any(row.seconds is not None for row in table.rows)
    headers = ["variant"]
    for name in table.metrics:
        title = table.title(name)
        headers += [f"{title}{table.unit(name)}{table.arrow(name)}"] + ([f"Δ {title}"] if table.compares(name) else [])
    headers += ["parameters"] * has_parameters + ["seconds"] * has_seconds + ["trials"]
    lines = []
    for row in table.rows:
        tag = " (baseline)" if row.is_baseline and row.variant != "baseline" else ""
        line = [CellText(f"{row.name}{tag}", row.chosen)]
        for name in table.metrics:
            cell = row.cells.get(name)
            said = numbers.measure(cell.summary, table.form(name)) if cell else numbers.NONE
            line.append(CellText(said, row.bold(name)))
            if table.compares(name):
                gap = cell.difference if cell else None
                form = table.form_of_differences(name)
                line.append(CellText(numbers.difference(gap, form) if gap else numbers.NONE))
        if has_parameters:
            line.append(CellText(numbers.NONE if row.parameters is None else f"{row.parameters:,}"))
        if has_seconds:
            line.append(CellText(numbers.plain(row.seconds)))
        lines.append([*line, CellText(row.trials)])
    return headers, lines


def records(table: Table) -> list[dict[str, Any]]:
    """Every number of each row at full precision, by the name of its column in table.csv; None if it is missing."""
    found = []
    settings = dict.fromkeys(path for run in table.runs for path in run.varied)
    for row in (*table.rows, *table.pruned):
        run = row.run
        record = {"run": run.label, "experiment": run.experiment, "sweep": run.sweep, "variant": row.variant}
        record |= {"chosen": "yes" if row.chosen else "", "trials": sum(row.counts.values())}
        record |= {status: row.counts.get(status, 0) for status in STATUSES}
        record |= {path: _setting(run.value(row.variant, path)) for path in settings}
        for name in dict.fromkeys((*table.metrics, *table.every)):
            cell = row.cells.get(name, Cell(Summary(None, None, 0)))
            record |= {f"{name} {part}": getattr(cell.summary, part) for part in ("mean", "std", "n")}
            if table.compares(name):
                gap = cell.difference or Difference(None, None, None, None)
                parts = {"difference": gap.mean, "low": gap.low, "high": gap.high, "pairs": gap.n}
                record |= {f"{name} {part}": value for part, value in parts.items()}
        found.append(
            record | {"parameters": row.parameters, "seconds": row.seconds, "commit": run.commit, "hash": run.hash}
        )
    return found


def _setting(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, dict | list) else value


def to_csv(table: Table) -> str:
    """Every number at full precision in its own column; empty if missing."""
    rows, file = records(table), io.StringIO()
    writer = csv.DictWriter(file, list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()
