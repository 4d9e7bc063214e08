"""Files that a launcher writes to a run's folder before training."""

import dataclasses
import json

import pytest

from experiments.digits_mlp import experiment
from launch.request import read_request
from research.config.migration import LAYOUT, MOVED_MODULES
from research.config.override import override
from research.config.serialization import from_json
from research.data.transforms import Standardize
from research.errors import RequestError
from research.running.folder import RunFolder
from research.tasks import Classification
from research.training.checkpoints import Checkpoints
from research.training.folder import read_experiment


@dataclasses.dataclass(frozen=True, kw_only=True)
class Spread(Classification):
    better = {**Classification.better, "spread": "min"}


def test_a_config_says_which_way_each_metric_is_better(tmp_path):
    asked = dataclasses.replace(experiment(), task=Spread(classes=10))
    RunFolder(tmp_path).write_config("base-s0", asked)
    config = json.loads((tmp_path / "trials/base-s0/config.json").read_text())
    assert config["better"] == Spread.better
    assert config["better"]["loss"] == "min" and config["better"]["accuracy"] == "max"
    assert from_json(config["experiment"]) == asked


def older(record):
    """A record in the form used before modules moved and fields were removed."""
    if isinstance(record, list):
        return [older(entry) for entry in record]
    if not isinstance(record, dict):
        return record
    record = {key: older(entry) for key, entry in record.items()}
    moved = {new: old for old, new in MOVED_MODULES.items()}
    module, _, name = record.get("_type", "").partition(":")
    if module:
        record["_type"] = f"{moved.get(module, module)}:{name}"
    return record | {"MLP": {"axis_name": None}, "Checkpoints": {"mode": "max"}}.get(name, {})


@pytest.fixture
def before(tmp_path):
    """(folder, request) of a run started before modules moved."""
    asked = read_request("digits_mlp", sweep="activation", settings=["checkpoints.best=validation/accuracy"])
    folder = RunFolder(tmp_path)
    folder.write_request(asked, "auto", None)
    sweep = older(json.loads(folder.sweep_file.read_text()))
    del sweep["layout"]
    for trial in [sweep, *sweep["trials"]]:
        trial["hash"] = "of another layout"
    folder.sweep_file.write_text(json.dumps(sweep))
    for trial in asked.trials:
        folder.write_config(trial.name, trial.experiment)
        path = folder.trial(trial.name) / "config.json"
        path.write_text(json.dumps(older(json.loads(path.read_text())) | {"hash": "of another layout"}))
    return folder, asked


def continued(folder, asked, **changes):
    """Applies the checks for a continued run."""
    folder.check_same(asked, None)
    folder.check_configs({t.name: dataclasses.replace(t.experiment, **changes) for t in asked.trials})


def test_a_run_of_an_older_layout_is_continued(before):
    folder, asked = before
    assert "research.checkpoints:Checkpoints" in (folder.trial("relu-s0") / "config.json").read_text()
    continued(folder, asked)


def test_a_change_is_told_in_a_run_of_an_older_layout_too(before):
    folder, asked = before
    with pytest.raises(RequestError, match="relu-s0 has changed since .batch_size 128 became 64"):
        continued(folder, asked, batch_size=64)
    fewer = dataclasses.replace(asked, trials=asked.trials[1:])
    with pytest.raises(RequestError, match="the experiment has changed since .trial relu-s0 is gone"):
        continued(folder, fewer)


def test_a_best_checkpoint_of_the_other_direction_is_told(before):
    folder, asked = before
    checkpoints = Checkpoints(best="validation/loss")
    path = folder.trial("relu-s0") / "config.json"
    path.write_text(path.read_text().replace("validation/accuracy", "validation/loss"))
    relu = {"relu-s0": dataclasses.replace(asked.trials[0].experiment, checkpoints=checkpoints)}
    with pytest.raises(RequestError, match="kept the checkpoint with the max of validation/loss, but its task"):
        folder.check_configs(relu)


@pytest.mark.parametrize("loads", [True, False])
def test_a_config_that_was_edited_is_told(tmp_path, loads):
    """Also if its hash was left as it was."""
    folder, asked = RunFolder(tmp_path), dataclasses.replace(experiment(), steps=600)
    folder.write_config("base-s0", asked)
    path = folder.trial("base-s0") / "config.json"
    assert read_experiment(path.parent) == asked
    path.write_text(path.read_text().replace('"steps": 600', '"steps": 601'))
    if loads:
        with pytest.raises(RequestError, match="config.json: changed since it was written"):
            read_experiment(path.parent)
    else:
        with pytest.raises(RequestError, match="base-s0 has changed since .steps 601 became 600"):
            folder.check_configs({"base-s0": asked})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"batch_size": 64}, "trial relu-s0: batch_size 128 became 64"),
        ({"ema_decay": 0.5}, "trial relu-s0: ema_decay None became 0.5"),
        ({"optimizer.learning_rate": 0.5}, "trial relu-s0: optimizer.learning_rate 0.003 became 0.5"),
    ],
)
def test_a_change_of_the_experiment_is_told_before_the_data_are_read(tmp_path, changes, said):
    """Even though the record of the trial also has what is computed from the data."""
    asked = read_request("digits_mlp", sweep="activation")
    folder = RunFolder(tmp_path)
    folder.write_request(asked, "auto", None)
    for trial in asked.trials:
        fitted = override(trial.experiment, {"preprocess": (Standardize("image", mean=1.0, std=2.0),)})
        folder.write_config(trial.name, fitted)
    same = [override(trial.experiment, {"preprocess": (Standardize("image"),)}) for trial in asked.trials]
    other = [
        dataclasses.replace(trial, experiment=override(experiment, changes))
        for trial, experiment in zip(asked.trials, same, strict=True)
    ]
    with pytest.raises(RequestError) as error:
        folder.check_same(dataclasses.replace(asked, trials=tuple(other)), None)
    assert str(error.value) == f"{tmp_path}: the experiment has changed since ({said}); choose another folder"


def test_hashes_count_within_a_layout(before):
    folder, asked = before
    folder.sweep_file.write_text(json.dumps(json.loads(folder.sweep_file.read_text()) | {"layout": LAYOUT}))
    with pytest.raises(RequestError, match="the experiment has changed since"):
        folder.check_same(asked, None)


def test_a_folder_with_nothing_but_a_profile_can_become_a_run(tmp_path):
    asked = read_request("digits_mlp")
    (tmp_path / "profile").mkdir()
    RunFolder(tmp_path).check_same(asked, None)
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(RequestError, match="not empty and not a run"):
        RunFolder(tmp_path).check_same(asked, None)
