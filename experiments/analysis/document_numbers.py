"""Writes the tables of the documents from the records in experiments/results/, so that no number is typed.

    python -m launch report runs/cora_gnn/models --record experiments/results/cora_gnn.json
    python -m experiments.analysis.document_numbers             rewrites the tables in RESULTS.md, README.md and docs/
    python -m experiments.analysis.document_numbers --check     says which tables differ from their records

A table stands between two comments; the first names the record, and if need be metrics:

    <!-- numbers: cora_gnn.json test/accuracy -->
    <!-- end of numbers -->
"""

from __future__ import annotations

import argparse
import json
import pathlib
import re

from research.errors import RequestError, command, prefixed
from research.report.record import to_table

ROOT = pathlib.Path(__file__).parents[2]
RECORDS = ROOT / "experiments" / "results"
BLOCK = re.compile(r"(<!-- numbers: (\S+)((?: \S+)*) -->\n).*?(<!-- end of numbers -->)", re.DOTALL)


def documents() -> list[pathlib.Path]:
    """The documents that may have tables of numbers."""
    return [ROOT / "README.md", ROOT / "experiments" / "RESULTS.md", *sorted((ROOT / "docs").glob("*.md"))]


def written(text: str, records: pathlib.Path = RECORDS) -> str:
    """A document with its tables as the records have them.

    Raises:
      RequestError: a record is missing, or has no such metric.
    """

    def table(found: re.Match[str]) -> str:
        begin, name, metrics, end = found.groups()
        with prefixed(f"{name}: "):
            try:
                record = json.loads((records / name).read_text())
            except (OSError, ValueError) as error:
                raise RequestError(f"no readable record: {error}") from None
            return f"{begin}{to_table(record, tuple(metrics.split()))}\n{end}"

    return BLOCK.sub(table, text)


@command
def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a table differs")
    check, differing = parser.parse_args().check, []
    for path in documents():
        before = path.read_text()
        after = written(before)
        if after != before:
            differing.append(path.relative_to(ROOT))
            if not check:
                path.write_text(after)
    for path in differing:
        print(f"{path}: {'differs from its records' if check else 'written'}")
    return int(check and bool(differing))


if __name__ == "__main__":
    raise SystemExit(main())
