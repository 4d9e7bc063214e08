"""The exhibits in a report: those of the most important variants, at the newest step and a few earlier ones."""

from __future__ import annotations

import dataclasses
import difflib
from collections import Counter
from collections.abc import Sequence
from html import escape

import numpy as np
from etils import epath

from research.console import counted
from research.errors import RequestError
from research.evaluation.exhibit_files import Saved, read_exhibits
from research.evaluation.exhibits import Exhibit, TextPairs
from research.report import exhibit_figures, style
from research.report.figures import Picture, file_name
from research.report.runs import TrialResult
from research.report.statistics import that_count
from research.report.table import Row, Table, ranked

VARIANTS = 4  # per run
STEPS = 4  # per exhibit, including the newest
TEXTS = 8  # pairs per table


@dataclasses.dataclass(frozen=True)
class Section:
    """The exhibits of a variant.

    Attributes:
      title: the variant, and the trial that the exhibits come from.
      pictures: figures of exhibits.
      tables: text pairs as HTML.
      remarks: notes on unreadable files.
    """

    title: str
    pictures: tuple[Picture, ...]
    tables: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()


def draw(table: Table) -> list[Section]:
    """Makes a section for each variant with exhibits: the baselines, and those with the best validation scores."""
    found = []
    with style.paper():
        for run in table.runs:
            order = sorted(ranked(table.of([run]).rows), key=lambda row: not row.is_baseline)
            found += [section for row in order[:VARIANTS] if (section := _section(row)) is not None]
    return _numbered(found)


def _numbered(sections: Sequence[Section]) -> list[Section]:
    """Appends a number to names of pictures that occur twice, as for variants whose names differ only in a slash."""
    seen: Counter[str] = Counter()

    def own(picture: Picture) -> Picture:
        seen[picture.name] += 1
        again = seen[picture.name]
        return picture if again == 1 else dataclasses.replace(picture, name=f"{picture.name}-{again}")

    return [dataclasses.replace(section, pictures=tuple(map(own, section.pictures))) for section in sections]


def _section(row: Row) -> Section | None:
    trial, saved = _first_with_exhibits(row)
    by_name: dict[tuple[str, str], list[Saved]] = {}
    for one in saved:
        by_name.setdefault((one.evaluation, one.name), []).append(one)
    pictures, tables, remarks = [], [], []
    for (evaluation, name), steps in by_name.items():
        exhibits: dict[int, Exhibit] = {}
        for one in _spread(steps):
            try:
                exhibits[one.step] = one.read()
            except RequestError as error:
                remarks.append(str(error))
        if not exhibits:
            continue
        newest, title = max(exhibits), f"{evaluation} {name}"
        if isinstance(exhibits[newest], TextPairs):
            tables.append(_texts(exhibits, title))
            continue
        history = exhibit_figures.over_steps(exhibits)
        if history is None and evaluation == "validation" and ("test", name) in by_name:
            continue  # a page of figures that look alike hides the others
        words = ("exhibit", row.name, evaluation, name)
        drawn = exhibit_figures.draw(exhibits[newest])
        pictures.append(Picture(file_name(*words), f"{title}, step {newest:,}: {drawn[1]}.", drawn[0]))
        if history is not None:
            pictures.append(Picture(file_name(*words, "steps"), f"{title}: {history[1]}.", history[0]))
    if not (pictures or tables or remarks):
        return None
    several = len(row.run.of(row.variant)) > 1
    return Section(
        f"{row.name} ({trial.name})" if several else row.name, tuple(pictures), tuple(tables), tuple(remarks)
    )


def _first_with_exhibits(row: Row) -> tuple[TrialResult | None, list[Saved]]:
    """The first trial of a variant that has exhibits; finished trials come first."""
    trials = row.run.of(row.variant)
    for trial in dict.fromkeys([*(t.name for t in that_count(trials)), *(t.name for t in trials)]):
        saved = read_exhibits(epath.Path(row.run.folder) / "trials" / trial)
        if saved:
            return next(t for t in trials if t.name == trial), saved
    return None, []


def _spread(steps: Sequence[Saved]) -> list[Saved]:
    """The newest step and a few earlier ones, denser at the start of training, where changes are largest."""
    if len(steps) <= STEPS:
        return list(steps)
    places = np.unique(np.round(np.geomspace(1, len(steps), STEPS)).astype(int)) - 1
    return [steps[i] for i in places]


# Texts --------------------------------------------------------------------------------------------


def _texts(exhibits: dict[int, Exhibit], title: str) -> str:
    """A table of text pairs: source, reference, and the text written at each step, newest first."""
    steps = sorted(exhibits, reverse=True)
    newest = exhibits[steps[0]]
    heads = (["source"] if newest.source is not None else []) + ["reference", f"written at step {steps[0]:,}"]
    lines = []
    for i in range(min(TEXTS, len(newest.written))):
        reference = str(newest.reference[i])
        cells = [escape(str(newest.source[i]))] if newest.source is not None else []
        earlier = [
            f'<span class="small">step {step:,}: {_marked(str(exhibits[step].written[i]), reference)}</span>'
            for step in steps[1:]
            if i < len(exhibits[step].written) and str(exhibits[step].reference[i]) == reference
        ]
        cells += [escape(reference), _marked(str(newest.written[i]), reference) + "".join(earlier)]
        lines.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    head = "".join(f"<th>{escape(text)}</th>" for text in heads)
    body = "\n".join(lines)
    texts = counted(len(newest.written), "text")
    caption = f"{title}: {len(lines)} of {texts}; words that differ from the reference are marked."
    table = f'<table class="texts"><thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table>'
    return f'<figure class="texts">{table}<figcaption>{escape(caption)}</figcaption></figure>'


def _marked(written: str, reference: str) -> str:
    """Converts a text to HTML and marks words that differ from the reference."""
    ours, theirs = written.split(), reference.split()
    parts = []
    for tag, start, end, _, _ in difflib.SequenceMatcher(None, ours, theirs, autojunk=False).get_opcodes():
        words = escape(" ".join(ours[start:end]))
        if words:
            parts.append(words if tag == "equal" else f"<mark>{words}</mark>")
    return " ".join(parts) or "–"
