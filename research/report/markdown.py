"""The table as Markdown: a pipe table, notes on its numbers, and their sources."""

from __future__ import annotations

import re

from research.report import sentences
from research.report.table import Table, texts


def to_markdown(table: Table) -> str:
    """Renders a pipe table, notes on its numbers, and their sources."""
    headers, lines = texts(table)
    align = [":--"] + ["--:"] * (len(headers) - 2) + [":--"]
    rows = [
        [f"**{escape_markdown(text)}**" if bold else escape_markdown(text) for text, bold in line] for line in lines
    ]
    parts = [
        f"# {escape_markdown(sentences.title(table.runs))}",
        "",
        escape_markdown(sentences.summary(table)),
        "",
    ]
    parts += [f"| {' | '.join(cells)} |" for cells in ([escape_markdown(header) for header in headers], align, *rows)]
    parts += [""] + [f"{escape_markdown(note)}  " for note in (*sentences.notes(table), *sentences.asides(table))]
    for run in table.runs:
        parts += ["", *([f"**{escape_markdown(run.label)}**", ""] if run.label else [])]
        parts += [f"- {label}: {_code(text)}" for label, text in sentences.provenance(run)]
    return "\n".join(parts) + "\n"


def escape_markdown(text: str) -> str:
    """Escapes `text` for a table cell of GitHub's or CommonMark's Markdown."""
    return re.sub(r"([\\`*_{}\[\]<>|~$&#])", r"\\\1", " ".join(text.split()))


def _code(text: str) -> str:
    text = " ".join(text.split())
    fence = "`" * (max((len(ticks) for ticks in re.findall("`+", text)), default=0) + 1)
    return f"{fence} {text} {fence}" if "`" in text else f"`{text}`"
