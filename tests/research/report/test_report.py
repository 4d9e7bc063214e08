"""The whole report: its files and its page, and that the run is only read."""

import base64
import html.parser
import io
import re
import subprocess
import sys

import pytest

from research.errors import RequestError
from research.report import Report, print_table, read_table, report, sentences

VARIANTS = {
    "baseline": {},
    "identity": {"model.activation": "identity"},
    "<b>&$_": {"model.name": "<script>alert(1)</script>"},
}
ENDS = {
    "identity-s0": {"status": "failed", "error": "ValueError: <img src=x>\nsecond line", "metrics": {}},
    "identity-s1": '{"status": "fini',
    "baseline-s2": "diverged",
    "<b>&$_-s1": None,
}


def scores(variant, seed):
    return {"test/accuracy": 0.9 + 0.01 * seed - 0.1 * (variant == "identity"), "test/loss": 0.3 - 0.01 * seed}


def contents(folder):
    return {
        path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file() and "report" not in path.parts
    }


@pytest.fixture(scope="module")
def made(write, tmp_path_factory):
    """The report of a run with every kind of outcome, which leaves the run unchanged."""
    folder = write(
        tmp_path_factory.mktemp("runs") / "activation", variants=VARIANTS, scores=scores, seeds=range(4), ends=ENDS
    )
    before = contents(folder)
    found = report([folder])
    assert contents(folder) == before
    return folder, found


@pytest.fixture(scope="module")
def page(made):
    return made[1].html.read_text()


def test_the_files_lie_in_the_run(made):
    folder, found = made
    assert isinstance(found, Report)
    assert [path.name for path in (found.table_md, found.table_tex, found.table_csv, found.html)] == [
        "table.md",
        "table.tex",
        "table.csv",
        "report.html",
    ]
    names = {path.name for path in found.figures}
    assert names == {"scores.png", "curve-train-loss.png", "curve-validation-accuracy.png", "curve-validation-loss.png"}
    assert {path.name for path in (folder / "report").iterdir()} == names | {
        "table.md",
        "table.tex",
        "table.csv",
        "trials.csv",
        "hyperparameters.tex",
        "report.html",
    }
    for path in found.figures:
        assert path.read_bytes().startswith(b"\x89PNG")


class Page(html.parser.HTMLParser):
    """The elements of a page: their nesting, attributes and text."""

    VOID = frozenset({"meta", "img", "br", "wbr"})

    def __init__(self, text):
        super().__init__()
        self.open, self.elements, self.words = [], [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def test_the_page_stands_alone(made, page):
    parsed = Page(page)
    for tag, attributes in parsed.elements:
        assert tag not in ("script", "link", "iframe", "object")
        assert "href" not in attributes
        assert attributes.get("src", "data:image/svg+xml;base64,").startswith("data:image/svg+xml;base64,")
    assert not re.search(r"https?://|url\(|@import|file:", page)
    assert str(made[0].parent) not in page
    assert sum(tag == "img" for tag, _ in parsed.elements) == 4
    for tag, attributes in parsed.elements:
        if tag == "img":
            svg = base64.b64decode(attributes["src"].split(",")[1]).decode()
            assert svg.rstrip().endswith("</svg>")
            assert "<image" not in svg


def test_the_page_says_what_happened(page):
    text = " ".join(Page(page).words)
    assert "<script>alert(1)</script>" in text
    assert "ValueError: <img src=x> second line" in text
    assert "result.json:" in text
    assert "12: 8 finished, 1 diverged, 1 failed, 1 missing, 1 unreadable" in text
    assert "python -m launch run experiments.digits_mlp --sweep activation --seeds 4" in text
    for name in VARIANTS:
        assert name in text
    assert "model.activation = identity" in text
    assert "one-sentence" not in text
    assert "NaN" not in text
    assert "nan" not in text.split()


def test_again_is_the_same_and_leaves_nothing_stale(made):
    folder, found = made
    before = {path.name: path.read_bytes() for path in (folder / "report").iterdir()}
    (folder / "report/heatmap.png").write_bytes(b"of an earlier sweep")
    (folder / "report/holiday.png").write_bytes(b"not ours")
    report([folder])
    after = {path.name: path.read_bytes() for path in (folder / "report").iterdir()}
    assert after == before | {"holiday.png": b"not ours"}
    (folder / "report/holiday.png").unlink()


def test_side_by_side_needs_a_place_to_write(make_run, tmp_path):
    folders = [make_run(name, variants={"base": {}}, scores=scores, baseline=None, every=500) for name in ("a", "b")]
    with pytest.raises(RequestError, match="--out"):
        report(folders)
    found = report(folders, out=tmp_path / "deep" / "both")
    assert found.table_md.parent.name == "both"
    assert "a/base" in found.table_md.read_text()
    assert not (folders[0] / "report").exists()
    Page(found.html.read_text())


@pytest.mark.parametrize("end", ["failed", None])
def test_a_run_of_which_nothing_finished(make_run, end):
    ends = {f"{variant}-s{seed}": end for variant in VARIANTS for seed in range(3)}
    folder = make_run(variants=VARIANTS, scores=scores, ends=ends, every=500)
    for path in folder.glob("trials/*/metrics.jsonl"):
        path.unlink()
    found = report([folder])
    assert found.figures == ()
    assert "No trial has finished yet." in found.html.read_text()


def test_the_terminal_ends_with_the_summary(made):
    import rich.console

    folder, _ = made
    console = rich.console.Console(file=io.StringIO(), width=100)
    print_table(read_table([folder]), console)
    lines = console.file.getvalue().rstrip().splitlines()
    assert " ".join(" ".join(lines).split()).endswith(sentences.summary(read_table([folder])))
    assert any("baseline" in line and "3 of 4; 1 diverged" in line for line in lines)
    with pytest.raises(RequestError):
        read_table([folder / "trials"])


def test_of_many_variants_the_terminal_shows_the_best(make_run):
    import rich.console

    variants = {f"v{i:03d}": {"optimizer.learning_rate": 10.0**-i} for i in range(70)}
    scored = {
        name: {"validation/accuracy": (i * 11 % 70) / 100, "test/accuracy": 0.5} for i, name in enumerate(variants)
    }
    folder = make_run(variants=variants, scores=lambda name, seed: scored[name], baseline=None, seeds=(0,))
    console = rich.console.Console(file=io.StringIO(), width=100)
    print_table(read_table([folder]), console)
    shown = {word for word in console.file.getvalue().split() if word in variants}
    assert shown == {name for name in variants if scored[name]["validation/accuracy"] >= 0.1}
    assert "and 10 more variants, which are in table.csv" in console.file.getvalue()


def test_nothing_heavy_is_imported_before_it_is_needed(made):
    code = (
        "import sys, research.report\n"
        "assert not {'jax', 'matplotlib', 'scipy', 'rich', 'numpy'} & set(sys.modules)\n"
        "research.report.report([sys.argv[1]])\n"
        "assert 'jax' not in sys.modules and 'matplotlib.pyplot' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code, str(made[0])], check=True, cwd=made[0])
