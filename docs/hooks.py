"""Puts experiments/RESULTS.md in the place of the page on results."""

import pathlib

RESULTS = pathlib.Path(__file__).parent.parent / "experiments" / "RESULTS.md"


def on_page_markdown(markdown, page, **_):
    return RESULTS.read_text().replace("(../docs/", "(") if page.file.src_uri == "results.md" else markdown
