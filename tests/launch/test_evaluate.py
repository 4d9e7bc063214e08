"""`launch eval`: scores of finished trials, as lines and as JSON."""

import json
import shutil

import pytest
from command_line import launch, quickly, read, write_module


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    module = write_module(
        folder / "mine.py",
        "import toys\n\n\ndef experiment():\n    return toys.experiment(steps=6, eval_every=6, log_every=6)\n",
    )
    with quickly(folder / "compiled"):
        assert launch("run", module, "--seeds", "2", "--stack", "off", "--out", folder / "run").status == 0
    return folder / "run"


def test_json_has_every_trial_and_the_means(run):
    said = launch("eval", run, "--json")
    record = json.loads(said.out)
    assert said.status == 0 and said.err == "" and record["split"] == "test" and record["problems"] == {}
    assert record["trials"].keys() == {"base-s0", "base-s1"}
    for name, metrics in record["trials"].items():
        tested = read(run / "trials" / name / "result.json")["metrics"]
        assert metrics == pytest.approx({metric: tested[f"test/{metric}"] for metric in metrics})
    losses = [metrics["loss"] for metrics in record["trials"].values()]
    mean = record["variants"]["base"]["loss"]
    assert mean["n"] == 2 and mean["mean"] == pytest.approx(sum(losses) / 2)
    assert mean["std"] == pytest.approx(abs(losses[0] - losses[1]) / 2**0.5)
    lines = launch("eval", run).out.splitlines()
    assert len(lines) == 3 and lines[0].startswith("base-s0: test/") and f"test/loss {losses[0]:.6g}" in lines[0]


def test_json_names_trials_that_cannot_be_scored(run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "trials" / "base-s1" / "checkpoints")
    said = launch("eval", tmp_path / "run", "--json")
    record = json.loads(said.out)
    assert said.status == 1 and record["trials"].keys() == {"base-s0"}
    assert "no checkpoint" in record["problems"]["base-s1"] and "no checkpoint" in said.err
    assert record["variants"]["base"]["loss"]["std"] is None
