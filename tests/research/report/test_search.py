"""Reports of searches: the best first, pruned variants counted, what the score depends on."""

import csv
import io
import math
import re

import pytest

from research.report import read_table
from research.report.importance import importance
from research.report.sentences import asides
from research.report.table import to_csv

RATES, DECAYS, NORMS = (1e-4, 1e-3, 1e-2, 1e-1), (0.0, 0.1), ("none", "batch")
GRID = {
    f"lr={rate},wd={decay},norm={norm}": {
        "optimizer.learning_rate": rate,
        "optimizer.weight_decay": decay,
        "model.norm": norm,
    }
    for rate in RATES
    for decay in DECAYS
    for norm in NORMS
}


def scores(variant, seed):
    own = GRID[variant]
    accuracy = 0.9 - 0.1 * (math.log10(own["optimizer.learning_rate"]) + 2) ** 2 + 0.01 * (own["model.norm"] == "batch")
    return {"test/accuracy": accuracy - 0.05, "validation/accuracy": accuracy}


@pytest.fixture
def search(make_run):
    ends = {f"{name}-s0": {"status": "pruned", "metrics": {"validation/accuracy": 0.25}} for name in [*GRID][:4]}
    return make_run(variants=GRID, scores=scores, seeds=(0,), baseline=None, ends=ends)


def test_the_best_come_first_and_pruned_variants_are_counted(search):
    table = read_table([search])
    means = [row.mean("validation/accuracy") for row in table.rows]
    assert len(means) == 12 and means == sorted(means, reverse=True) and table.rows[0].chosen
    assert "Not shown: 4 pruned variants, whose last validation/accuracy was 0.250 to 0.250" in " ".join(asides(table))
    rows = list(csv.DictReader(io.StringIO(to_csv(table))))
    assert len(rows) == 16 and rows[-1]["pruned"] == "1"
    assert {row["optimizer.learning_rate"] for row in rows} == {str(rate) for rate in RATES}


def test_what_the_score_depends_on(make_run):
    run = make_run(variants=GRID, scores=scores, seeds=(0,), baseline=None)
    table = read_table([run])
    shares = importance(table.runs[0], "validation/accuracy")
    assert [*shares][:2] == ["optimizer.learning_rate", "model.norm"] and shares["optimizer.weight_decay"] < 0.02
    assert shares["optimizer.learning_rate"] > 0.9 and sum(shares.values()) == pytest.approx(1)
    assert re.search(r"depends on, among the values tried: optimizer.learning_rate (9\d|100)%", " ".join(asides(table)))
    few = make_run("few", variants=dict([*GRID.items()][:4]), scores=scores, seeds=(0,), baseline=None)
    assert importance(read_table([few]).runs[0], "validation/accuracy") == {}
