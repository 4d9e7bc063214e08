"""Successive halving keeps the best third of the trials, rounded up, at each rung."""

import json
import math
import types

import pytest
import toys

from research.errors import RequestError
from research.running.folder import RunFolder
from research.running.halving import Halving

RUNG = 6


def pruned(folder, scores, direction="min"):
    """Prunes trials with these validation losses at the rung; returns {name: result.json} of those that it ended."""
    run = RunFolder(folder)
    for name, score in scores.items():
        run.trial(name).mkdir(parents=True)
        records = [
            {"step": 3, "split": "validation", "loss": -9.0},
            {"step": RUNG, "split": "train", "loss": -9.0},
            {"step": RUNG, "split": "validation", "loss": score},
        ]
        lines = [json.dumps(record) + "\n" for record in records if score != "not there"]
        (run.trial(name) / "metrics.jsonl").write_text("".join(lines))
    Halving("validation/loss", direction, (RUNG,)).prune(run, RUNG, list(scores))
    results = {name: run.trial(name) / "result.json" for name in scores}
    return {name: json.loads(path.read_text()) for name, path in results.items() if path.exists()}


@pytest.mark.parametrize("trials", [3, 4, 6, 7, 10])
@pytest.mark.parametrize("direction", ["min", "max"])
def test_the_best_third_goes_on(tmp_path, trials, direction):
    scores = {f"t{i}": float((i * 3) % trials if trials % 3 else (i * 5) % trials) for i in range(trials)}
    ended = pruned(tmp_path, scores, direction)
    ranked = sorted(scores, key=scores.get, reverse=direction == "max")
    assert set(ended) == set(ranked[math.ceil(trials / 3) :])
    last = ended[ranked[-1]]
    assert last["error"] == f"pruned at step {RUNG}: place {trials} of {trials} by validation/loss"
    assert last["steps"] == last["pruned_at_step"] == RUNG
    assert last["metrics"] == {"validation/loss": scores[ranked[-1]]}


def test_scores_that_are_not_finite_come_last_and_trials_without_one_are_left_alone(tmp_path):
    assert set(pruned(tmp_path, {"a": None, "b": 2.0, "c": "not there", "d": 1.0})) == {"a", "b"}


def test_an_ended_trial_counts_but_keeps_its_result(tmp_path):
    run = RunFolder(tmp_path)
    assert set(pruned(tmp_path, {"a": 1.0, "b": 2.0, "c": 3.0})) == {"b", "c"}
    before = (run.trial("c") / "result.json").read_bytes()
    Halving("validation/loss", "max", (RUNG,)).prune(run, RUNG, ["a", "b", "c"])
    assert (run.trial("c") / "result.json").read_bytes() == before
    assert json.loads((run.trial("a") / "result.json").read_text())["error"].endswith("place 3 of 3 by validation/loss")


def test_a_metric_that_no_evaluation_gives_is_one_line(tmp_path):
    run = RunFolder(tmp_path)
    pruned(tmp_path, {"a": 1.0, "b": 2.0})
    with pytest.raises(RequestError, match="--prune validation/lss: no such metric; did you mean 'validation/loss'"):
        Halving("validation/lss", "min", (RUNG,)).prune(run, RUNG, ["a", "b"])


def asked(trials, steps):
    """A request of so many trials of so many steps."""
    trial = types.SimpleNamespace(experiment=toys.experiment(steps=steps, eval_every=1))
    return types.SimpleNamespace(experiment=trial.experiment, trials=[trial] * trials)


@pytest.mark.parametrize(
    ("trials", "steps", "rungs"),
    [(4, 54, (18,)), (9, 54, (18,)), (10, 54, (6, 18)), (27, 54, (6, 18)), (28, 54, (2, 6, 18)), (28, 10, (1, 3))],
)
def test_the_rungs_of_a_request(trials, steps, rungs):
    halving = Halving.parse("validation/loss", asked(trials, steps))
    assert halving == Halving("validation/loss", "min", rungs, 3)


@pytest.mark.parametrize(
    ("trials", "steps", "says"),
    [
        (3, 54, "3 trials of 54 steps leave nothing to prune; expected at least 4 trials"),
        (1, 54, "1 trial of 54 steps leaves nothing"),
        (4, 2, "4 trials of 2 steps leave nothing to prune"),
    ],
)
def test_too_little_to_prune_is_one_line(trials, steps, says):
    with pytest.raises(RequestError, match=says):
        Halving.parse("validation/loss", asked(trials, steps))
