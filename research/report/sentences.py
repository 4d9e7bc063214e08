"""The sentences of a report: its title, summary, notes below the table, and sources."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from research.console import counted
from research.report import numbers, selection
from research.report.importance import importance
from research.report.runs import STATUSES, RunResult
from research.report.statistics import CONFIDENCE
from research.report.table import Row, Table

STARVING = 0.1
"""The report warns if a trial spends more than this fraction of its seconds waiting for batches."""

NAMED = 3
"""The number of variants that a sentence names before it counts the others."""

SENTENCES = 6
"""The maximum number of sentences in the summary."""


def title(runs: Sequence[RunResult]) -> str:
    """The experiments and their sweeps."""
    sweeps: dict[str, dict[str, None]] = {}
    for run in runs:
        sweeps.setdefault(run.experiment, {})[run.sweep] = None
    return "; ".join(f"{experiment}: {', '.join(names)}" for experiment, names in sweeps.items())


def summary(table: Table) -> str:
    """The main result: the choice by a validation score, or the differences between variants and their baseline."""
    if not table.score or not table.finished:
        return "No trial has finished yet."
    said = [_side_by_side(table)] if len(table.groups) > 1 else []
    for group in table.groups:
        rows = table.of(group).rows
        choice = [row for row in rows if not row.run.compares]
        said += [_choice(table, choice)] if choice else []
        said += [_comparison(table, [row for row in rows if row.run is run]) for run in group if run.compares]
    said += _varied_data(table)
    shown = said[:SENTENCES]
    return " ".join(shown) + (" …" if len(said) > len(shown) else "")


def _side_by_side(table: Table) -> str:
    differing = selection.differing_data(table.runs)
    if differing:
        return f"Runs with different data ({differing}) are not ranked against each other."
    return "Runs with different metrics or data are not ranked against each other."


def _varied_data(table: Table) -> list[str]:
    """Warns about each run whose variants have different data."""
    said = []
    for run in table.runs:
        if differing := selection.varied_data(run):
            variants = f"Variants of {run.label}" if run.label else "Variants"
            said.append(f"{variants} differ in their data ({differing}): their scores may be of different examples.")
    return said


def _choice(table: Table, rows: Sequence[Row]) -> str:
    """The choice by validation score among variants without a baseline."""
    chooser, label = rows[0].criterion.chooser, _label(rows)
    score = next((row.criterion.score for row in rows if row.criterion.score), "")
    stated = [row for row in rows if row.mean(row.criterion.score) is not None]
    if not stated:
        return f"{label}No finished trial has {score}." if score else f"{label}No trial has finished yet."
    if len(rows) == 1 or len(stated) == 1:
        others = [row for row in rows if row is not stated[0]]
        finished = any(row.counts.get("finished") for row in others)
        alone = f"; no other variant has {'it' if finished else 'finished a trial'}" if others else ""
        return f"{stated[0].name}: {_stated(table, stated[0])}{alone}."
    if chooser is None:
        return f"{label}{len(stated)} variants by {score}; without a validation score, none is chosen."
    if rows[0].criterion.direction is None:
        return (
            f"{label}{len(stated)} variants by {chooser}; none is chosen, since the task declares no direction for it."
        )
    chosen = [row for row in rows if row.chosen]
    if not chosen:
        return f"{label}Fewer than two variants have {chooser}: none is chosen."
    best, score = _measured(table, chosen[0], chooser), chosen[0].criterion.score
    if len(chosen) == 1:
        beside = "" if score == chooser else f"; its {table.title(score)} is {_measured(table, chosen[0], score)}"
        return f"{chosen[0].name} is best by {table.title(chooser)}, {best}{beside}."
    beside = (
        "" if score == chooser else f"; {', '.join(f'{row.name}: {_stated(table, row)}' for row in chosen[:NAMED])}"
    )
    return f"{_listed([row.name for row in chosen])} share the best {table.title(chooser)}, {best}{beside}."


def _comparison(table: Table, rows: Sequence[Row]) -> str:
    """Describes how the variants of a run differ from its baseline; calls none the best by its test score."""
    score = rows[0].criterion.score
    baseline = next(row for row in rows if row.is_baseline)
    name = "the baseline" if baseline.variant == "baseline" else f"the baseline, {baseline.variant}"
    gaps = [(row, row.cells[score].difference) for row in rows if score in row.cells and row is not baseline]
    gaps = [(row, gap) for row, gap in gaps if gap is not None and gap.mean is not None]
    label = _label(rows)
    if baseline.mean(score) is None or not gaps:
        scored = [row for row in rows if score and row.mean(score) is not None]
        lost = "no finished trial" if baseline.mean(score) is None else "no finished counterpart"
        known = "; ".join(f"{row.variant}: {_stated(table, row)}" for row in scored[:NAMED])
        return f"{label}{known}{'; ' if known else ''}{name} has {lost}."
    clear = sorted((x for x in gaps if x[1].clear), key=lambda x: -abs(x[1].mean))
    words = {"max": ("better", "worse"), "min": ("worse", "better"), None: ("higher", "lower")}
    word, form = words[rows[0].run.direction(score)], table.form_of_differences(score)
    said = [
        f"{row.variant} is {word[gap.mean < 0]}, {numbers.difference(gap, form).rstrip(numbers.STAR)}"
        for row, gap in clear[:NAMED]
    ]
    if len(clear) > NAMED:
        said.append(f"{len(clear) - NAMED} more differ{'s' * (len(clear) == NAMED + 1)}")
    unclear = [row.variant for row, gap in gaps if not gap.clear and gap.low is not None]
    if unclear:
        corrected = table.choices.correction != "none"
        why = "not clear after the correction" if corrected else f"the {CONFIDENCE:.0%} interval includes zero"
        said.append(f"{_listed(unclear)}: {why}")
    single = [(row, gap) for row, gap in gaps if gap.low is None]
    if single:
        shown = [f"{row.variant} {numbers.difference(gap, form)}" for row, gap in single]
        said.append(f"{_listed(shown)}: no interval")
    return f"{label}Against {name} ({_stated(table, baseline)}): {'; '.join(said)}."


def _stated(table: Table, row: Row) -> str:
    score = row.criterion.score
    return f"{table.title(score)} {_measured(table, row, score)}"


def _measured(table: Table, row: Row, metric: str) -> str:
    text = numbers.measure(row.cells[metric].summary, table.form(metric))
    number, _, count = text.rpartition(" (")
    return f"{number} % ({count}" if table.choices.in_percent(metric) else text


def _label(rows: Sequence[Row]) -> str:
    run = rows[0].run
    return f"{run.label}: " if run.label and all(row.run is run for row in rows) else ""


def _listed(names: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`, `a, b, c and 4 more`."""
    shown = [*names[:NAMED], f"{len(names) - NAMED} more"] if len(names) > NAMED + 1 else list(names)
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def notes(table: Table) -> list[str]:
    """Notes that explain the numbers."""
    trials = [trial for run in table.runs for trial in run.trials]
    if not table.finished:
        lines = ["No trial has finished: there is nothing to average yet."]
    else:
        arrows = any(table.direction(metric) for metric in table.metrics)
        ways = "; ↑ higher is better, ↓ lower is better" if arrows else ""
        lines = [f"Mean ± sample standard deviation (n) over finished trials{ways}.", *_marks(table)]
    if any(table.compares(metric) for metric in table.metrics):
        paired = " and ".join(dict.fromkeys(path for run in table.runs for path in run.crossed))
        lines.append(
            f"Δ: mean difference to the baseline [{CONFIDENCE:.0%} t interval] (pairs), paired by {paired}; "
            f"{_meaning_of_stars(table)}"
        )
    cells = [row.cells[name] for row in table.rows for name in table.metrics if name in row.cells]
    gaps = [cell.difference for cell in cells if cell.difference is not None]
    if any(gap.n and gap.low is None for gap in gaps):
        lines.append(f"[{numbers.NONE}]: no interval, because of a single pair or identical differences.")
    if len(table.groups) > 1:
        lines.append(_side_by_side(table))
    lines += _varied_data(table)
    if table.score.startswith("validation/"):
        lines.append("No test split was scored; these are validation scores.")
    if any(trial.status == "pruned" for trial in trials):
        lines.append("Pruned trials did not train to the end and are not averaged.")
    if early := [trial.stopped_at_step for trial in trials if trial.stopped_at_step is not None]:
        steps = f"{min(early):,}" if min(early) == max(early) else f"{min(early):,} to {max(early):,}"
        lines.append(f"Early stopping ended {len(early)} of {counted(len(trials), 'trial')}, at step {steps}.")
    if any((trial.stacked or 1) > 1 for trial in trials) and any(trial.seconds is not None for trial in trials):
        lines.append("Trials that trained together in one program share the seconds of that program.")
    # With the data on the device, no batch travels: a device that is idle then waits for the loop on the host.
    fed = [trial for trial in trials if ": on the device" not in trial.storage]
    shares = {t.name: t.starved_seconds / t.seconds for t in fed if t.starved_seconds and t.seconds}
    hungriest = max(shares, key=shares.__getitem__, default=None)
    if hungriest is not None and shares[hungriest] >= STARVING:
        lines.append(
            f"Training waits for its input: {hungriest} waited for batches in {shares[hungriest]:.0%} of its seconds; "
            "try more data.workers, which read batches, or another data.storage."
        )
    return lines


def asides(table: Table) -> list[str]:
    """What a reader of the report may want to know, but not a reader of the paper."""
    left_out = [name for name in table.every if name not in table.metrics and not name.startswith("validation/")]
    lines = [*_pruned(table), *_importance(table)]
    if left_out:
        named = ", ".join(left_out[:NAMED]) + (" …" if len(left_out) > NAMED else "")
        lines.append(f"Not shown: {counted(len(left_out), 'metric')} in table.csv ({named}); --metrics chooses.")
    return lines


def _pruned(table: Table) -> list[str]:
    """How many variants were pruned, and with which validation scores."""
    if not table.pruned:
        return []
    chooser = next((row.criterion.chooser for row in table.rows if row.criterion.chooser), None)
    trials = [trial for row in table.pruned for trial in row.run.of(row.variant)]
    scores = [trial.metrics[chooser] for trial in trials if chooser in trial.metrics]
    ends = f", whose last {chooser} was {numbers.plain(min(scores))} to {numbers.plain(max(scores))}" if scores else ""
    return [f"Not shown: {counted(len(table.pruned), 'pruned variant')}{ends}; they are in table.csv."]


def _importance(table: Table) -> list[str]:
    """Which hyperparameters of a search matter."""
    lines = []
    for run in table.runs:
        criterion = next((row.criterion for row in table.rows if row.run is run), None)
        if run.compares or criterion is None or not criterion.chooses:
            continue
        shares = importance(run, criterion.chooser)
        if shares:
            named = ", ".join(f"{path} {share:.0%}" for path, share in shares.items())
            lines.append(
                f"{run.label + ': ' if run.label else ''}what {criterion.chooser} depends on, among the values tried: "
                f"{named} (permutation importance in a random forest)."
            )
    return lines


def _meaning_of_stars(table: Table) -> str:
    if table.choices.correction == "holm":
        count = max((len(run.variants) - 1 for run in table.runs if run.compares), default=0)
        return (
            f"{numbers.STAR} p < {1 - CONFIDENCE:.2g} in the paired t-test, corrected for "
            f"{counted(count, 'comparison')} by Holm's method; intervals are not corrected."
        )
    return f"{numbers.STAR} the interval excludes zero. Not corrected for multiple comparisons."


def _marks(table: Table) -> list[str]:
    """Notes that explain bold type."""
    lines = []
    choosers = dict.fromkeys(row.criterion.chooser for row in table.rows if row.chosen)
    if choosers:
        beside = any(row.criterion.score != row.criterion.chooser for row in table.rows if row.chosen)
        tested = "; test scores never choose" if beside else ""
        lines.append(f"Bold: the choice by {' and '.join(choosers)}{', and its score' if beside else ''}{tested}.")
    elif any(cell.best for row in table.rows for cell in row.cells.values()):
        lines.append("Bold: the best validation mean.")
    if any(run.compares for run in table.runs):
        lines.append("Variants are compared with the baseline; no test score chooses among them.")
    return lines


def provenance(run: RunResult) -> list[tuple[str, str]]:
    """The sources of the numbers as (label, value); unknown values are left out."""
    counts = Counter(trial.status for trial in run.trials)
    ended = ", ".join(f"{counts[status]} {status}" for status in STATUSES if counts[status])
    seeds = ", ".join(map(str, run.seeds))
    if len(run.seeds) > 3 and run.seeds == tuple(range(run.seeds[0], run.seeds[-1] + 1)):
        seeds = f"{run.seeds[0]} to {run.seeds[-1]}"
    minutes = sum((trial.seconds or 0) / (trial.stacked or 1) for trial in run.trials) / 60
    took = f"{numbers.plain(minutes)} minutes" if minutes < 120 else f"{numbers.plain(minutes / 60)} hours"
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
        ("compute", f"{took} of training" if minutes else ""),
        ("date", run.date),
    ]
    return [(label, text) for label, text in pairs if text]
