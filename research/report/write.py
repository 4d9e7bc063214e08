"""Writes the report of one or several runs as files, and prints its table on the terminal."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import rich.console
from etils import epath
from rich.padding import Padding
from rich.text import Text

from research.console import counted, printable, write_what_it_can
from research.errors import RequestError
from research.locations import location
from research.report import exhibits, figures, html, latex, markdown, sentences, table, terminal, trials
from research.report.choices import Choices
from research.report.read import read_runs
from research.report.table import Table
from research.whole_files import write_whole

PRINTED = 60
"""The maximum number of variants on the terminal, for each group of comparable runs."""


@dataclasses.dataclass(frozen=True)
class Report:
    """The paths of a written report."""

    table_md: epath.Path
    table_tex: epath.Path
    table_csv: epath.Path
    trials_csv: epath.Path
    hyperparameters_tex: epath.Path
    html: epath.Path
    figures: tuple[epath.Path, ...]


def report(
    dirs: Sequence[Any],
    out: Any | None = None,
    *,
    inside: bool = False,
    trust: bool = False,
    choices: Choices = Choices(),  # noqa: B008
) -> Report:
    """Writes table.md, table.tex, table.csv, trials.csv, hyperparameters.tex, report.html and the figures of runs.

    Args:
      dirs: folders written by `python -m launch run`.
      out: the output folder; by default `RUN/report` for a single run.  Figures of an earlier report there are
        replaced.
      inside: also load the best models and some of their examples, and draw the inside of the models (images only).
      trust: with `inside`, also run the code of files and modules outside of this project that the runs name.
      choices: the metrics, variants, names and numbers that an author wants.

    Raises:
      RequestError: a folder is not a run, there are several folders and no `out`, or a choice is of nothing.
      OSError: the report cannot be written.
    """
    return write_report(read_table(dirs, choices), out, inside=inside, trust=trust)


def read_table(dirs: Sequence[Any], choices: Choices = Choices()) -> Table:  # noqa: B008
    """Reads the table of one or several runs.

    Raises:
      RequestError: a folder is not a run, or a choice is of nothing.
    """
    return table.build(read_runs(dirs), choices)


def write_report(rows: Table, out: Any | None = None, *, inside: bool = False, trust: bool = False) -> Report:
    """Writes the report of a table; arguments and errors are those of `report`."""
    runs = rows.runs
    if out is None and len(runs) > 1:
        raise RequestError(f"{len(runs)} runs side by side: expected --out DIR, the folder to write their report into")
    out = epath.Path(runs[0].folder) / "report" if out is None else location(out, "--out ")
    pictures, shown = figures.pictures(rows), exhibits.draw(rows)
    within, remarks = figures.inside_pictures(rows, trust=trust) if inside else ([], [])

    out.mkdir(parents=True, exist_ok=True)
    texts = {
        "table.md": markdown.to_markdown(rows),
        "table.tex": latex.to_latex(rows),
        "table.csv": table.to_csv(rows),
        "trials.csv": trials.to_csv(rows.runs),
        "hyperparameters.tex": latex.hyperparameters_to_latex(rows.runs),
        "report.html": html.to_html(rows, pictures, shown, within, remarks),
    }
    for name, text in texts.items():
        write_whole(out / name, text)
    pictures = [*pictures, *(picture for section in shown for picture in section.pictures), *within]
    for picture in pictures:
        for kind in rows.choices.figures:
            drawn = getattr(picture, kind)()
            write_whole(out / f"{picture.name}.{kind}", drawn.encode() if isinstance(drawn, str) else drawn)
    made = [f"{picture.name}.{kind}" for picture in pictures for kind in rows.choices.figures]
    for old in out.iterdir():
        if figures.is_figure(old.name) and old.name not in made:
            old.unlink()
    return Report(*(out / name for name in texts), figures=tuple(out / name for name in made))


def left_out_of(rows: Table) -> str:
    """The number of variants that a table of at most `PRINTED` leaves out, as a line; empty if there are none."""
    left_out = len(rows.rows) - len(rows.shortened(PRINTED).rows)
    return f"and {counted(left_out, 'more variant')}, which are in table.csv" if left_out else ""


def print_table(rows: Table, console: rich.console.Console | None = None) -> None:
    """Prints a table and its main result on the terminal: the baselines and the best variants, if they are many."""
    if console is None:
        console = rich.console.Console()
        if not console.is_terminal:  # logs and pipes do not wrap lines
            console.width = 160
    write_what_it_can(console.file)
    shown, left_out = rows.shortened(PRINTED), left_out_of(rows)
    console.print(Padding(terminal.to_rich(shown, console.width), (1, 0, 1, 0)))
    said = [left_out] if left_out else []
    if columns := terminal.left_out(shown, console.width):
        said.append(f"columns that do not fit here: {', '.join(columns)}")
    said += sentences.asides(rows)
    if said:
        console.print(Text(printable("\n".join(said)) + "\n"))
    console.print(Text(printable(sentences.summary(rows))))
