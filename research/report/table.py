"""The ablation table: a row per variant, and the same table as Markdown, LaTeX, CSV and on the terminal."""

from __future__ import annotations

import csv
import dataclasses
import io
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from research.report import names, numbers
from research.report.read import STATUSES, Run, Status
from research.report.statistics import (
    CONFIDENCE,
    Difference,
    Summary,
    better,
    by_pair,
    counted,
    crossed_paths,
    direction,
    paired_difference,
    summarize,
    table_metrics,
)

if TYPE_CHECKING:
    import rich.table


@dataclasses.dataclass(frozen=True)
class Cell:
    """One metric of one variant.  `difference` is None on the baseline's own row and where there is no baseline."""

    summary: Summary
    difference: Difference | None = None
    best: bool = False


@dataclasses.dataclass(frozen=True)
class Row:
    """One variant: its numbers, and how many of its trials ended in which way."""

    run: Run
    variant: str
    cells: Mapping[str, Cell]
    counts: Mapping[Status, int]
    parameters: int | None = None
    seconds: float | None = None

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


@dataclasses.dataclass(frozen=True)
class Table:
    """The rows of one or several runs under the same columns; `metrics[0]` is the one that orders variants."""

    runs: tuple[Run, ...]
    metrics: tuple[str, ...]
    rows: tuple[Row, ...]

    @property
    def compares(self) -> bool:
        """Whether there is a baseline to differ from."""
        return any(cell.difference is not None for row in self.rows for cell in row.cells.values())

    @property
    def finished(self) -> int:
        return sum(row.counts.get("finished", 0) for row in self.rows)


def build(runs: Sequence[Run]) -> Table:
    """The table of `runs`; the best mean is marked among variants of one experiment, if a metric has a direction."""
    columns = {id(run): table_metrics(run) for run in runs}
    metrics = tuple(dict.fromkeys(name for run in runs for name in columns[id(run)]))
    rows = [_row(run, variant, columns[id(run)]) for run in runs for variant in run.variants]
    return Table(tuple(runs), metrics, tuple(_mark_best(rows)))


def _row(run: Run, variant: str, metrics: Sequence[str]) -> Row:
    trials = run.of(variant)
    crossed = crossed_paths(run)
    against = run.baseline if run.baseline in run.variants and run.baseline != variant else None
    cells = {}
    for name in metrics:
        pairs = None
        if against is not None:
            mine, theirs = by_pair(trials, name, crossed), by_pair(run.of(against), name, crossed)
            pairs = paired_difference(mine, theirs)
        values = [trial.metrics[name] for trial in counted(trials) if name in trial.metrics]
        cells[name] = Cell(summarize(values), pairs)
    parameters = {trial.parameters for trial in trials} - {None}
    seconds = summarize(trial.seconds for trial in counted(trials) if trial.seconds is not None)
    return Row(
        run=run,
        variant=variant,
        cells=cells,
        counts=Counter(trial.status for trial in trials),
        parameters=parameters.pop() if len(parameters) == 1 else None,
        seconds=seconds.mean,
    )


def _mark_best(rows: Sequence[Row]) -> list[Row]:
    marked = []
    for row in rows:
        rivals = [other for other in rows if other.run.experiment == row.run.experiment]
        cells = {
            name: dataclasses.replace(cell, best=direction(name) is not None and _is_best(name, cell, rivals))
            for name, cell in row.cells.items()
        }
        marked.append(dataclasses.replace(row, cells=cells))
    return marked


def _is_best(name: str, cell: Cell, rivals: Sequence[Row]) -> bool:
    means = [row.cells[name].summary.mean for row in rivals if name in row.cells]
    means = [mean for mean in means if mean is not None]
    mine = cell.summary.mean
    return mine is not None and len(means) > 1 and not any(better(mean, mine, name) for mean in means)


# What stands under the table ----------------------------------------------------------------------


STARVING = 0.1
"""The share of a trial's seconds that it may wait for batches before the report says so."""


def notes(table: Table) -> list[str]:
    """What the numbers are, in sentences."""
    trials = [trial for run in table.runs for trial in run.trials]
    if not table.finished:
        lines = ["No trial has finished: there is nothing to average yet."]
    else:
        lines = [
            "Mean ± sample standard deviation (n) over finished trials; bold is the best mean, ↑ and ↓ say which way."
        ]
    if table.compares:
        pairs = dict.fromkeys(path for run in table.runs for path in crossed_paths(run))
        paired = " and ".join(pairs)
        lines.append(
            f"Δ: mean difference to the baseline [{CONFIDENCE:.0%} t interval] (pairs), paired by {paired}; "
            f"{numbers.STAR} the interval excludes zero. One comparison at a time, not corrected for many."
        )
    gaps = [cell.difference for row in table.rows for cell in row.cells.values() if cell.difference is not None]
    if any(gap.n and gap.low is None for gap in gaps):
        lines.append(f"[{numbers.NONE}]: no interval, from one pair or from pairs that all differ by the same.")
    if table.metrics and not any(name.startswith("test/") for name in table.metrics):
        lines.append("Nothing was scored on a test split: these are validation scores.")
    if any(trial.status == "pruned" for trial in trials):
        lines.append("Pruned trials were stopped before the end and are in no mean.")
    if any((trial.stacked or 1) > 1 for trial in trials) and any(trial.seconds is not None for trial in trials):
        lines.append("Trials that trained together in one program share its seconds.")
    shares = {t.name: t.starved_seconds / t.seconds for t in trials if t.starved_seconds and t.seconds}
    hungriest = max(shares, key=shares.__getitem__, default=None)
    if hungriest is not None and shares[hungriest] >= STARVING:
        lines.append(
            f"The input starves the training: {hungriest} waited for batches in {shares[hungriest]:.0%} of its "
            "seconds; data.workers says how many processes read them, data.storage where they are kept."
        )
    return lines


def provenance(run: Run) -> list[tuple[str, str]]:
    """Where the numbers come from, as (label, value); labels whose value is unknown are left out."""
    counts = Counter(trial.status for trial in run.trials)
    ended = ", ".join(f"{counts[status]} {status}" for status in STATUSES if counts[status])
    seeds = ", ".join(map(str, run.seeds))
    if len(run.seeds) > 3 and run.seeds == tuple(range(run.seeds[0], run.seeds[-1] + 1)):
        seeds = f"{run.seeds[0]} to {run.seeds[-1]}"
    pairs = [
        ("experiment", run.experiment),
        ("sweep", run.sweep),
        ("command", run.command),
        ("commit", run.commit),
        ("config hash", run.hash),
        ("versions", ", ".join(f"{name} {version}" for name, version in run.versions.items())),
        ("protocol", "; ".join(f"{name}: {numbers.value(x)}" for name, x in run.protocol.items() if name != "seeds")),
        ("seeds", f"{seeds} (n = {len(run.seeds)})" if seeds else ""),
        ("trials", f"{len(run.trials)}: {ended}" if ended else "0"),
        ("date", run.date),
    ]
    return [(label, text) for label, text in pairs if text]


def summary_sentence(table: Table) -> str:
    """What a reader should take away: the best variant of the first run, and how far from the baseline."""
    if not table.metrics or not table.finished:
        return "No trial has finished yet."
    main = table.metrics[0]
    rows = [row for row in table.rows if main in row.cells and row.cells[main].summary.mean is not None]
    if not rows:
        return f"No finished trial has {main}."
    best = rows[0]
    for row in rows[1:]:
        if better(row.cells[main].summary.mean, best.cells[main].summary.mean, main):
            best = row
    score = f"{main} {numbers.measure(best.cells[main].summary)}"
    if len(table.rows) == 1 or (len(rows) == 1 and len(table.rows) > 1):
        others = [row for row in table.rows if row is not best]
        finished = any(row.counts.get("finished") for row in others)
        alone = f"; no other variant has {'it' if finished else 'finished a trial'}" if others else ""
        return f"{best.name}: {score}{alone}."
    if direction(main) is None:
        return f"{len(rows)} variants by {main}; its name does not say which way is better."
    ties = [row.name for row in rows if row.cells[main].summary.mean == best.cells[main].summary.mean]
    if len(ties) > 1:
        return f"{', '.join(ties[:-1])} and {ties[-1]} share the best {score}."
    gap = best.cells[main].difference
    if best.is_baseline:
        return f"The baseline, {best.name}, is best: {score}."
    if gap is None or gap.mean is None:
        return f"{best.name} is best: {score}."
    if gap.low is None:
        verdict = "one pair: no interval" if gap.n == 1 else "the same in every pair: no interval"
    elif gap.excludes_zero:
        verdict = f"the {CONFIDENCE:.0%} interval excludes zero"
    else:
        verdict = f"the {CONFIDENCE:.0%} interval includes zero"
    against = next(row.name for row in table.rows if row.run is best.run and row.is_baseline)
    against = "the baseline" if against == "baseline" else f"the baseline, {against}"
    shown = numbers.difference(gap).rstrip(numbers.STAR)
    return f"{best.name} is best: {score}; {shown} against {against} ({verdict})."


def arrow(metric: str) -> str:
    return {"up": " ↑", "down": " ↓", None: ""}[direction(metric)]


def _columns(table: Table) -> tuple[list[str], list[list[tuple[str, bool]]]]:
    """Headers, and for every row its texts with whether they are bold."""
    has_parameters = any(row.parameters is not None for row in table.rows)
    has_seconds = any(row.seconds is not None for row in table.rows)
    headers = ["variant"]
    for name in table.metrics:
        headers += [f"{name}{arrow(name)}"] + ([f"Δ {name}"] if table.compares else [])
    headers += ["parameters"] * has_parameters + ["seconds"] * has_seconds + ["trials"]
    lines = []
    for row in table.rows:
        tag = " (baseline)" if row.is_baseline and row.variant != "baseline" else ""
        line = [(f"{row.name}{tag}", False)]
        for name in table.metrics:
            cell = row.cells.get(name)
            line.append((numbers.measure(cell.summary) if cell else numbers.NONE, bool(cell and cell.best)))
            if table.compares:
                line.append((numbers.difference(cell.difference) if cell and cell.difference else numbers.NONE, False))
        if has_parameters:
            line.append((numbers.NONE if row.parameters is None else f"{row.parameters:,}", False))
        if has_seconds:
            line.append((numbers.plain(row.seconds), False))
        line.append((row.trials, False))
        lines.append(line)
    return headers, lines


# Markdown -----------------------------------------------------------------------------------------


def to_markdown(table: Table) -> str:
    """A pipe table, what its numbers are, and where they come from."""
    headers, lines = _columns(table)
    align = [":--"] + ["--:"] * (len(headers) - 2) + [":--"]
    rows = [
        [f"**{escape_markdown(text)}**" if bold else escape_markdown(text) for text, bold in line] for line in lines
    ]
    parts = [f"# {escape_markdown(title(table.runs))}", "", f"{escape_markdown(summary_sentence(table))}", ""]
    parts += [f"| {' | '.join(cells)} |" for cells in ([escape_markdown(header) for header in headers], align, *rows)]
    parts += [""] + [f"{escape_markdown(note)}  " for note in notes(table)]
    for run in table.runs:
        parts += ["", *([f"**{escape_markdown(run.label)}**", ""] if run.label else [])]
        parts += [f"- {label}: {_code(text)}" for label, text in provenance(run)]
    return "\n".join(parts) + "\n"


def title(runs: Sequence[Run]) -> str:
    """The experiments and their sweeps."""
    sweeps: dict[str, dict[str, None]] = {}
    for run in runs:
        sweeps.setdefault(run.experiment, {})[run.sweep] = None
    return "; ".join(f"{experiment}: {', '.join(names)}" for experiment, names in sweeps.items())


def escape_markdown(text: str) -> str:
    """`text` as it stands, in a table cell of GitHub's or CommonMark's Markdown."""
    return re.sub(r"([\\`*_{}\[\]<>|~$&#])", r"\\\1", " ".join(text.split()))


def _code(text: str) -> str:
    text = " ".join(text.split())
    fence = "`" * (max((len(ticks) for ticks in re.findall("`+", text)), default=0) + 1)
    return f"{fence} {text} {fence}" if "`" in text else f"`{text}`"


# LaTeX --------------------------------------------------------------------------------------------


def to_latex(table: Table) -> str:
    """A booktabs table to `\\input`; needs `\\usepackage{booktabs}` only.

    Differences stand in a smaller line under the means: in columns of their own they would be wider than a page.
    """
    headers, lines = _columns(table)
    under = [i for i, header in enumerate(headers) if header.startswith("Δ ")]
    columns = [i for i in range(len(headers)) if i not in under]
    rows = []
    for i, (row, line) in enumerate(zip(table.rows, lines, strict=True)):
        if i and row.run is not table.rows[i - 1].run:
            rows.append(r"\midrule")
        (*cells, (trials, _)) = (line[column] for column in columns)
        finished, _, others = trials.partition("; ")
        words = [rf"\textbf{{{escape_latex(text)}}}" if bold else escape_latex(text) for text, bold in cells]
        rows.append(" & ".join([*words, escape_latex(finished)]) + r" \\")
        gaps = {column - 1: line[column][0] for column in under if line[column][0] != numbers.NONE}
        if gaps or others:
            small = [r"\quad $\Delta$" if gaps else "", *(gaps.get(column, "") for column in columns[1:-1]), others]
            small = [small[0], *map(escape_latex, small[1:])]
            rows.append(" & ".join(rf"\scriptsize {text}" if text else "" for text in small) + r" \\")
    comments = [f"% {_comment(label)}: {_comment(text)}" for run in table.runs for label, text in provenance(run)]
    caption = f"{title(table.runs)}. {' '.join(notes(table))}"
    return "\n".join(
        [
            *comments,
            r"\begin{table}[t]",
            r"  \centering",
            rf"  \caption{{{escape_latex(caption)}}}",
            r"  \smallskip\footnotesize",
            r"  \setlength{\tabcolsep}{4pt}",
            rf"  \begin{{tabular}}{{@{{}}l{'r' * (len(columns) - 2)}l@{{}}}}",
            r"    \toprule",
            f"    {' & '.join(escape_latex(headers[column]) for column in columns)} \\\\",
            r"    \midrule",
            *(f"    {row}" for row in rows),
            r"    \bottomrule",
            r"  \end{tabular}",
            *(rf"  \par\smallskip {line}" for line in _latex_sources(table.runs)),
            r"\end{table}",
            "",
        ]
    )


_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
    "`": r"\textasciigrave{}",
    "±": r"$\pm$",
    "−": "$-$",
    "–": "--",
    "×": r"$\times$",
    "Δ": r"$\Delta$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "*": r"$^{*}$",
    "[": "{[}",  # a bracket after \\ would be read as its argument
    "]": "{]}",
} | {character: f"\\{character}" for character in "{}$&#_%"}

_SUPERSCRIPTS = "⁰¹²³⁴⁵⁶⁷⁸⁹⁻"


def escape_latex(text: str) -> str:
    """`text` as it stands, in LaTeX's text mode."""
    escaped = "".join(_LATEX.get(character, character) for character in " ".join(text.split()))
    plain = str.maketrans(_SUPERSCRIPTS, "0123456789-")
    return re.sub(f"[{_SUPERSCRIPTS}]+", lambda match: f"$^{{{match[0].translate(plain)}}}$", escaped)


def _latex_sources(runs: Sequence[Run]) -> list[str]:
    lines = []
    for run in runs:
        facts = dict(provenance(run))
        shown = [f"commit {run.short_commit}"] * bool(run.commit) + [f"config hash {run.hash[:12]}"] * bool(run.hash)
        shown += [f"{label} {facts[label]}" for label in ("seeds", "date") if label in facts]
        lines.append(escape_latex(f"{run.label + ': ' if run.label else ''}{'; '.join(shown)}."))
    return lines


def _comment(text: str) -> str:
    return " ".join(text.split())


# CSV ----------------------------------------------------------------------------------------------


def to_csv(table: Table) -> str:
    """Every number at full precision, one column each; empty where there is none."""
    header = ["run", "experiment", "sweep", "variant", "trials", *STATUSES]
    for name in table.metrics:
        header += [f"{name} {part}" for part in ("mean", "std", "n")]
        if table.compares:
            header += [f"{name} {part}" for part in ("difference", "low", "high", "pairs")]
    header += ["parameters", "seconds", "commit", "hash"]
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(header)
    for row in table.rows:
        line = [row.run.label, row.run.experiment, row.run.sweep, row.variant, sum(row.counts.values())]
        line += [row.counts.get(status, 0) for status in STATUSES]
        for name in table.metrics:
            cell = row.cells.get(name, Cell(Summary(None, None, 0)))
            line += [cell.summary.mean, cell.summary.std, cell.summary.n]
            if table.compares:
                gap = cell.difference
                line += [None] * 4 if gap is None else [gap.mean, gap.low, gap.high, gap.n]
        writer.writerow([*line, row.parameters, row.seconds, row.run.commit, row.run.hash])
    return file.getvalue()


# Terminal -----------------------------------------------------------------------------------------


def to_rich(table: Table, width: int = 80) -> rich.table.Table:
    """The table for a terminal `width` characters wide: variant, main metric and trials, then what still fits."""
    import rich.box
    import rich.table
    from rich.text import Text

    headers, lines = _columns(table)
    labels, _ = names.shortened([line[0][0] for line in lines], limit=32)
    lines = [[(labels[line[0][0]], False), *line[1:]] for line in lines]
    result = rich.table.Table(box=rich.box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    shown = _fitting(headers, lines, width)
    for i in shown:
        words = i in (0, len(headers) - 1)
        result.add_column(Text(headers[i]), justify="left" if words else "right", no_wrap=not words)
    for row, line in zip(table.rows, lines, strict=True):
        cells = [Text(line[i][0], style="bold" if line[i][1] else "") for i in shown]
        if row.counts.get("finished", 0) < sum(row.counts.values()):
            cells[-1].stylize("yellow")
        result.add_row(*cells)
    return result


def _fitting(headers: Sequence[str], lines: Sequence[Sequence[tuple[str, bool]]], width: int) -> list[int]:
    """Which columns a terminal has room for, most wanted first: a difference follows its metric, seconds come last."""
    last = len(headers) - 1
    later = {"parameters": 1, "seconds": 2}
    wanted = sorted(range(1, last), key=lambda i: (later.get(headers[i], 0), i))
    shown = {0, last}
    for i in [0, last, *wanted]:
        longest = max([len(headers[i]), *(len(line[i][0]) for line in lines)])
        if i in (0, last) or i == 1 or longest + 3 <= width:
            shown.add(i)
            width -= longest + 3
    return sorted(shown)
