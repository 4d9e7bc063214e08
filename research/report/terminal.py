"""The table on the terminal, as wide as the terminal."""

from __future__ import annotations

import io
from collections.abc import Sequence

import rich.box
import rich.console
import rich.table
from rich.text import Text

from research.console import printable
from research.report import names
from research.report.table import CellText, Table, texts


def to_rich(table: Table, width: int = 80) -> rich.table.Table:
    """The table for a terminal of `width` characters: variant, main metric and trials, then other columns that fit."""
    headers, lines = texts(table)
    headers = [printable(header) for header in headers]
    labels, _ = names.shortened([line[0].text for line in lines], limit=32)
    lines = [[line[0]._replace(text=printable(labels[line[0].text])), *line[1:]] for line in lines]
    result = rich.table.Table(box=rich.box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    shown = _fitting(headers, lines, width)
    for i in shown:
        words = i in (0, len(headers) - 1)
        result.add_column(Text(headers[i]), justify="left" if words else "right", no_wrap=not words)
    for row, line in zip(table.rows, lines, strict=True):
        cells = [Text(line[i].text, style="bold" if line[i].bold else "") for i in shown]
        if row.counts.get("finished", 0) < sum(row.counts.values()):
            cells[-1].stylize("yellow")
        result.add_row(*cells)
    return result


def left_out(table: Table, width: int = 80) -> list[str]:
    """The columns that do not fit into `width`, by their headers."""
    headers, lines = texts(table)
    labels, _ = names.shortened([line[0].text for line in lines], limit=32)
    lines = [[line[0]._replace(text=printable(labels[line[0].text])), *line[1:]] for line in lines]
    shown = _fitting(headers, lines, width)
    return [header for i, header in enumerate(headers) if i not in shown]


def to_text(table: Table, width: int = 100) -> str:
    """The table as plain lines of at most `width` characters."""
    file = io.StringIO()
    rich.console.Console(file=file, width=width, color_system=None, force_jupyter=False).print(to_rich(table, width))
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines()) + "\n"


def _fitting(headers: Sequence[str], lines: Sequence[Sequence[CellText]], width: int) -> list[int]:
    """The columns that fit into `width`, in order of importance: a difference follows its metric, seconds come last."""
    last = len(headers) - 1
    later = {"parameters": 1, "seconds": 2}
    wanted = sorted(range(1, last), key=lambda i: (later.get(headers[i], 0), i))
    shown = {0, last}
    for i in [0, last, *wanted]:
        longest = max([len(headers[i]), *(len(line[i].text) for line in lines)])
        if i in (0, last) or i == 1 or longest + 3 <= width:
            shown.add(i)
            width -= longest + 3
    return sorted(shown)
