"""Selection: validation chooses, declared directions decide, and nothing is guessed."""

import dataclasses
import json

import pytest

from research.report import selection, sentences
from research.report import table as tables
from research.report.markdown import to_markdown
from research.report.read import read_run, read_runs
from research.report.runs import RunResult, TrialResult

# Measured accuracies of `digits_mlp --sweep lr_wd --seeds 2 --set steps=300`: (validation, test).
LR_WD = {
    (0.01, 0.01): (0.9688, 0.9805),
    (0.03, 0.01): (0.9861, 0.9833),
    (0.03, 0.03): (0.9826, 0.9847),
    (0.03, 0.1): (0.9826, 0.9791),
}
GRID = {f"lr={lr},wd={wd}": {"optimizer.learning_rate": lr, "optimizer.weight_decay": wd} for lr, wd in LR_WD}


def lr_wd(variant, seed):
    lr, wd = GRID[variant].values()
    validation, test = LR_WD[lr, wd]
    return {"validation/accuracy": validation, "test/accuracy": test, "test/loss": 1 - test, "validation/loss": test}


@pytest.fixture
def build(make_run):
    def build(name="activation", **asked):
        return tables.build(read_runs([make_run(name, **asked)]))

    return build


def chosen(table):
    return [row.name for row in table.rows if row.chosen]


def bold(table, metric):
    return [row.name for row in table.rows if row.bold(metric)]


def test_validation_chooses_and_test_is_shown_beside_it(build):
    table = build(variants=GRID, scores=lr_wd, baseline=None, seeds=(0, 1))
    assert table.metrics == ("validation/accuracy", "test/accuracy", "test/loss")
    assert chosen(table) == bold(table, "validation/accuracy") == bold(table, "test/accuracy") == ["lr=0.03,wd=0.01"]
    assert bold(table, "test/loss") == []
    said = sentences.summary(table)
    assert said.startswith("lr=0.03,wd=0.01 is best by validation/accuracy, 0.9861")
    assert "its test/accuracy is 0.9833" in said
    assert "lr=0.03,wd=0.03" not in said
    (line,) = (line for line in to_markdown(table).splitlines() if "**0." in line)
    assert line.startswith("| **lr=0.03,wd=0.01** | **0.9861 ± 0.0000 (2)** | **0.9833 ± 0.0000 (2)** | 0.0167")


def test_the_metric_that_the_run_chose_by_chooses(build):
    table = build(variants=GRID, scores=lr_wd, baseline=None, seeds=(0, 1), prune="validation/loss")
    assert table.metrics[:2] == ("validation/loss", "test/loss")
    assert chosen(table) == ["lr=0.03,wd=0.1"]


def test_variants_with_a_baseline_are_compared_and_none_is_chosen(build):
    table = build(variants=GRID, scores=lr_wd, baseline="lr=0.01,wd=0.01", seeds=(0, 1))
    assert chosen(table) == bold(table, "test/accuracy") == []
    assert bold(table, "validation/accuracy") == ["lr=0.03,wd=0.01"]
    assert table.compares("test/accuracy") and not table.compares("validation/accuracy")
    assert "best" not in sentences.summary(table)


def test_without_a_validation_score_none_is_chosen(build):
    table = build(
        variants=GRID,
        scores=lambda v, s: {"test/accuracy": lr_wd(v, s)["test/accuracy"]},
        validation=False,
        baseline=None,
    )
    assert chosen(table) == bold(table, "test/accuracy") == []
    assert sentences.summary(table) == "4 variants by test/accuracy; without a validation score, none is chosen."


def test_a_metric_without_a_direction_chooses_nothing(build):
    table = build(variants=GRID, scores=lambda v, s: {"test/mAP": 0.1 * s, "test/score": 0.2}, baseline=None)
    assert chosen(table) == bold(table, "validation/mAP") == bold(table, "test/mAP") == []
    assert "the task declares no direction for it" in sentences.summary(table)
    assert "↑" not in to_markdown(table) and "↓" not in to_markdown(table)


@pytest.mark.parametrize(("way", "best"), [("min", ["a"]), ("max", ["b"])])
def test_the_declared_direction_decides_not_the_name(build, way, best):
    values = {"a": 0.1, "b": 0.9}
    variants = {name: {"model.name": name} for name in values}
    table = build(
        variants=variants,
        scores=lambda v, s: {"test/accuracy_drop": values[v]},
        baseline=None,
        better={"accuracy_*": way},
    )
    assert chosen(table) == best
    assert table.arrow("test/accuracy_drop") == {"min": " ↓", "max": " ↑"}[way]


def test_equal_validation_scores_share_the_choice(build):
    table = build(variants=GRID, scores=lambda v, s: {"test/accuracy": 0.5}, baseline=None)
    assert len(chosen(table)) == 4
    assert sentences.summary(table).startswith(
        "lr=0.01,wd=0.01, lr=0.03,wd=0.01, lr=0.03,wd=0.03 and lr=0.03,wd=0.1 share"
    )


def test_a_single_variant_is_not_chosen(build):
    table = build(variants={"base": {}}, scores=lambda v, s: {"test/accuracy": 0.5}, baseline=None)
    assert chosen(table) == bold(table, "test/accuracy") == []
    assert table.metrics == ("test/accuracy",)


def test_validation_scores_are_those_of_the_checkpoint_that_was_tested(make_run):
    folder = make_run(
        variants=GRID, scores=lr_wd, baseline=None, seeds=(0,), ends={"lr=0.01,wd=0.01-s0": {"best_step": 400}}
    )
    trial, other = read_run(folder).trials[:2]
    curve = trial.curves["validation", "accuracy"]
    assert trial.metrics["validation/accuracy"] == curve.values[list(curve.steps).index(400)] != 0.9688
    assert trial.metrics["test/accuracy"] == 0.9805
    assert other.metrics["validation/accuracy"] == 0.9861


# Directions ---------------------------------------------------------------------------------------


def test_runs_written_before_directions_were_take_those_of_the_library(make_run):
    folder = make_run(variants={"base": {}}, scores=lambda v, s: {"test/accuracy": 0.5}, baseline=None, better=None)

    def read(task):
        for path in folder.glob("trials/*/config.json"):
            path.write_text(json.dumps({"experiment": {"task": {"_type": task}}}))
        return read_run(folder)

    run = read("research.tasks.classification:Classification")
    assert (run.direction("test/accuracy"), run.direction("validation/loss")) == ("max", "min")
    assert run.direction("test/accuracy_drop") is None
    for other in ("elsewhere:Task", "research.tasks.gone:Task", "research.tasks.classification:Gone", "", "json:loads"):
        assert read(other).direction("test/accuracy") is None


def test_only_classes_of_the_library_are_imported(make_run, tmp_path, monkeypatch):
    (tmp_path / "intruder.py").write_text("raise SystemExit('was imported')")
    monkeypatch.syspath_prepend(tmp_path)
    folder = make_run(variants={"base": {}}, scores=lambda v, s: {"test/accuracy": 0.5}, baseline=None, better=None)
    for path in folder.glob("trials/*/config.json"):
        path.write_text(json.dumps({"experiment": {"task": {"_type": "intruder:Task"}}}))
    assert read_run(folder).direction("test/accuracy") is None


@pytest.mark.parametrize("better", [{"accuracy": "up"}, {"accuracy": ["max"]}, [], "max", None, {}])
def test_what_is_no_declaration_declares_nothing(make_run, better):
    folder = make_run(variants={"base": {}}, scores=lambda v, s: {"test/accuracy": 0.5}, baseline=None, better=better)
    assert read_run(folder).direction("test/accuracy") is None


def test_trials_that_disagree_give_no_direction(make_run):
    folder = make_run(variants={"a": {}, "b": {}}, scores=lambda v, s: {"test/accuracy": 0.5}, baseline=None)
    config = folder / "trials/b-s0/config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"better": {"accuracy": "min", "loss": "min"}}))
    run = read_run(folder)
    assert run.direction("test/accuracy") is None and run.direction("test/loss") == "min"


# Columns ------------------------------------------------------------------------------------------

WAYS = {"loss": "min", "accuracy": "max", "bleu": "max", "wer": "min", "fid": "min"}


def of_metrics(*names, **fields):
    trial = TrialResult("a-s0", "a", 0, status="finished", metrics=dict.fromkeys(names, 1.0), better=WAYS)
    return RunResult("run", "experiment", "sweep", (trial,), **fields)


def stated(*names, **fields):
    return selection.criterion(of_metrics(*names, **fields)).score


def test_columns_are_the_test_metrics_or_else_validation():
    names = ("validation/loss", "test/loss", "test/accuracy", "train/loss", "samples/fid")
    run = of_metrics(*names)
    assert selection.columns(run, several=False) == ("test/accuracy", "test/loss", "samples/fid")
    assert selection.columns(of_metrics("validation/loss", "train/loss"), several=True) == ("validation/loss",)
    assert selection.columns(of_metrics(), several=True) == ()
    assert stated(*names, metric="validation/loss") == "test/loss"
    assert stated(*names, metric="samples/fid") == "samples/fid"


def test_a_score_is_stated_before_an_error_before_a_loss():
    assert stated("test/tokens", "test/loss", "test/wer", "test/bleu") == "test/bleu"
    assert stated("test/tokens", "test/loss", "test/wer") == "test/wer"
    assert stated("test/tokens", "test/loss") == "test/loss"


def test_no_test_score_chooses():
    found = selection.criterion(of_metrics("test/accuracy", "validation/accuracy", metric="test/accuracy"))
    assert found.chooser == "validation/accuracy"
    assert not selection.criterion(of_metrics("test/accuracy", metric="test/accuracy")).chooses


def test_the_stated_metric_is_one_that_all_variants_have():
    """An encoder alone has no token accuracy, but both models have a word error rate."""
    own = {"a": ("test/loss", "test/wer"), "b": ("test/accuracy", "test/loss", "test/wer")}
    trials = [
        TrialResult(f"{v}-s0", v, 0, status="finished", metrics=dict.fromkeys(names, 1.0), better=WAYS)
        for v, names in own.items()
    ]
    trials.append(TrialResult("c-s0", "c", 0, status="failed"))
    run = RunResult("run", "experiment", "sweep", tuple(trials))
    assert selection.columns(run, several=True) == ("test/wer", "test/loss", "test/accuracy")
    assert selection.criterion(dataclasses.replace(run, metric="validation/loss")).score == "test/loss"


# Runs side by side --------------------------------------------------------------------------------

DIGITS = {"_type": "research.data.sources.scikit:Sklearn", "name": "digits", "storage": "auto"}


def side_by_side(make_run, *datas, **asked):
    """Runs of one variant each, the first with the best scores."""
    folders = []
    for i, data in enumerate(datas):
        values = {"test/accuracy": 0.9 - 0.1 * i}
        own = {"variants": {"base": {}}, "baseline": None, "data": data, "experiment": f"experiments.{i}"}
        folders.append(make_run(f"run{i}", scores=lambda v, s, values=values: values, **(own | asked)))
    return tables.build(read_runs(folders))


def test_runs_of_other_data_are_not_ranked_together(make_run):
    table = side_by_side(make_run, DIGITS, DIGITS | {"name": "wine"})
    assert len(table.groups) == 2
    assert chosen(table) == bold(table, "test/accuracy") == []
    said = sentences.summary(table)
    assert said.startswith("Runs with different data (data.name: digits, wine) are not ranked against each other.")
    assert "best" not in said
    assert "run0/base: test/accuracy 0.9000" in said and "run1/base: test/accuracy 0.8000" in said
    assert sum("not ranked" in note for note in sentences.notes(table)) == 1


def test_other_classes_of_data_are_named_by_their_class(make_run):
    table = side_by_side(make_run, DIGITS, {"_type": "research.data.sources.tables:Table", "path": "wine.csv"})
    assert "Runs with different data (data: Sklearn, Table)" in sentences.summary(table)


def test_runs_of_the_same_data_are_ranked_by_validation(make_run):
    table = side_by_side(make_run, DIGITS, DIGITS | {"storage": "host", "train_examples": 10})
    assert len(table.groups) == 1
    assert chosen(table) == ["run0/base"]
    assert sentences.summary(table).startswith("run0/base is best by validation/accuracy")


def test_without_configs_the_experiment_stands_for_its_data(make_run):
    assert len(side_by_side(make_run, None, None).groups) == 2
    same = side_by_side(make_run, None, None, experiment="experiments.digits_mlp")
    assert len(same.groups) == 1 and chosen(same) == ["run0/base"]


def test_a_split_of_their_own_keeps_runs_apart(make_run):
    table = side_by_side(make_run, DIGITS | {"split_seed": 0}, DIGITS | {"split_seed": 1})
    assert "data.split_seed: 0, 1" in sentences.summary(table)
    assert chosen(table) == []


def test_evaluations_of_their_own_keep_runs_apart(make_run):
    """A score of the first hundred examples is not compared with one of all."""
    few = {"name": "test", "split": None, "examples": 100}
    groups = []
    for listed in ([few, {"name": "fit", "split": "train", "examples": 5}], [few], []):
        folder = make_run("few", variants={"a": {}}, scores=lambda v, s: {"test/accuracy": 0.5}, data=DIGITS)
        for path in folder.glob("trials/*/config.json"):
            config = json.loads(path.read_text())
            config["experiment"]["evaluations"] = listed
            path.write_text(json.dumps(config))
        groups.append(read_run(folder))
    assert [len(group) for group in selection.comparable(groups)] == [2, 1]


def test_variants_with_data_of_their_own_are_told(build):
    sets = {name: {"data.name": name, "data.storage": "host"} for name in ("digits", "wine")}
    scores = {"digits": 0.9, "wine": 0.8}
    for baseline in (None, "digits"):
        table = build(variants=sets, scores=lambda v, s: {"test/accuracy": scores[v]}, baseline=baseline)
        said = "Variants differ in their data (data.name: digits, wine): their scores may be of different examples."
        assert sentences.summary(table).endswith(said) and said in sentences.notes(table)
    same = {name: {"data.train_examples": n} for n, name in enumerate(("few", "many"), 1)}
    table = build(variants=same, scores=lambda v, s: {"test/accuracy": 0.5}, splits=(0, 1))
    assert "different examples" not in " ".join([sentences.summary(table), *sentences.notes(table)])
