"""Reading a run's folder, complete or damaged."""

import itertools
import json
import math

import numpy as np
import pytest

from research.errors import RequestError
from research.report.read import _at_best_step, lookup, read_run, read_runs
from research.report.runs import Curve, TrialResult

VARIANTS = {"baseline": {}, "identity": {"model.activation": "identity"}}


def scores(variant, seed):
    return {"test/accuracy": 0.9 + 0.01 * seed}


def test_a_trial_is_what_its_folder_holds(make_run):
    run = read_run(make_run(variants=VARIANTS, scores=scores))
    assert (run.experiment, run.sweep, run.baseline) == ("experiments.digits_mlp", "activation", "baseline")
    assert run.variants == ("baseline", "identity")
    assert run.seeds == (0, 1, 2)
    trial = run.of("identity")[1]
    assert (trial.name, trial.seed, trial.status, trial.steps, trial.stacked) == ("identity-s1", 1, "finished", 1000, 3)
    assert trial.parameters == 118282
    assert trial.metrics == {"validation/accuracy": 0.91, "test/accuracy": 0.91}
    assert trial.curves["train", "loss"].steps.tolist() == list(range(100, 1001, 100))


def test_how_a_trial_ended(make_run):
    ends = {
        "baseline-s0": None,
        "baseline-s1": "diverged",
        "baseline-s2": "failed",
        "identity-s0": '{"status": "finished", "metr',
        "identity-s1": {"status": "on fire"},
        "identity-s2": {"pruned_at_step": 400},
    }
    run = read_run(make_run(variants=VARIANTS, scores=scores, ends=ends))
    statuses = {trial.name: trial.status for trial in run.trials}
    assert statuses == {
        "baseline-s0": "missing",
        "baseline-s1": "diverged",
        "baseline-s2": "failed",
        "identity-s0": "unreadable",
        "identity-s1": "unreadable",
        "identity-s2": "pruned",
    }
    assert "on fire" in run.of("identity")[1].error


@pytest.mark.parametrize("text", ["[]", "null", '{"status": 3}', '{"status": "finished", "metrics": [1]}', "\x00", ""])
def test_a_result_that_is_none_is_unreadable(make_run, text):
    folder = make_run(variants={"base": {}}, scores=scores, seeds=(0,), baseline=None)
    (folder / "trials/base-s0/result.json").write_text(text)
    (trial,) = read_run(folder).trials
    assert trial.status == "unreadable"
    assert trial.error.startswith("result.json: ")


def test_bytes_that_are_no_text_are_unreadable(make_run):
    folder = make_run(variants={"base": {}}, scores=scores, seeds=(0,), baseline=None)
    (folder / "trials/base-s0/result.json").write_bytes(b"\xff\xfe\x00")
    assert read_run(folder).trials[0].status == "unreadable"


def test_only_finite_numbers_are_metrics(make_run):
    metrics = '{"test/a": 1, "test/b": null, "test/c": NaN, "test/d": Infinity, "test/e": true, "test/f": "1"}'
    text = f'{{"status": "finished", "metrics": {metrics}}}'
    folder = make_run(variants={"base": {}}, scores=scores, seeds=(0,), ends={"base-s0": text})
    assert read_run(folder).trials[0].metrics == {"test/a": 1.0}


def write_lines(folder, *lines, part="metrics.jsonl"):
    (folder / "trials/base-s0" / part).write_text("\n".join(lines))


def test_a_cut_line_is_skipped_and_counted_and_null_is_nan(make_run):
    folder = make_run(variants={"base": {}}, scores=scores, seeds=(0,))
    write_lines(
        folder,
        '{"step": 100, "split": "train", "loss": 2.0}',
        '{"step": 200, "split": "train", "loss": null}',
        '{"step": 300, "split": "train", "lo',
    )
    (trial,) = read_run(folder).trials
    curve = trial.curves["train", "loss"]
    assert curve.steps.tolist() == [100, 200]
    assert curve.values[0] == 2.0
    assert math.isnan(curve.values[1])
    assert trial.cut_lines == 1


def test_parts_are_joined_in_their_order_and_a_later_line_holds(make_run):
    folder = make_run(variants={"base": {}}, scores=scores, seeds=(0,))
    write_lines(folder, '{"step": 100, "split": "train", "loss": 5}', '{"step": 200, "split": "train", "loss": 4}')
    write_lines(folder, '{"step": 300, "split": "train", "loss": 1}', part="metrics.00010.jsonl")
    write_lines(folder, '{"step": 200, "split": "train", "loss": 3}', part="metrics.00002.jsonl")
    curve = read_run(folder).trials[0].curves["train", "loss"]
    np.testing.assert_array_equal(curve.steps, [100, 200, 300])
    np.testing.assert_array_equal(curve.values, [5, 3, 1])


def test_names_with_brackets_and_stars(make_run):
    folder = make_run("[a]*", variants={"**w=[1]?": {"model.width": 1}}, scores=scores, seeds=(0,), baseline=None)
    (trial,) = read_run(folder).trials
    assert trial.status == "finished"
    assert ("train", "loss") in trial.curves


def test_a_folder_that_is_no_run(make_run, tmp_path):
    make_run("inside", variants=VARIANTS, scores=scores)
    with pytest.raises(RequestError, match="no such folder") as error:
        read_run(tmp_path / "nowhere")
    assert "\n" not in str(error.value)
    with pytest.raises(RequestError, match="has no sweep.json; did you mean .*inside"):
        read_run(tmp_path)
    with pytest.raises(RequestError, match="no run given"):
        read_runs([])


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"trials": [1]}', '{"trials": [{"seed": 1}]}'])
def test_a_damaged_sweep_is_one_line(make_run, text):
    folder = make_run(variants=VARIANTS, scores=scores)
    (folder / "sweep.json").write_text(text)
    with pytest.raises(RequestError, match="sweep.json") as error:
        read_run(folder)
    assert "\n" not in str(error.value)


def test_a_run_without_a_sweep_is_base(make_run):
    folder = make_run("base", variants={"base": {}}, scores=scores, seeds=(0,), baseline=None, sweep=None)
    run = read_run(folder)
    assert run.sweep == "base"
    assert run.command == "python -m launch run experiments.digits_mlp --seeds 1"


def test_the_command_asks_for_the_same_again(make_run):
    folder = make_run(
        variants=VARIANTS,
        scores=scores,
        experiment="my file.py",
        settings={"model.depth": "4", "model.widths": "[8, 8]"},
    )
    expected = (
        "python -m launch run 'my file.py' --sweep activation --seeds 3 --set model.depth=4 --set 'model.widths=[8, 8]'"
    )
    assert read_run(folder).command == expected
    typed = "python -m launch run digits_mlp --out 'my own runs' --sweep activation --on ray --out=elsewhere/x"
    folder = make_run("typed", variants=VARIANTS, scores=scores, command=typed)
    assert read_run(folder).command == "python -m launch run digits_mlp --sweep activation --on ray"
    folder = make_run("notebook", variants=VARIANTS, scores=scores, command="python -m launch -f kernel.json")
    assert read_run(folder).command == "python -m launch run experiments.digits_mlp --sweep notebook --seeds 3"
    folder = make_run("other", variants=VARIANTS, scores=scores, seeds=(3, 7))
    assert "--seeds" not in read_run(folder).command


def test_what_else_sweep_json_says(make_run):
    folder = make_run(
        variants=VARIANTS,
        scores=scores,
        commit="0123456789abcdef+changes",
        created="2026-01-02T03:04:05+00:00",
        prune="validation/loss:min",
    )
    run = read_run(folder)
    assert (run.short_commit, run.date, run.metric) == ("0123456789ab+changes", "2026-01-02", "validation/loss")
    folder = make_run("bare", variants=VARIANTS, scores=scores, commit=None, versions=None, protocol=None, hash=None)
    assert read_run(folder).short_commit == ""


def test_the_metric_of_a_run_is_the_one_that_its_checkpoints_were_kept_by(make_run):
    def kept_by(*metrics):
        folder = make_run(variants=VARIANTS, scores=scores)
        for path, metric in zip(sorted(folder.glob("trials/*/config.json")), itertools.cycle(metrics), strict=False):
            path.write_text(json.dumps({"experiment": {"checkpoints": {"best": metric}}}))
        return read_run(folder).metric

    assert kept_by("validation/wer") == "validation/wer"
    assert kept_by(None) == kept_by("validation/wer", "validation/loss") == ""


@pytest.mark.parametrize(
    ("sweeps", "experiments", "expected"),
    [
        (("lr", "wd"), ("a.x", "a.x"), ["lr", "wd"]),
        (("lr", "lr"), ("a.x", "a.y"), ["x", "y"]),
        (("lr", "lr", "wd"), ("a.x", "b/y.py", "a.x"), ["x/lr", "y/lr", "x/wd"]),
        (("lr", "lr"), ("a.x", "a.x"), ["run0", "run1"]),
    ],
)
def test_labels_tell_runs_apart(make_run, sweeps, experiments, expected):
    folders = [
        make_run(f"run{i}", variants=VARIANTS, scores=scores, sweep=sweep, experiment=experiment)
        for i, (sweep, experiment) in enumerate(zip(sweeps, experiments, strict=True))
    ]
    assert [run.label for run in read_runs(folders)] == expected


def test_a_folder_given_twice_is_one_run(make_run):
    folder = make_run(variants=VARIANTS, scores=scores)
    assert [run.label for run in read_runs([folder, folder])] == [""]


def test_lookup_follows_mappings_and_lists():
    config = {"model": {"widths": [64, 32]}, "data": {"transforms": [{"size": 28}]}}
    assert lookup(config, "model.widths.1") == 32
    assert lookup({"experiment": config, "hash": "x"}, "data.transforms.0.size") == 28
    assert lookup(config, "model.depth", "absent") == "absent"
    assert lookup(json.loads("[]"), "model") is None


def test_metrics_of_every_evaluation_are_those_of_the_tested_checkpoint():
    curve = Curve(np.array([5, 10, 15]), np.array([0.5, 0.2, 0.4]))
    trial = TrialResult(
        "a-s0",
        "a",
        best_step=10,
        metrics={"validation/loss": 0.4, "samples/fid": 0.4, "test/loss": 0.3, "train/loss": 0.4},
        curves={("validation", "loss"): curve, ("samples", "fid"): curve, ("train", "loss"): curve},
    )
    assert _at_best_step(trial).metrics == {
        "validation/loss": 0.2, "samples/fid": 0.2, "test/loss": 0.3, "train/loss": 0.4,
    }  # fmt: skip
