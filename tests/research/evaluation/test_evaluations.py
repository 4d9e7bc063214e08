"""Evaluations as values: defaults, invalid values, and metrics to select by."""

import dataclasses

import pytest
import toys

from research.config.serialization import from_json, to_json
from research.errors import RequestError
from research.evaluation.evaluations import Evaluation, complete, directions_of, selecting
from research.tasks.classification import Classification
from research.training.checkpoints import Checkpoints
from research.training.early_stopping import EarlyStopping


class Other(Classification):
    better = {"loss": "max", "fid": "min"}


def own(*evaluations, **changes):
    return toys.experiment(evaluations=evaluations, **changes)


def test_validation_and_test_are_there_by_default_and_can_be_replaced():
    names = {e.name: (e.every, e.once) for e in own().all_evaluations()}
    assert names == {"validation": (20, False), "test": (None, True)}
    at_the_end = complete((), eval_every=None, steps=40)[0]
    assert at_the_end.every == 40 and not at_the_end.once  # evaluates the last state, not the best
    replaced = own(Evaluation("validation", examples=8), Evaluation("fit", split="train", every=10)).all_evaluations()
    assert [(e.name, e.every, e.examples) for e in replaced] == [
        ("validation", 20, 8), ("test", None, None), ("fit", 10, None),
    ]  # fmt: skip


def test_an_experiment_with_evaluations_goes_through_json():
    experiment = own(
        Evaluation("samples", examples=4, every=8, task=Classification(classes=3)),
        early_stopping=EarlyStopping("validation/loss", patience=2),
    )
    assert from_json(to_json(experiment)) == experiment


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"evaluations": (Evaluation("train"),)}, "evaluations.0.name='train': reserved for the metrics of training"),
        ({"evaluations": (Evaluation("../x", split="train"),)}, "evaluations.0.name='../x': expected letters"),
        (
            {"evaluations": (Evaluation("a", split="tests"),)},
            "evaluations.0.split='tests': no such split; did you mean",
        ),
        ({"evaluations": (Evaluation("samples"),)}, "evaluations.0.examples=none: 'samples' is no split"),
        ({"evaluations": (Evaluation("test", every=5),)}, "evaluations.0.every=5: the test split is scored once"),
        ({"evaluations": (Evaluation("last", split="test", every=5),)}, "evaluations.0.every=5: the test split"),
        (
            {"evaluations": (Evaluation("test", split="validation"),)},
            "evaluations.0.split='validation': the evaluation",
        ),
        ({"evaluations": (Evaluation("fit", split="train", every=0),)}, "evaluations.0.every=0: expected at least 1"),
        ({"evaluations": (Evaluation("a", examples=0),)}, "evaluations.0.examples=0: expected at least 1"),
        ({"evaluations": (Evaluation("a", examples=1, seed=-1),)}, "evaluations.0.seed=-1"),
        ({"evaluations": (Evaluation("a", examples=1),) * 2}, "evaluations.1.name='a': the name is taken"),
        ({"evaluations": (Evaluation("validation", every=7),)}, "eval_every=20 and evaluations.0.every=7 both say"),
        (
            {"evaluations": (Evaluation("a", examples=1, task=Classification(classes=0)),)},
            "evaluations.0.task.classes=0",
        ),
        (
            {"checkpoints": Checkpoints(best="test/loss")},
            "checkpoints.best=test/loss: expected a metric of an evaluation",
        ),
        ({"checkpoints": Checkpoints(best="loss")}, "checkpoints.best=loss: expected a metric of an evaluation"),
        (
            {"checkpoints": Checkpoints(best="validation/hits")},
            "checkpoints.best=validation/hits: Classification does not",
        ),
        ({"early_stopping": EarlyStopping("test/loss")}, "early_stopping.metric=test/loss: expected a metric of an"),
        ({"early_stopping": EarlyStopping("validation/loss", patience=0)}, "early_stopping.patience=0: expected at"),
        ({"early_stopping": EarlyStopping("validation/loss", min_delta=-1.0)}, "early_stopping.min_delta=-1.0"),
    ],
)
def test_what_is_no_evaluation_is_refused_in_one_line(changes, line):
    with pytest.raises(RequestError) as error:
        toys.experiment(**changes).check()
    assert str(error.value).startswith(line) and "\n" not in str(error.value)


def test_a_metric_is_selected_by_with_the_direction_of_its_own_task():
    experiment = own(Evaluation("samples", examples=4, every=8, task=Other(classes=3)), Evaluation("late", examples=4))
    evaluations, task = experiment.all_evaluations(), experiment.task
    assert selecting("", "validation/loss", evaluations, task)[1] == "min"
    evaluation, direction = selecting("", "samples/loss", evaluations, task)
    assert (evaluation.name, direction) == ("samples", "max")
    with pytest.raises(RequestError, match="expected a metric of an evaluation during training"):
        selecting("", "late/loss", evaluations, task)
    declared = directions_of(task, experiment.evaluations)
    assert declared["loss"] == "min" and declared["samples/loss"] == "max" and declared["samples/fid"] == "min"


def test_hparams_of_an_evaluation_s_task_are_part_of_the_experiment():
    from research.config.hparams import hparams

    smoothed = Evaluation("fit", split="train", task=Classification(classes=3, label_smoothing=0.25))
    found = {path for path in hparams(own(smoothed)) if path.startswith("evaluations.0")}
    alone = {f"evaluations.0.task.{path}" for path in hparams(smoothed.task)}
    assert found == alone
    assert dataclasses.replace(smoothed, name="other") != smoothed
