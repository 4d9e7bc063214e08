"""What an author chooses about a report: metrics, variants, names, numbers, corrections, formats."""

import csv
import re

import pytest
from command_line import launch
from scipy.stats import ttest_rel

from research.errors import RequestError
from research.report import Choices, read_table
from research.report.markdown import to_markdown
from research.report.statistics import holm

VARIANTS = {"baseline": {}, "model.norm=none": {"model.norm": "none"}, "wide": {"model.widths": [64]}}


def scores(variant, seed):
    gain = {"baseline": 0.0, "model.norm=none": -0.021, "wide": 0.006}[variant]
    noise = 0.001 * ((seed * 7 + len(variant)) % 5)
    accuracy = 0.9 + gain + noise
    return {"test/accuracy": accuracy, "test/loss": 1 - accuracy, "test/ap_cat": 0.5, "test/ap": 0.25 + noise}


@pytest.fixture
def run(make_run):
    return make_run(variants=VARIANTS, scores=scores, seeds=range(5))


def headers(table):
    return to_markdown(table).split("\n| ")[1].split(" | ")


def test_metrics_are_shown_in_the_authors_order(run):
    table = read_table([run], Choices(metrics=("test/loss", "*/accuracy")))
    assert table.metrics == ("test/loss", "test/accuracy", "validation/accuracy")
    assert "test/ap" in table.every and "Not shown: 2 metrics in table.csv" in to_markdown(table)


def test_variants_are_chosen_ordered_and_renamed(run):
    choices = Choices(variants=("wide", "model.norm=none"), names={"model.norm=none": "no norm", "test/loss": "NLL"})
    table = read_table([run], choices)
    assert [row.name for row in table.rows] == ["wide", "no norm"]
    assert not table.compares("test/accuracy")  # the baseline is not shown
    assert any(header.startswith("NLL") for header in headers(table))
    whole = read_table([run], Choices(names={"baseline": "ours"}))
    assert whole.rows[0].name == "ours" and whole.rows[0].is_baseline and whole.compares("test/accuracy")


def test_percent_and_digits(run):
    text = to_markdown(read_table([run], Choices(percent=("accuracy",), digits=1)))
    assert "test/accuracy (%) ↑" in text and "| 90.2 ± 0.2 (5) |" in text and "validation/accuracy (%) ↑" in text
    assert "90.2 ± 0.2 % (5)" in text.splitlines()[2]  # the sentence
    assert re.search(r"\| −2\.\d \\\[−2\.\d, −[12]\.\d\\\] \(5\)\\\* \|", text)


def test_numbers_of_a_column_have_the_same_decimals(run):
    text = to_markdown(read_table([run]))
    columns = [line.split(" | ") for line in text.splitlines() if line.startswith(("| baseline", "| wide", "| model"))]
    where = headers(read_table([run])).index("test/accuracy ↑")
    decimals = {len(cells[where].split(" ± ")[0].partition(".")[2]) for cells in columns}
    assert len(columns) == 3 and len(decimals) == 1


def test_holm_is_stricter_than_each_test_and_as_strict_as_bonferroni_on_the_smallest(run):
    plain, corrected = (read_table([run], Choices(correction=how)) for how in ("none", "holm"))
    p = {}
    for row in plain.rows[1:]:
        gap = row.cells["test/accuracy"].difference
        pairs = [
            (scores(row.name, seed)["test/accuracy"], scores("baseline", seed)["test/accuracy"]) for seed in range(5)
        ]
        assert gap.p == pytest.approx(ttest_rel(*zip(*pairs, strict=True)).pvalue) and gap.corrected is None
        p[row.name] = gap.p
    found = {row.name: row.cells["test/accuracy"].difference.corrected for row in corrected.rows[1:]}
    assert found == pytest.approx(dict(zip(p, holm(list(p.values())), strict=True)))
    assert min(found.values()) == pytest.approx(2 * min(p.values()))
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert "corrected for 2 comparisons by Holm's method" in to_markdown(corrected)
    assert "Not corrected" in to_markdown(plain)


def test_the_headline_of_a_task_is_shown_and_the_rest_is_in_the_csv(make_run):
    run = make_run(variants=VARIANTS, scores=scores, headline=["ap", "loss"])
    table = read_table([run])
    assert {name.rpartition("/")[2] for name in table.metrics} == {"accuracy", "ap", "loss"}  # the stated score, too
    assert "ap_cat" not in to_markdown(table).split("Not shown")[0] and "test/ap_cat" in table.every


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"metrics": ("test/acuracy",)}, "--metrics test/acuracy: did you mean 'test/accuracy'"),
        ({"variants": ("deep",)}, "--variants deep: "),
        ({"names": {"deep": "x"}}, "--name deep=x: "),
        ({"names": {"wide": "baseline"}}, "--name: two variants would be called 'baseline'"),
        ({"percent": ("acuracy",)}, "--percent acuracy: "),
        ({"digits": 13}, "--digits 13: expected 0 to 12"),
        ({"correction": "bonferroni"}, "--correction bonferroni: "),
        ({"figures": ("gif",)}, "--figures gif: "),
    ],
)
def test_what_is_not_there_is_refused_in_a_line(run, choices, message):
    with pytest.raises(RequestError) as refused:
        read_table([run], Choices(**choices))
    assert message in str(refused.value) and "\n" not in str(refused.value)


def test_the_command_takes_them_all(run, tmp_path):
    out = tmp_path / "out"
    told = launch(
        "report", run, "--out", out, "--metrics", "test/accuracy", "--variants", "baseline,wide", "--name",
        "wide=64 units", "--percent", "accuracy", "--digits", "2", "--correction", "holm", "--figures", "pdf,svg",
    )  # fmt: skip
    assert told.status == 0 and "64 units" in told.out and "test/accuracy (%) ↑" in told.out
    assert (out / "scores.pdf").read_bytes().startswith(b"%PDF") and (out / "scores.svg").exists()
    assert not list(out.glob("*.png"))
    trials = list(csv.DictReader((out / "trials.csv").open()))
    assert len(trials) == 10 and trials[5]["variant"] == "64 units" and trials[5]["model.widths"] == "[64]"
    assert float(trials[0]["test/accuracy"]) == pytest.approx(scores("baseline", 0)["test/accuracy"])
    settings = (out / "hyperparameters.tex").read_text()
    assert settings.count("\\toprule") == 1 and r"\caption{Settings of baseline" in settings
    assert launch("report", run, "--name", "wide").err == "error: --name wide: expected OLD=NEW\n"
