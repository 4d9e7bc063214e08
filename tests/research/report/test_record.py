"""Records of numbers, and the tables that documents have of them."""

import json

import pytest
from command_line import launch

from experiments.analysis import document_numbers
from research.errors import RequestError
from research.report.record import to_table

VARIANTS = {"baseline": {}, "wide": {"model.widths": [64]}}


def scores(variant, seed):
    return {"test/accuracy": 0.9 + 0.02 * (variant == "wide") + 0.001 * ((seed * 7) % 4), "test/loss": 0.1}


@pytest.fixture
def record(make_run, tmp_path):
    run = make_run(variants=VARIANTS, scores=scores, seeds=range(4), command="python -m launch run digits_mlp")
    file = tmp_path / "records" / "digits.json"
    file.parent.mkdir()
    assert launch("report", run, "--record", file).status == 0
    return file


def test_a_record_has_every_number_and_its_source(record):
    held = json.loads(record.read_text())
    (run,) = held["runs"]
    assert run["command"] == "python -m launch run digits_mlp" and run["seeds"] == [0, 1, 2, 3] and run["trials"] == 8
    assert run["commit"].startswith("0123456789ab") and run["baseline"] == "baseline"
    wide = held["rows"][1]["metrics"]["test/accuracy"]
    assert (
        wide["n"] == 4 and wide["mean"] == pytest.approx(0.9215) and wide["difference"]["mean"] == pytest.approx(0.02)
    )


def test_a_document_gets_its_tables_from_records(record):
    before = "# Page\n\n<!-- numbers: digits.json test/accuracy -->\nold\n<!-- end of numbers -->\n\nText.\n"
    after = document_numbers.written(before, record.parent)
    assert "| variant | test/accuracy | difference |\n" in after and "| baseline | 0.9015 ± 0.0013 (4) |  |\n" in after
    assert "`python -m launch run digits_mlp`, seeds 0 to 3, 8 trials, commit 0123456789ab" in after
    assert "old" not in after and after.endswith("\n\nText.\n")
    assert document_numbers.written(after, record.parent) == after


@pytest.mark.parametrize(
    ("block", "message"),
    [("other.json", "other.json: no readable record"), ("digits.json test/f1", "digits.json: no metric test/f1")],
)
def test_a_table_without_its_record_is_told(record, block, message):
    with pytest.raises(RequestError, match=message):
        document_numbers.written(f"<!-- numbers: {block} -->\n<!-- end of numbers -->", record.parent)
    with pytest.raises(RequestError, match="not a record of numbers"):
        to_table({"rows": []})


@pytest.mark.parametrize("path", document_numbers.documents(), ids=lambda path: path.name)
def test_the_documents_say_what_the_records_say(path):
    text = path.read_text()
    assert document_numbers.written(text) == text, "python -m experiments.analysis.document_numbers"
