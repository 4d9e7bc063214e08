"""A traced run lists its operations, and says how much of a chip it uses."""

import csv
import gzip
import json

import pytest
from command_line import launch, refused, write_module

from launch.profile import operations
from research.parallel.chips import Chip
from research.training import utilization

MODULE = """
    import toys
    from research.models.mlp import MLP

    def experiment():
        return toys.experiment(model=MLP(widths=(64, 64), classes=3))
"""


def event(name, start, duration, thread=1):
    return {"ph": "X", "pid": 1, "tid": thread, "ts": start, "dur": duration, "args": {"hlo_op": name}}


def test_the_time_of_an_operation_leaves_out_those_inside_it():
    events = [
        event("while", 0, 100),
        event("dot", 10, 30),
        event("dot", 50, 20),
        event("add", 120, 5),
        event("dot", 0, 7, thread=2),
        {"ph": "X", "pid": 1, "tid": 1, "ts": 0, "dur": 900, "name": "a function of the host"},
        {"ph": "M", "pid": 1, "name": "process_name"},
    ]
    found = operations(events, {"dot": "model/dense"})
    assert [(name, source, round(1e6 * seconds)) for name, source, seconds in found] == [
        ("dot", "model/dense", 57),
        ("while", "", 50),
        ("add", "", 5),
    ]


@pytest.fixture
def chip(monkeypatch):
    """Gives CPUs the figures of a chip of 1 GFLOP/s."""
    monkeypatch.setattr(utilization, "chip_of", lambda kind: Chip("tiny", (kind,), 1e9, 1, 1.0, 1.0, None))


def test_a_profile_is_a_trace_and_a_table_and_trains_nothing(tmp_path, chip, monkeypatch):
    module, run = write_module(tmp_path / "traced.py", MODULE), tmp_path / "runs" / "traced" / "base"
    monkeypatch.chdir(tmp_path)
    outcome = launch("run", module, "--profile", "8")
    assert outcome.status == 0, outcome
    assert {path.name for path in run.iterdir()} == {"profile"}
    (trace,) = (run / "profile").glob("plugins/profile/*/perfetto_trace.json.gz")
    assert json.loads(gzip.decompress(trace.read_bytes()))["traceEvents"]
    assert list(trace.parent.glob("*.xplane.pb"))
    with (run / "profile" / "operations.csv").open() as file:
        rows = list(csv.DictReader(file))
    seconds = [float(row["seconds"]) for row in rows]
    assert len(rows) > 3 and seconds == sorted(seconds, reverse=True) and seconds[-1] >= 0
    assert any("dot_general" in row["source"] for row in rows)
    assert rows[0]["name"] in outcome.out and "steps per second" in outcome.out
    rate = float(outcome.out.split(" steps per second")[0].split()[-1].replace(",", ""))
    mfu = float(outcome.out.split("MFU: ")[1].split("%")[0]) / 100
    flops = 3 * 2 * 24 * (12 * 64 + 64 * 64 + 64 * 3)
    assert mfu == pytest.approx(rate * flops / 1e9, rel=0.02, abs=0.001)


def test_a_profile_is_written_to_this_machine(tmp_path):
    module = write_module(tmp_path / "traced.py", MODULE)
    (tmp_path / "file").write_text("")
    for out, said in (("gs://bucket/run", "writes to this machine only"), (tmp_path / "file", "cannot be written to")):
        assert said in refused(["run", module, "--profile", "1", "--out", out])


def test_a_number_of_steps_is_expected():
    assert "--profile none: expected a whole number, at least 1" in refused(["run", "digits_mlp", "--profile", "none"])


@pytest.mark.parametrize("stack", ["on", "off"])
def test_results_state_the_speed_and_the_use_of_the_chip(tmp_path, chip, stack):
    module = write_module(tmp_path / "used.py", MODULE)
    outcome = launch("run", module, "--seeds", "2", "--stack", stack, "--out", tmp_path / "run")
    assert outcome.status == 0, outcome
    flops = 3 * 2 * 24 * (12 * 64 + 64 * 64 + 64 * 3)
    results = list((tmp_path / "run").glob("trials/*/result.json"))
    assert len(results) == 2
    for result in results:
        found = json.loads(result.read_text())
        assert found["examples_per_second"] == pytest.approx(
            found["steps_per_second"] * 24 * found["stacked"], rel=1e-3
        )
        each = found["examples_per_second"] / 24
        assert found["mfu"] == pytest.approx(each * flops / 1e9, rel=0.01, abs=1e-3)
        assert found["stacked"] == (2 if stack == "on" else 1)
    assert "(MFU " in (tmp_path / "run" / "report" / "report.html").read_text()


def test_an_unknown_chip_has_no_utilisation(tmp_path):
    module = write_module(tmp_path / "unknown.py", MODULE)
    assert launch("run", module, "--out", tmp_path / "run").status == 0
    (result,) = (tmp_path / "run").glob("trials/*/result.json")
    assert "mfu" not in json.loads(result.read_text())
