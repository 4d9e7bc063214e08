"""`launch report`, and the end of `launch run`: writes the report, then prints its table and path."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

from research.console import say
from research.errors import one_line
from research.locations import location
from research.report import Choices, print_table, read_table, write_report
from research.report.record import to_record
from research.whole_files import write_whole


def report(
    dirs: Sequence[Any],
    out: Any | None = None,
    *,
    inside: bool = False,
    trust: bool = False,
    choices: Choices = Choices(),  # noqa: B008
    record: str | None = None,
) -> int:
    """Writes the report of runs (arguments of `research.report.report`), and prints its table and then its path.

    Returns the exit status: 2 if the report cannot be written, with one line that says why.

    Raises:
      RequestError: a folder is not a run, there are several folders and no `out`, or a choice is of nothing.
    """
    table, problem = read_table(dirs, choices), None
    try:
        made = write_report(table, out, inside=inside, trust=trust)
        if record is not None:
            text = json.dumps(to_record(table), indent=1, ensure_ascii=False)
            write_whole(location(record, "--record "), f"{text}\n")
    except OSError as error:
        problem = error
    print_table(table)
    if problem is not None:
        again = f"python -m launch report {' '.join(map(str, dirs))} --out DIR"
        say(f"the report cannot be written: {one_line(problem)}; choose another place: {again}", sys.stderr)
        return 2
    say(str(made.html))
    return 0
