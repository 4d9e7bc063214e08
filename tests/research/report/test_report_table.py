"""The table, its sentences, and its Markdown, LaTeX, CSV and terminal forms."""

import csv
import io
import re

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from research.console import printable
from research.data.feed import make_feed
from research.data.source import Columns
from research.report import sentences
from research.report import table as tables
from research.report.latex import escape_latex, to_latex
from research.report.markdown import escape_markdown, to_markdown
from research.report.read import read_runs
from research.report.terminal import to_rich

ACCURACY = {
    "baseline": [0.970, 0.972, 0.968, 0.975, 0.971],
    "identity": [0.931, 0.940, 0.935, 0.936, 0.938],
    "gelu": [0.974, 0.973, 0.976, 0.977, 0.972],
}
VARIANTS = {"baseline": {}, "identity": {"model.activation": "identity"}, "gelu": {"model.activation": "gelu"}}


def scores(variant, seed):
    accuracy = ACCURACY[variant][seed]
    return {
        "test/loss": 1 - accuracy,
        "test/accuracy": accuracy,
        "validation/loss": 0.0,
        "validation/accuracy": accuracy,
    }


@pytest.fixture
def build(make_run):
    def build(**asked):
        defaults = {"variants": VARIANTS, "scores": scores, "seeds": range(5)}
        return tables.build(read_runs([make_run(**(defaults | asked))]))

    return build


def row(table, name):
    return next(row for row in table.rows if row.name == name)


def test_means_and_differences(build):
    table = build()
    assert table.metrics == ("test/accuracy", "validation/accuracy", "test/loss")
    cell = row(table, "identity").cells["test/accuracy"]
    assert cell.summary.mean == pytest.approx(np.mean(ACCURACY["identity"]))
    assert cell.summary.std == pytest.approx(np.std(ACCURACY["identity"], ddof=1))
    interval = scipy.stats.ttest_rel(ACCURACY["identity"], ACCURACY["baseline"]).confidence_interval(0.95)
    assert (cell.difference.low, cell.difference.high) == pytest.approx((interval.low, interval.high))
    assert cell.difference.excludes_zero
    assert row(table, "baseline").cells["test/accuracy"].difference is None
    assert [r.name for r in table.rows if r.cells["validation/accuracy"].best] == ["gelu"]


def test_who_is_missing_stands_in_the_row(build):
    ends = {"gelu-s0": None, "gelu-s1": "diverged", "identity-s2": {"status": "failed"}, "identity-s3": "{"}
    table = build(ends=ends | {"identity-s4": {"pruned_at_step": 10}})
    assert row(table, "gelu").trials == "3 of 5; 1 diverged, 1 missing"
    assert row(table, "gelu").cells["test/accuracy"].summary.n == 3
    assert row(table, "gelu").cells["test/accuracy"].difference.n == 3
    assert row(table, "identity").trials == "2 of 5; 1 pruned, 1 failed, 1 unreadable"
    assert row(table, "identity").cells["test/accuracy"].summary.mean == pytest.approx(np.mean([0.931, 0.940]))
    assert row(table, "baseline").trials == "5 of 5"
    assert "Pruned trials" in to_markdown(table)


def test_trials_that_early_stopping_ended_count_and_are_told(build):
    table = build(ends={"gelu-s0": {"stopped_at_step": 20}, "gelu-s1": {"stopped_at_step": 1400}})
    assert row(table, "gelu").trials == "5 of 5" and row(table, "gelu").cells["test/accuracy"].summary.n == 5
    assert "Early stopping ended 2 of 15 trials, at step 20 to 1,400." in to_markdown(table)


def test_a_metric_that_is_not_a_number_lowers_its_n_only(build):
    ends = {"gelu-s0": {"metrics": {"test/accuracy": None, "test/loss": 0.1}}}
    cells = row(build(ends=ends), "gelu").cells
    assert (cells["test/accuracy"].summary.n, cells["test/loss"].summary.n) == (4, 5)


def test_no_column_of_differences_without_a_baseline(build):
    for baseline in (None, "no such variant"):
        table = build(baseline=baseline)
        assert not any(table.compares(metric) for metric in table.metrics)
        assert "Δ" not in to_markdown(table)
        assert "difference" not in tables.to_csv(table)


def test_validation_stands_in_for_test_and_says_so(build):
    table = build(scores=lambda variant, seed: {"validation/accuracy": 0.5, "train/loss": 1.0})
    assert table.metrics == ("validation/accuracy",)
    assert table.compares("validation/accuracy")
    assert "these are validation scores" in to_markdown(table)


@pytest.mark.parametrize("end", ["failed", "diverged", None, "{"])
def test_all_lost_is_still_a_table(build, end):
    ends = {f"{variant}-s{seed}": end for variant in VARIANTS for seed in range(5)}
    table = build(ends=ends)
    assert table.finished == 0
    for text in (to_markdown(table), to_latex(table)):
        assert "0 of 5" in text
        assert "No trial has finished" in text
    assert len(list(csv.reader(io.StringIO(tables.to_csv(table))))) == 4


def test_markdown_has_a_cell_per_column_and_bolds_the_best(build):
    lines = to_markdown(build(ends={"gelu-s0": None})).splitlines()
    grid = [line for line in lines if line.startswith("|")]
    assert len(grid) == 2 + 3
    assert {line.count("|") for line in grid} == {grid[0].count("|")}
    assert grid[0].startswith("| variant | test/accuracy ↑ | Δ test/accuracy | validation/accuracy ↑ | test/loss ↓ |")
    assert re.findall(r"\*\*[^*]+\*\*", "".join(grid)) == ["**0.9745 ± 0.0024 (4)**"]
    text = "\n".join(lines)
    for fact in (
        "--sweep activation --seeds 5",
        "0123456789abcdef",
        "89abcdef01234567",
        "jax 0.10.2",
        "0 to 4 (n = 5)",
    ):
        assert fact in text
    assert re.search(r"date: `\d{4}-\d\d-\d\d`", text)


def test_csv_has_every_number_in_full(build):
    lines = list(csv.DictReader(io.StringIO(tables.to_csv(build(ends={"gelu-s0": "diverged"})))))
    gelu = next(line for line in lines if line["variant"] == "gelu")
    assert float(gelu["test/accuracy mean"]) == pytest.approx(np.mean(ACCURACY["gelu"][1:]), rel=1e-15)
    assert (gelu["test/accuracy n"], gelu["diverged"], gelu["finished"], gelu["trials"]) == ("4", "1", "4", "5")
    assert (gelu["test/accuracy pairs"], gelu["parameters"]) == ("4", "118282")
    baseline = next(line for line in lines if line["variant"] == "baseline")
    assert baseline["test/accuracy difference"] == ""


def test_one_seed_has_no_spread(build):
    table = build(seeds=(0,))
    assert "| 0.9740 (1) |" in to_markdown(table)
    assert row(table, "gelu").cells["test/accuracy"].summary.std is None
    assert any(note.startswith("[–]: no interval") for note in sentences.notes(table))
    assert not any(note.startswith("[–]") for note in sentences.notes(build()))
    line = next(csv.DictReader(io.StringIO(tables.to_csv(table))))
    assert line["test/accuracy std"] == ""


def test_a_report_says_that_the_input_starves(build):
    def said(seconds, source=None, storage="auto"):
        facts = {} if source is None else {"storage": make_feed(source, storage).reason}
        ends = {"gelu-s1": {"seconds": 20.0, "starved_seconds": seconds, **facts}, "gelu-s2": {"starved_seconds": None}}
        return [note for note in sentences.notes(build(ends=ends)) if "waits for its input" in note]

    source = Columns({"x": np.zeros(3)})
    assert said(1.0) == said(None) == said(19.0, source) == said(19.0, source, "device") == []
    for fed in (said(19.0), said(19.0, source, "host")):
        assert "gelu-s1 waited for batches in 95% of its seconds" in fed[0]


def test_runs_side_by_side_keep_their_own_baseline(make_run):
    first = make_run("first", variants=VARIANTS, scores=scores, seeds=range(5))
    second = make_run("second", variants=VARIANTS, scores=scores, seeds=range(5), baseline="gelu")
    table = tables.build(read_runs([first, second]))
    assert [r.name for r in table.rows][:4] == ["first/baseline", "first/identity", "first/gelu", "second/baseline"]
    assert row(table, "second/baseline").cells["test/accuracy"].difference.mean < 0
    assert row(table, "second/gelu").cells["test/accuracy"].difference is None
    assert "second/gelu (baseline)" in to_markdown(table)
    assert to_latex(table).count(r"\midrule") == 2


# The sentence -------------------------------------------------------------------------------------


def test_the_sentence_of_a_choice(build):
    def say(**asked):
        return sentences.summary(build(baseline=None, **asked))

    assert say() == (
        "gelu is best by validation/accuracy, 0.9744 ± 0.0021 (5); its test/accuracy is 0.9744 ± 0.0021 (5)."
    )
    shared = say(scores=lambda variant, seed: {"test/accuracy": 0.5}, seeds=(0,))
    assert shared.startswith(
        "baseline, identity and gelu share the best validation/accuracy, 0.5000 (1); baseline: test"
    )
    assert say(scores=lambda variant, seed: {}) == "No trial has finished yet."
    lost = {f"{variant}-s{seed}": "failed" for variant in ("baseline", "identity") for seed in range(5)}
    assert say(ends=lost) == "gelu: test/accuracy 0.9744 ± 0.0021 (5); no other variant has finished a trial."
    assert say(scores=lambda variant, seed: {f"test/{variant}_accuracy": 0.5}).endswith("no other variant has it.")


def test_the_sentence_of_a_comparison(build):
    def say(**asked):
        return sentences.summary(build(**asked))

    assert say() == (
        "Against the baseline (test/accuracy 0.9712 ± 0.0026 (5)): identity is worse, −0.035 [−0.040, −0.031] (5); "
        "gelu: the 95% interval includes zero."
    )
    named = say(baseline="identity")
    assert named.startswith(
        "Against the baseline, identity (test/accuracy 0.9360 ± 0.0034 (5)): gelu is better, +0.038 ["
    )
    assert "; baseline is better, +0.035 [" in named
    assert "identity is better" in say(better={"accuracy": "min"}) and "identity is higher" in say(better={})
    assert say(seeds=(0,)).endswith(": identity −0.0390 [–] (1) and gelu +0.0040 [–] (1): no interval.")
    lost = {f"baseline-s{seed}": "failed" for seed in range(5)}
    assert say(ends=lost) == (
        "identity: test/accuracy 0.9360 ± 0.0034 (5); gelu: test/accuracy 0.9744 ± 0.0021 (5); "
        "the baseline has no finished trial."
    )
    lost = {f"{variant}-s{seed}": "failed" for variant in ("gelu", "identity") for seed in range(5)}
    assert say(ends=lost).endswith("the baseline has no finished counterpart.")


def test_the_sentence_counts_what_it_does_not_name(build):
    variants = {"baseline": {}} | {f"v{i}": {"model.name": f"v{i}"} for i in range(9)}

    def gaps(variant, seed):
        number = 0 if variant == "baseline" else int(variant[1])
        return {"test/accuracy": 0.1 * (number if number < 5 else 0) + 0.001 * ((3 * number + 5 * seed * seed) % 7)}

    said = sentences.summary(build(variants=variants, scores=gaps))
    assert "v4 is better" in said and "v3 is better" in said and "1 more differs" in said
    assert (
        "; v5, v6 and v8: the 95% interval includes zero; v0 0.000 [–] (5) and v7 0.000 [–] (5): no interval." in said
    )


# Escapes ------------------------------------------------------------------------------------------


def latex_is_balanced(text):
    depth = 0
    for match in re.finditer(r"\\.|[{}]", text, re.DOTALL):
        depth += {"{": 1, "}": -1}.get(match[0], 0)
        assert depth >= 0
    return depth == 0


@settings(deadline=None)
@given(st.text(st.characters(min_codepoint=32, max_codepoint=126)))
def test_latex_is_escaped(text):
    escaped = escape_latex(text)
    assert latex_is_balanced(escaped)
    bare = re.sub(r"\$\^\{\*\}\$|\\text\w+\{\}|\\[{}$&#_%]|\{[][]\}", "", escaped)
    assert not set(bare) & set('\\{}$&#_%~^<>|"`*[]')


@settings(deadline=None)
@given(st.text())
def test_markdown_stays_in_its_cell(text):
    escaped = escape_markdown(text)
    assert "\n" not in escaped
    assert not re.search(r"(?<!\\)(?:\\\\)*[|<>*`_\[\]]", escaped)


def test_latex_of_hostile_names(build):
    name = r"a&b_c%d#e$f{g}h~i^j\k <l>|m"
    table = build(
        variants={"baseline": {}, name.replace("/", ""): {}}, scores=lambda v, s: {"test/top5_error%": 0.1 * s}
    )
    latex = to_latex(table)
    assert latex_is_balanced("\n".join(line for line in latex.splitlines() if not line.startswith("%")))
    body = re.search(r"\\midrule\n(.*)\\bottomrule", latex, re.DOTALL)[1]
    columns = len(re.search(r"\\begin\{tabular\}\{@\{\}(\w+)@\{\}\}", latex)[1])
    for line in body.strip().splitlines():
        assert line.endswith(r"\\")
        assert len(re.findall(r"(?<!\\)&", line)) == columns - 1
    for environment in ("table", "tabular"):
        assert latex.count(rf"\begin{{{environment}}}") == latex.count(rf"\end{{{environment}}}") == 1
    assert r"a\&b\_c\%d\#e\$f\{g\}h" in latex


# Terminal -----------------------------------------------------------------------------------------


def printed(table, width):
    import rich.console

    console = rich.console.Console(file=io.StringIO(), width=width)
    console.print(to_rich(table, width))
    return console.file.getvalue()


def test_the_terminal_shows_what_fits(build):
    table = build(ends={"gelu-s0": "diverged"})
    wide, narrow = printed(table, 160), printed(table, 70)
    for text in (wide, narrow):
        assert "4 of 5; 1 diverged" in text
        assert "0.9360 ± 0.0034 (5)" in text
        assert "…" not in text
    assert "test/loss" in wide
    assert "Δ test/accuracy" not in narrow
    assert max(map(len, narrow.splitlines())) <= 70


def test_what_a_terminal_would_obey_does_not_reach_it(build):
    name = "\x1b[31mred\x1b]0;title\x07"
    table = build(variants={"baseline": {}, name: {}}, scores=lambda v, s: {"test/accuracy": 0.1 * s})
    assert not set(printed(table, 100)) & {"\x1b", "\x07"}
    assert printable(sentences.summary(table)).isprintable()
