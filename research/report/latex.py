"""The table as LaTeX, for a paper."""

from __future__ import annotations

import re
from collections.abc import Sequence

from research.report import numbers
from research.report.hyperparameters import hyperparameters
from research.report.runs import RunResult
from research.report.sentences import notes, provenance, title
from research.report.table import Table, texts


def to_latex(table: Table) -> str:
    r"""A booktabs table to `\input`; needs only `\usepackage{booktabs}`.

    Differences stand in a smaller line below the means, since separate columns would be wider than a page.
    """
    headers, lines = texts(table)
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


def hyperparameters_to_latex(runs: Sequence[RunResult]) -> str:
    r"""A booktabs table of every setting of each run's baseline, or first variant, for an appendix."""
    parts = []
    for run in runs:
        lines = [rf"    {_code(path)} & {_code(value)} \\" for path, value in hyperparameters(run)]
        whose = run.baseline if run.compares else next(iter(run.variants), "")
        caption = escape_latex(f"Settings of {run.label + '/' if run.label else ''}{whose} ({run.experiment}).")
        parts += [
            r"\begin{table}[t]",
            r"  \centering",
            rf"  \caption{{{caption}}}",
            r"  \smallskip\scriptsize",
            r"  \begin{tabular}{@{}ll@{}}",
            r"    \toprule",
            *lines,
            r"    \bottomrule",
            r"  \end{tabular}",
            r"\end{table}",
            "",
        ]
    return "\n".join(parts)


def _code(text: str) -> str:
    return rf"\texttt{{{escape_latex(text)}}}"


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
    "[": "{[}",  # LaTeX would read a bracket after \\ as its argument
    "]": "{]}",
} | {character: f"\\{character}" for character in "{}$&#_%"}

_SUPERSCRIPTS = "⁰¹²³⁴⁵⁶⁷⁸⁹⁻"


def escape_latex(text: str) -> str:
    """Escapes `text` for LaTeX's text mode."""
    escaped = "".join(_LATEX.get(character, character) for character in " ".join(text.split()))
    plain = str.maketrans(_SUPERSCRIPTS, "0123456789-")
    return re.sub(f"[{_SUPERSCRIPTS}]+", lambda match: f"$^{{{match[0].translate(plain)}}}$", escaped)


def _latex_sources(runs: Sequence[RunResult]) -> list[str]:
    lines = []
    for run in runs:
        facts = dict(provenance(run))
        shown = [f"commit {run.short_commit}"] * bool(run.commit) + [f"config hash {run.hash[:12]}"] * bool(run.hash)
        shown += [f"{label} {facts[label]}" for label in ("seeds", "date") if label in facts]
        lines.append(escape_latex(f"{run.label + ': ' if run.label else ''}{'; '.join(shown)}."))
    return lines


def _comment(text: str) -> str:
    return " ".join(text.split())
