"""The report of one run, or of several side by side: as files, and as a table on the terminal."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import rich.console
from etils import epath
from rich.padding import Padding
from rich.text import Text

from research.errors import RequestError
from research.report import figures, html, table
from research.report.read import read_runs


@dataclasses.dataclass(frozen=True)
class Report:
    """Where the parts of a report were written."""

    table_md: epath.Path
    table_tex: epath.Path
    table_csv: epath.Path
    html: epath.Path
    figures: tuple[epath.Path, ...]


def report(dirs: Sequence[Any], out: Any | None = None, *, inside: bool = False) -> Report:
    """Writes table.md, table.tex, table.csv, report.html and the figures of one run, or of several side by side.

    Args:
      dirs: folders that `python -m launch run` wrote.
      out: where to write; `RUN/report` if there is one run.  Figures of an earlier report there are replaced.
      inside: also load the best models, and some examples of their data, and draw what is inside (images only).

    Raises:
      RequestError: a folder is not a run, or there are several and no `out`.
    """
    runs = read_runs(dirs)
    if out is None and len(runs) > 1:
        raise RequestError(f"{len(runs)} runs side by side: expected --out DIR, the folder to write their report into")
    out = epath.Path(runs[0].folder) / "report" if out is None else epath.Path(out)
    rows = table.build(runs)
    pictures = figures.pictures(rows)
    within, remarks = figures.inside_pictures(rows) if inside else ([], [])

    out.mkdir(parents=True, exist_ok=True)
    for old in out.iterdir():
        if figures.is_figure(old.name):
            old.unlink()
    texts = {
        "table.md": table.to_markdown(rows),
        "table.tex": table.to_latex(rows),
        "table.csv": table.to_csv(rows),
        "report.html": html.to_html(rows, pictures, within, remarks),
    }
    for name, text in texts.items():
        (out / name).write_text(text)
    pictures = [*pictures, *within]
    for picture in pictures:
        (out / f"{picture.name}.png").write_bytes(picture.png())
    return Report(*(out / name for name in texts), figures=tuple(out / f"{picture.name}.png" for picture in pictures))


def terminal_table(
    dirs: Sequence[Any], *, html: Any | None = None, console: rich.console.Console | None = None
) -> None:
    """Prints the table of `dirs` on the terminal, then the sentence to take away and the path of report.html if given.

    Raises:
      RequestError: a folder is not a run.
    """
    if console is None:
        console = rich.console.Console()
        if not console.is_terminal:  # a log or a pipe wraps nothing
            console.width = 160
    rows = table.build(read_runs(dirs))
    console.print(Padding(table.to_rich(rows, console.width), (1, 0, 1, 0)))
    console.print(Text(table.summary_sentence(rows)))
    if html is not None:
        console.print(Text(str(html)), soft_wrap=True)
