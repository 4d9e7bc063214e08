"""Evaluations with compiled programs: every example once, streamed outputs, masks, samples made from keys."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys
from command_line import lines, read

from research.config.hparams import hparams
from research.data.feeds import make_feeds
from research.errors import RequestError
from research.evaluation.evaluations import Evaluation
from research.evaluation.exhibit_files import read_exhibits
from research.evaluation.exhibits import ImageGrid
from research.optimizers import SGD
from research.tasks.classification import Classification
from research.tasks.randomness import per_example
from research.tasks.task import Task
from research.training import loop
from research.training.check import check_trainable
from research.training.checkpoints import Checkpoints
from research.training.early_stopping import EarlyStopping
from research.training.evaluate import Evaluations, _fetched, _joined, evaluate, evaluation_memory, outputs_of
from research.training.loop import Interrupted, train
from research.training.programs import make_programs
from research.training.progress import Progress
from research.training.trial import Trial


@dataclasses.dataclass(frozen=True, kw_only=True)
class Samples(Task):
    """Draws noise from the keys and applies the model to it, without data."""

    better: ClassVar = {"spread": "max"}

    def eval_outputs(self, apply, batch):
        assert batch.keys() == {"key", "weight", "example"}
        noise = per_example(batch["key"], 0, jax.random.normal, (4, 3))
        return {"noise": noise, "logits": apply(x=noise)}

    def finalize(self, outputs):
        return {"spread": float(outputs["logits"].std()), "made": len(outputs["noise"])}

    def exhibits(self, outputs):
        return {"grid": ImageGrid(images=np.zeros((1, 2, 4, 4, 1)))}


SAMPLES = Evaluation("samples", examples=10, every=8, task=Samples())


def own(**changes):
    return toys.experiment(**{"steps": 24, "eval_every": 12, "checkpoints": Checkpoints(every_seconds=None)} | changes)


@pytest.fixture(scope="module")
def feeds():
    data = toys.experiment().data
    return make_feeds(data.load(), data)


@pytest.fixture(scope="module")
def trained(feeds):
    """Returns an experiment that evaluates samples, its programs, and a state."""
    experiment = own(evaluations=(SAMPLES,))
    programs = make_programs(experiment, feeds.train.resident)
    with feeds.train.batches(0, experiment.batch_size) as batches:
        state = programs.init([0], [hparams(experiment)], batches.largest())
    return experiment, programs, state


@pytest.mark.parametrize("size", [1, 3, 10, 64])
def test_samples_do_not_depend_on_the_batch_size(trained, feeds, size):
    experiment, programs, state = trained
    feed = Evaluations(experiment, feeds).feed(SAMPLES)
    sized = dataclasses.replace(experiment, eval_batch_size=size)
    found = outputs_of(programs, state, feed, sized, SAMPLES)[0]
    reference = outputs_of(programs, state, feed, experiment, SAMPLES)[0]
    assert found["noise"].shape == (10, 4, 3)
    np.testing.assert_array_equal(found["noise"], reference["noise"])
    other = outputs_of(programs, state, feed, experiment, dataclasses.replace(SAMPLES, seed=1))[0]
    assert abs(other["noise"] - reference["noise"]).min() > 0


def test_the_first_examples_of_a_split(trained, feeds):
    experiment, programs, state = trained
    split = feeds.evaluation["validation"]
    whole = outputs_of(programs, state, split, experiment, Evaluation("validation"))[0]
    first = outputs_of(programs, state, split, experiment, Evaluation("some", split="validation", examples=7))[0]
    assert len(first["loss"]) == 7 and len(whole["loss"]) == 40
    np.testing.assert_allclose(first["loss"], whole["loss"][:7], rtol=1e-6)
    assert evaluate(programs, state, split, experiment)[0].keys() >= {"loss", "accuracy"}


def test_outputs_are_fetched_while_the_next_batch_is_on_its_way(trained):
    _, programs, _ = trained
    events = []

    def started():
        for i in range(3):
            events.append(f"start {i}")
            yield np.array([i]), {"x": jnp.full((1,), i)}

    for numbers, outputs in _fetched(programs, started()):
        assert isinstance(outputs["x"], np.ndarray)
        events.append(f"host {numbers[0]}")
    assert events == ["start 0", "start 1", "host 0", "start 2", "host 1", "host 2"]


def test_ragged_outputs_need_a_mask():
    short, long = np.ones((2, 3), np.int32), np.full((2, 5), 2, np.int32)
    with pytest.raises(RequestError, match=r"eval_outputs gives tokens \[2, 3\] and \[2, 5\].*tokens_mask beside it"):
        _joined("tokens", [{"tokens": short}, {"tokens": long}])
    batches = [{"tokens": x, "tokens_mask": np.ones_like(x, bool)} for x in (short, long)]
    joined, mask = (_joined(name, batches) for name in ("tokens", "tokens_mask"))
    assert joined.shape == mask.shape == (4, 5)
    assert joined[mask].tolist() == [1] * 6 + [2] * 10 and not joined[~mask].any()


def test_memory_of_evaluations_grows_with_their_batch(trained, feeds):
    experiment, programs, state = trained
    few, many = (
        evaluation_memory(programs, state, dataclasses.replace(experiment, eval_batch_size=size), feeds)
        for size in (2, 512)
    )
    assert 0 < few < many


def train_into(folder, experiment, feeds, *, stop=lambda: False, seeds=(0,), stacked=False):
    trials = [Trial(str(seed), dataclasses.replace(experiment, seed=seed), folder / str(seed)) for seed in seeds]
    train(trials, feeds, stacked=stacked, progress=Progress(), stop=stop)
    return [folder / str(seed) for seed in seeds]


def test_evaluations_have_their_own_cadence_task_and_exhibits(tmp_path, feeds, monkeypatch):
    computed = []

    def counting(programs, state, feed, experiment, evaluation):
        computed.append(evaluation.name)
        return outputs_of(programs, state, feed, experiment, evaluation)

    monkeypatch.setattr(loop, "outputs_of", counting)
    fit = Evaluation("fit", split="train", examples=20, task=Classification(classes=3))
    experiment = own(evaluations=(SAMPLES, fit), ema_decay=0.9)
    check_trainable(experiment, feeds)
    (folder,) = train_into(tmp_path, experiment, feeds)
    made = [(line["split"], line["step"]) for line in lines(folder) if line["split"] != "train"]
    assert made == [
        ("samples", 8), ("validation", 12), ("samples", 16), ("validation", 24), ("samples", 24), ("test", 24),
        ("fit", 24),
    ]  # fmt: skip
    assert computed == [name for name, _ in made]  # each when it is due, and no more
    result = read(folder / "result.json")["metrics"]
    assert result["samples/made"] == 10 and result["fit/accuracy"] > 0.5
    assert [saved.step for saved in read_exhibits(folder) if saved.evaluation == "samples"] == [8, 16, 24]


def test_the_best_state_is_chosen_by_any_evaluation_during_training(tmp_path, feeds):
    best = Checkpoints(every_seconds=None, best="samples/spread")
    experiment = own(evaluations=(SAMPLES,), checkpoints=best, optimizer=SGD(learning_rate=0.1))
    check_trainable(experiment, feeds)
    (folder,) = train_into(tmp_path, experiment, feeds)
    spreads = {line["step"]: line["spread"] for line in lines(folder) if line["split"] == "samples"}
    assert spreads.keys() == {8, 16, 24}
    assert read(folder / "result.json")["best_step"] == max(spreads, key=spreads.get)


def test_a_split_that_the_data_lack_and_a_metric_that_is_not_there_are_told_before_training(feeds):
    without = dataclasses.replace(feeds, evaluation={})
    with pytest.raises(RequestError, match=r"evaluations.0: the data have no validation split"):
        check_trainable(own(evaluations=(Evaluation("a", split="validation"),)), without)
    stopping = EarlyStopping("validation/top_9_accuracy")
    with pytest.raises(RequestError, match=r"early_stopping.metric=validation/top_9_accuracy: no such metric"):
        check_trainable(own(early_stopping=stopping), feeds)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Never(Classification):
    """Gives a validation metric that never improves after the first evaluation, for trials with an odd seed."""

    better = {**Classification.better, "made_up": "min"}

    def finalize(self, outputs):
        return {**super().finalize(outputs), "made_up": 1.0}


PATIENT = {
    "task": Never(classes=3),
    "eval_every": 4,
    "early_stopping": EarlyStopping("validation/made_up", patience=2),
}


@pytest.mark.parametrize("stacked", [True, False])
def test_training_ends_where_nothing_improves(tmp_path, feeds, stacked):
    for folder in train_into(tmp_path, own(**PATIENT), feeds, seeds=(0, 1), stacked=stacked):
        result = read(folder / "result.json")
        assert (result["status"], result["steps"], result["stopped_at_step"]) == ("finished", 12, 12)
        assert "test/accuracy" in result["metrics"]
        assert [line["step"] for line in lines(folder) if line["split"] == "validation"] == [4, 8, 12]


def test_of_a_stack_only_those_end_that_do_not_improve(tmp_path, feeds):
    improving = {"eval_every": 4, "early_stopping": EarlyStopping("validation/loss", patience=1, min_delta=0.0)}
    base = own(**improving, optimizer=SGD(learning_rate=0.1))
    still = dataclasses.replace(base, optimizer=SGD(learning_rate=0.0))
    trials = [Trial(name, e, tmp_path / name) for name, e in (("learns", base), ("still", still))]
    train(trials, feeds, stacked=True, progress=Progress())
    learns, ended = (read(tmp_path / name / "result.json") for name in ("learns", "still"))
    assert ended["stopped_at_step"] == 8 and learns["steps"] > 8
    assert ended["status"] == learns["status"] == "finished"
    alone = train_into(tmp_path / "alone", base, feeds)[0]
    np.testing.assert_allclose(
        read(alone / "result.json")["metrics"]["test/loss"], learns["metrics"]["test/loss"], rtol=1e-4
    )


def test_a_run_that_is_continued_stops_where_it_would_have(tmp_path, feeds):
    calls = iter(range(100))
    experiment = own(**PATIENT, checkpoints=Checkpoints(every_steps=1, every_seconds=None), log_every=24)
    with pytest.raises(Interrupted):
        train_into(tmp_path, experiment, feeds, stop=lambda: next(calls) == 3)
    (folder,) = train_into(tmp_path, experiment, feeds)
    assert read(folder / "result.json")["stopped_at_step"] == 12
    (folder / "result.json").unlink()  # as if killed between the last save and the result
    train_into(tmp_path, experiment, feeds)
    assert read(folder / "result.json")["stopped_at_step"] == 12
    assert [line["step"] for line in lines(folder) if line["split"] == "test"] == [12]
