"""The report as one page that opens offline, prints well, and follows the reader's light or dark theme."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from html import escape

from research.console import counted
from research.report import numbers, sentences
from research.report.exhibits import Section
from research.report.figures import Picture
from research.report.hyperparameters import hyperparameters
from research.report.runs import RunResult, TrialResult
from research.report.table import Row, Table

PIXELS_PER_INCH = 108  # of a figure on the screen; its 8-point letters are 12 pixels high

_CSS = """
:root {
  color-scheme: light dark;
  --paper: #ffffff; --ink: #1d1f23; --muted: #676c75; --line: #dfe2e7;
  --best: #0b6b4f; --finished: #0b7a5a; --diverged: #b4540a; --failed: #b3261e; --other: #7a7f88;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #15171a; --ink: #e7e9ec; --muted: #9aa0a9; --line: #31353b;
    --best: #6fd3ad; --finished: #58c49b; --diverged: #f0a35e; --failed: #f28b82; --other: #9aa0a9;
  }
  .plots .card { background: #1a1a1a; }
  .plots img { filter: invert(0.9) hue-rotate(180deg); }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--paper); color: var(--ink);
  font: 15px/1.55 system-ui, -apple-system, "Segoe UI", "Helvetica Neue", "Noto Sans", "Liberation Sans", Arial,
    sans-serif;
}
main { max-width: 1140px; margin: 0 auto; padding: 44px 28px 72px; }
h1 { font-size: 26px; line-height: 1.2; margin: 0 0 4px; letter-spacing: -0.01em; overflow-wrap: anywhere; }
h2 { font-size: 17px; margin: 44px 0 12px; }
h3 { font-size: 15px; margin: 20px 0 8px; }
.where { color: var(--muted); margin: 0 0 20px; overflow-wrap: anywhere; }
.summary {
  font-size: 18px; line-height: 1.45; margin: 0 0 28px; padding-left: 14px; border-left: 3px solid var(--best);
}
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 14px; font-variant-numeric: tabular-nums; }
table.scores { width: 100%; border-top: 1.5px solid var(--ink); border-bottom: 1.5px solid var(--ink); }
th, td { text-align: left; vertical-align: top; padding: 7px 13px 7px 0; }
th:last-child, td:last-child { padding-right: 0; }
thead th { font-weight: 600; border-bottom: 1px solid var(--ink); vertical-align: bottom; }
thead th.number { white-space: normal; }
tbody tr + tr > * { border-top: 1px solid var(--line); }
tbody tr.remark > * { border-top: 0; padding-top: 0; }
tbody th:not(.best) { font-weight: 500; }
tbody th { overflow-wrap: break-word; min-width: 7em; max-width: 22em; }
tbody tr.run th { padding-top: 18px; font-weight: 700; }
.wide tbody tr:not(.run) th:first-child, .wide thead th:first-child {
  position: sticky; left: 0; background: var(--paper);
}
.number { text-align: right; white-space: nowrap; }
.best { font-weight: 700; color: var(--best); }
.small { display: block; font-size: 12px; color: var(--muted); font-weight: 400; }
.number .small { white-space: nowrap; }
.small.clear { color: var(--ink); }
.small.lost { color: var(--diverged); white-space: nowrap; }
.notes { color: var(--muted); font-size: 13px; margin: 10px 0 0; }
.notes p { margin: 0 0 3px; }
.figures { display: flex; flex-wrap: wrap; gap: 32px 28px; align-items: flex-start; }
figure { margin: 0; max-width: 100%; break-inside: avoid; }
figure .card { padding: 12px; background: #ffffff; border: 1px solid var(--line); border-radius: 6px; }
figure img { display: block; width: 100%; height: auto; }
figcaption { color: var(--muted); font-size: 13px; line-height: 1.45; margin-top: 8px; }
figure.texts { width: 100%; }
table.texts { width: 100%; font-size: 13px; }
table.texts td { width: 33%; overflow-wrap: anywhere; }
mark { background: none; color: var(--failed); text-decoration: underline dotted; }
code, .mono {
  font: 13px/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; overflow-wrap: anywhere;
}
details { border: 1px solid var(--line); border-radius: 6px; padding: 10px 16px; }
details + details { margin-top: 10px; }
summary { cursor: pointer; font-weight: 600; }
details table { margin-top: 10px; width: 100%; font-size: 13px; }
.status::before {
  content: ""; display: inline-block; width: 8px; height: 8px; border-radius: 50%; margin-right: 7px;
  background: var(--other);
}
.status.finished::before { background: var(--finished); }
.status.diverged::before { background: var(--diverged); }
.status.failed::before, .status.unreadable::before { background: var(--failed); }
.error { color: var(--failed); overflow-wrap: anywhere; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 4px 20px; margin: 0; font-size: 14px; }
dt { color: var(--muted); }
dd { margin: 0; overflow-wrap: anywhere; }
@media print {
  :root { --paper: #ffffff; --ink: #000000; --muted: #444444; --line: #cccccc; --best: #000000; }
  body { font-size: 11px; }
  main { max-width: none; padding: 0; }
  table, details table { font-size: 9.5px; }
  th, td { padding: 4px 10px 4px 0; }
  .summary { font-size: 14px; }
  dl { font-size: 10px; }
  .small, .notes, figcaption, figure.texts, code, .mono { font-size: 8.5px; }
  .wide { overflow: visible; }
  .figures { gap: 18px 2%; }
  figure { max-width: 49%; }
  tbody th { min-width: 0; }
  h2 { break-after: avoid; }
  tr { break-inside: avoid; }
  figure .card { border: 0; padding: 0; }
}
"""


def to_html(
    table: Table,
    pictures: Sequence[Picture],
    exhibits: Sequence[Section] = (),
    inside: Sequence[Picture] = (),
    remarks: Sequence[str] = (),
) -> str:
    """Renders the whole report as one file, without scripts, fonts, pictures or styles from elsewhere.

    Args:
      inside: figures of the inside of models.
      remarks: reasons why some runs have no such figures.
    """
    title = sentences.title(table.runs)
    several = len(table.runs) > 1
    heading = title if several else table.runs[0].experiment
    notes = [*sentences.notes(table), *sentences.asides(table)]
    where = f"{len(table.runs)} runs side by side" if several else _where(table.runs[0])
    body = [
        f"<h1>{escape(heading)}</h1>",
        f'<p class="where">{escape(where)}</p>',
        f'<p class="summary">{escape(sentences.summary(table))}</p>',
        _scores(table),
        f'<div class="notes">{"".join(f"<p>{escape(note)}</p>" for note in notes)}</div>',
    ]
    if pictures:
        body += ["<h2>Figures</h2>", '<div class="figures plots">', *map(_figure, pictures), "</div>"]
    if exhibits:
        body += ["<h2>Exhibits</h2>", *map(_exhibits, exhibits)]
    if inside or remarks:
        body += ["<h2>Inside the models</h2>", '<div class="figures">', *map(_figure, inside), "</div>"]
        body += [f'<div class="notes">{"".join(f"<p>{escape(remark)}</p>" for remark in remarks)}</div>']
    body += ["<h2>What the variants change</h2>", *(_configurations(run) for run in table.runs)]
    body += ["<h2>Hyperparameters</h2>", *map(_hyperparameters, table.runs)]
    body += ["<h2>Trials</h2>", *(_trials(run, table.metrics) for run in table.runs)]
    body += ["<h2>Where the numbers come from</h2>", *(_provenance(run) for run in table.runs)]
    lines = "\n".join(body)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_CSS}</style>\n</head>\n<body>\n<main>\n{lines}\n</main>\n</body>\n</html>\n"
    )


_FRAGMENT_CSS = """
.espalier .where, .espalier .notes { opacity: 0.7; margin: 0 0 8px; }
.espalier .summary { border-left: 3px solid #0b8a63; padding-left: 10px; margin: 0 0 10px; }
.espalier .wide { overflow-x: auto; }
.espalier table.scores { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; }
.espalier table.scores :is(th, td) { text-align: left; vertical-align: top; padding: 4px 14px 4px 0; }
.espalier table.scores thead th { border-bottom: 1px solid currentColor; vertical-align: bottom; }
.espalier table.scores :is(th, td).number { text-align: right; white-space: nowrap; }
.espalier .best { font-weight: 700; color: #0b8a63; }
.espalier .small { display: block; font-size: 12px; font-weight: 400; opacity: 0.7; }
.espalier .small.clear { opacity: 1; }
.espalier .small.lost { color: #c2610c; opacity: 1; }
.espalier .notes { font-size: 12px; margin: 8px 0 0; }
.espalier .notes p { margin: 0; }
"""


def to_fragment(table: Table) -> str:
    """The scores as a part of a page, such as the output of a notebook: summary, table and notes."""
    run = table.runs[0]
    body = [
        f"<style>{_FRAGMENT_CSS}</style>",
        f'<p class="where"><b>{escape(run.experiment)}</b> · {escape(_where(run))} · {escape(run.folder)}</p>',
        f'<p class="summary">{escape(sentences.summary(table))}</p>',
        _scores(table),
        f'<div class="notes">{"".join(f"<p>{escape(note)}</p>" for note in sentences.notes(table))}</div>',
    ]
    return _tag("div", "\n".join(body), "espalier")


def _where(run: RunResult) -> str:
    said = [f"sweep {run.sweep}" if run.sweep != "base" else "without a sweep"]
    said += [f"{len(run.trials):,} trial{'s' * (len(run.trials) != 1)}"]
    said += [f"commit {run.short_commit}"] * bool(run.commit) + [run.date] * bool(run.date)
    return " · ".join(said)


# The table ----------------------------------------------------------------------------------------


def _scores(table: Table) -> str:
    has_parameters = any(row.parameters is not None for row in table.rows)
    has_seconds = any(row.seconds is not None for row in table.rows)
    heads = [_tag("th", "variant")]
    for name in table.metrics:
        below = _tag("span", "Δ to the baseline", "small") if table.compares(name) else ""
        title = _breakable(table.title(name) + table.unit(name)) + table.arrow(name).replace(" ", "&nbsp;")
        heads.append(_tag("th", title + below, "number"))
    heads += [_tag("th", "parameters", "number")] * has_parameters
    heads += [_tag("th", "seconds", "number")] * has_seconds
    heads += [_tag("th", "finished")]
    lines, label = [], ""
    for row in table.rows:
        if row.run.label != label:
            label = row.run.label
            lines.append(f'<tr class="run"><th colspan="{len(heads)}">{escape(label)}</th></tr>')
        lines.append(_row(row, table, has_parameters, has_seconds))
    return _tag("div", _table(heads, lines, "scores"), "wide")


def _row(row: Row, table: Table, has_parameters: bool, has_seconds: bool) -> str:
    below = _tag("span", "baseline", "small") if row.is_baseline and row.variant != "baseline" else ""
    cells = [_tag("th", _breakable(row.variant) + below, "best" if row.chosen else "")]
    cells += [_cell(row, name, table) for name in table.metrics]
    if has_parameters:
        cells.append(_tag("td", numbers.NONE if row.parameters is None else f"{row.parameters:,}", "number"))
    if has_seconds:
        cells.append(_tag("td", numbers.plain(row.seconds), "number"))
    finished, *others = re.split("[;,] ", row.trials)
    cells.append(_tag("td", finished + "".join(_tag("span", other, "small lost") for other in others)))
    return _tag("tr", "".join(cells))


def _cell(row: Row, metric: str, table: Table) -> str:
    cell = row.cells.get(metric)
    if cell is None:
        return _tag("td", numbers.NONE, "number")
    below = ""
    if cell.difference is not None:
        clear = "small clear" if cell.difference.clear else "small"
        below = _tag("span", numbers.difference(cell.difference, table.form_of_differences(metric)), clear)
    measured = numbers.measure(cell.summary, table.form(metric))
    return _tag("td", _tag("span", measured, "best" if row.bold(metric) else "") + below, "number")


def _figure(picture: Picture) -> str:
    """Shows every figure at the same scale, so that letters have the same size everywhere."""
    svg = picture.svg()
    points = re.search(r'<svg [^>]*?width="([\d.]+)pt"', svg)
    width = f' style="width: {float(points[1]) / 72 * PIXELS_PER_INCH + 26:.0f}px"' if points else ""
    caption = escape(picture.caption)
    image = f'<img alt="{caption}" src="data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}">'
    return f"<figure{width}>{_tag('div', image, 'card')}{_tag('figcaption', caption)}</figure>"


def _exhibits(section: Section) -> str:
    shown = "".join([*map(_figure, section.pictures), *section.tables])
    notes = "".join(f"<p>{escape(remark)}</p>" for remark in section.remarks)
    return _tag("h3", escape(section.title)) + _tag("div", shown, "figures") + _tag("div", notes, "notes")


# What was asked, trial by trial -------------------------------------------------------------------


def _configurations(run: RunResult) -> str:
    """Lists the overrides of each variant, except those that all variants share."""
    paths = run.varied
    lines = []
    for variant in run.variants:
        overrides = run.of(variant)[0].overrides
        changes = [escape(f"{path} = {numbers.value(overrides[path])}") for path in paths if path in overrides]
        nothing = _tag("span", "nothing: the experiment as defined", "small")
        lines.append(_tag("tr", _tag("th", escape(variant)) + _tag("td", "<br>".join(changes) or nothing, "mono")))
    table = _table([_tag("th", "variant"), _tag("th", "overrides")], lines)
    if len(lines) <= 12 and not run.label:
        return _tag("div", table, "wide")
    name = f"{run.label}: " if run.label else ""
    return _tag("details", _tag("summary", escape(f"{name}{counted(len(lines), 'variant')}")) + table)


def _hyperparameters(run: RunResult) -> str:
    """Every setting of the baseline, or of the first variant."""
    settings = hyperparameters(run)
    lines = [_tag("tr", _tag("th", escape(path)) + _tag("td", escape(value), "mono")) for path, value in settings]
    whose = run.baseline if run.compares else next(iter(run.variants), "")
    name = f"{run.label}: " if run.label else ""
    return _tag(
        "details", _tag("summary", escape(f"{name}{whose}: {counted(len(lines), 'setting')}")) + _table([], lines)
    )


def _trials(run: RunResult, metrics: Sequence[str]) -> str:
    shown = [name for name in metrics if any(name in trial.metrics for trial in run.trials)][:4]
    words = ["trial", "status", "config hash"]
    names = ["trial", "seed", "status", *shown, "steps", "seconds", "steps/s", "together", "config hash"]
    heads = [_tag("th", escape(name), "" if name in words else "number") for name in names]
    table = _table(heads, [_trial(trial, shown, len(heads)) for trial in run.trials])
    name = f"{run.label}: " if run.label else ""
    said = escape(name + dict(sentences.provenance(run))["trials"])
    lost = any(trial.status not in ("finished", "pruned") for trial in run.trials)
    opened = " open" if lost and len(run.trials) <= 40 else ""
    return f"<details{opened}>{_tag('summary', said)}{_tag('div', table, 'wide')}</details>"


def _trial(trial: TrialResult, metrics: Sequence[str], columns: int) -> str:
    status = trial.status
    if trial.pruned_at_step is not None:
        status = f"pruned at step {trial.pruned_at_step:,}"
    elif trial.stopped_at_step is not None:
        status = f"{status}, stopped early at step {trial.stopped_at_step:,}"
    cells = [
        _tag("th", escape(trial.name)),
        _tag("td", _whole(trial.seed), "number"),
        _tag("td", _tag("span", escape(status), f"status {trial.status}")),
        *(_tag("td", numbers.plain(trial.metrics.get(name), 4), "number") for name in metrics),
        _tag("td", _whole(trial.steps), "number"),
        _tag("td", numbers.plain(trial.seconds), "number"),
        _tag("td", numbers.plain(trial.steps_per_second) + _utilization(trial), "number"),
        _tag("td", _whole(trial.stacked), "number"),
        _tag("td", escape(trial.hash[:12]), "mono"),
    ]
    remarks = [trial.error] if trial.error else []
    if trial.cut_lines:
        remarks.append(f"metrics.jsonl: {trial.cut_lines} line{'s' * (trial.cut_lines > 1)} cut off, skipped")
    tone = "small" if trial.status in ("finished", "pruned", "missing") else "error"
    said = escape("; ".join(remarks))
    remark = f'<tr class="remark"><td colspan="{columns}"><span class="{tone}">{said}</span></td></tr>'
    return _tag("tr", "".join(cells)) + (remark if remarks else "")


def _breakable(text: str) -> str:
    """`text` as HTML whose lines may break after a slash, a comma or an underscore."""
    return re.sub("([/,_])", r"\1<wbr>", escape(text))


def _utilization(trial: TrialResult) -> str:
    return "" if trial.mfu is None else f" (MFU {trial.mfu:.1%})"


def _whole(x: int | None) -> str:
    return numbers.NONE if x is None else f"{x:,}"


def _provenance(run: RunResult) -> str:
    lines = []
    for label, text in sentences.provenance(run):
        code = label in ("command", "commit", "config hash")
        lines.append(_tag("dt", label) + _tag("dd", _tag("code", escape(text)) if code else escape(text)))
    return (_tag("h3", escape(run.label)) if run.label else "") + _tag("dl", "".join(lines))


def _tag(name: str, inside: str, class_: str = "") -> str:
    """An HTML element; `inside` must be HTML."""
    return f'<{name} class="{class_}">{inside}</{name}>' if class_ else f"<{name}>{inside}</{name}>"


def _table(heads: Sequence[str], lines: Sequence[str], class_: str = "") -> str:
    body = "\n".join(lines)
    return _tag("table", f"<thead>{_tag('tr', ''.join(heads))}</thead>\n<tbody>\n{body}\n</tbody>", class_)
