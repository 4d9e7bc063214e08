"""The training loop: the files it writes, stopping and resuming without a trace, and failures of single trials."""

import dataclasses
import functools
import itertools
import json
import re
import shutil
import struct
import types

import jax
import numpy as np
import pytest
import toys
from command_line import files, lines, read, saved_steps, state

from research.config.hparams import hparams
from research.data.feed import Batches, make_feed
from research.data.feeds import make_feeds
from research.models.mlp import MLP
from research.optimizers import SGD, AdamW
from research.parallel.programs import Programs
from research.tasks.classification import Classification
from research.training.checkpoints import Checkpoints, Store
from research.training.evaluate import evaluate
from research.training.loop import Interrupted, train
from research.training.programs import make_programs
from research.training.progress import Progress
from research.training.step import bound_apply, make_init, make_train_step
from research.training.trial import Trial

POLICY = Checkpoints(every_steps=12, every_seconds=None, best="validation/loss")


class LargestLoss(Classification):
    """Declares the largest loss as best, so that the best state is not the last one, which is scored by default."""

    better = {**Classification.better, "loss": "max"}


SELDOM = Checkpoints(every_seconds=None)
"""A policy that saves only when training stops."""


class Notes(Progress):
    """Progress that stores its messages."""

    def __init__(self):
        self.notes = []
        self.started = []

    def start(self, step, total, trials):
        self.started.append((step, tuple(trials)))

    def note(self, text):
        self.notes.append(text)


@functools.cache
def feeds_of(data):
    return make_feeds(data.load(), data)


@functools.cache
def programs_of(experiment, trials):
    """Compiles programs once for all tests of the same experiment."""
    return make_programs(experiment, feeds_of(experiment.data).train.resident, trials=trials)


def go(folder, experiments, *, stacked, stop=lambda: False, until=None):
    """Trains experiments into folder/0, folder/1, ...; returns the progress messages."""
    notes = Notes()
    trials = [Trial(str(i), experiment, folder / str(i)) for i, experiment in enumerate(experiments)]
    plain = dataclasses.replace(experiments[0], seed=0)
    train(
        trials,
        feeds_of(plain.data),
        stacked=stacked,
        progress=notes,
        stop=stop,
        until=until,
        programs=programs_of(plain, len(trials) if stacked else None),
    )
    return notes


def experiments(**changes):
    """Makes three trials that share one program."""
    base = toys.experiment(
        **{
            "model": MLP(widths=(8,), classes=3, dropout=0.2, norm="batch"),
            "task": LargestLoss(classes=3),
            "steps": 24,
            "eval_every": 8,
            "log_every": 5,
            "ema_decay": 0.8,
            "checkpoints": POLICY,
            "parallel": dataclasses.replace(toys.ONE_DEVICE, steps_per_call=4),
            **changes,
        }
    )
    return [dataclasses.replace(base, seed=seed) for seed in (3, 4, 5)]


def same(a, b):
    """Checks that two folders of trials have equal parameters, logs and results, except for times."""
    for one, other in zip(sorted(a.iterdir()), sorted(b.iterdir()), strict=True):
        assert saved_steps(one) == saved_steps(other)
        jax.tree.map(np.testing.assert_array_equal, state(one), state(other))
        assert lines(one) == lines(other)
        untimed = [{k: v for k, v in read(f / "result.json").items() if "second" not in k} for f in (one, other)]
        assert untimed[0] == untimed[1]


@pytest.fixture(scope="module", params=[True, False], ids=["stacked", "one after another"])
def uninterrupted(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("uninterrupted")
    notes = go(folder, experiments(), stacked=request.param)
    assert notes.notes == []
    return folder, request.param


def test_what_a_trial_leaves(uninterrupted):
    folder, stacked = uninterrupted
    for i, trial in enumerate(sorted(folder.iterdir())):
        result = read(trial / "result.json")
        assert result["status"] == "finished" and result["steps"] == 24
        assert result["stacked"] == (3 if stacked else 1)
        assert 0 <= result["starved_seconds"] <= result["seconds"]
        assert result["parameters"] == 12 * 8 + 8 + 2 * 8 + 8 * 3 + 3
        records = lines(trial)
        steps = [(r["step"], r["split"]) for r in records]
        train_steps = [(step, "train") for step in (5, 10, 15, 20, 24)]
        assert sorted(steps) == sorted([*train_steps, *((s, "validation") for s in (8, 16, 24)), (24, "test")])
        assert [step for step, _ in steps] == sorted(step for step, _ in steps)
        assert {f"test/{k}": v for k, v in records[-1].items() if k not in ("step", "split")}.items() <= result[
            "metrics"
        ].items()
        assert result["metrics"]["train/loss"] == records[-3]["loss"]
        assert saved_steps(trial)[-1] == 24 and state(trial)["step"] == 24
        assert json.loads(json.dumps(result)) == result
        assert not (trial / "error.txt").exists(), i


@pytest.fixture
def a_second_a_batch(monkeypatch):
    """Replaces the time by one that each batch advances by a second, after the device has become idle.

    Its value is a function that advances the time, too.
    """
    seconds, latest = 0.0, None
    sent, trained = Batches.sent, Programs.train

    def advance(by):
        nonlocal seconds
        seconds += by

    def slowly(batches, step):
        advance(1)
        jax.block_until_ready(latest)
        return sent(batches, step)

    def train(programs, state, steps):
        nonlocal latest
        state, latest = trained(programs, state, steps)
        return state, latest

    monkeypatch.setattr(Batches, "sent", slowly)
    monkeypatch.setattr(Programs, "train", train)
    monkeypatch.setattr("research.training.clock.time", types.SimpleNamespace(perf_counter=lambda: seconds))
    return advance


def test_seconds_of_waiting_for_batches_are_counted_where_the_device_had_nothing_to_do(tmp_path, a_second_a_batch):
    go(tmp_path, experiments(steps=12, eval_every=None)[:1], stacked=False)
    result = read(tmp_path / "0" / "result.json")
    assert result["starved_seconds"] == result["seconds"] == 12 - 4  # the first call, which compiles, is not counted


def test_seconds_are_those_of_training_not_of_writing(tmp_path, a_second_a_batch, monkeypatch):
    for name in ("save", "wait", "delete_surplus"):
        method = getattr(Store, name)
        monkeypatch.setattr(Store, name, lambda *given, _method=method: (a_second_a_batch(1000), _method(*given))[1])
    go(tmp_path, experiments(steps=12, eval_every=5, checkpoints=POLICY)[:1], stacked=False)
    assert read(tmp_path / "0" / "result.json")["seconds"] == 12 - 4


@pytest.mark.parametrize("stacked", [True, False], ids=["stacked", "one after another"])
def test_seconds_are_those_of_every_process_that_trained(tmp_path, a_second_a_batch, stacked):
    trials = experiments(steps=32, eval_every=None, checkpoints=SELDOM)[: 2 if stacked else 1]
    with pytest.raises(Interrupted) as interrupted:
        go(tmp_path, trials, stacked=stacked, stop=stop_at(4))
    assert 4 < interrupted.value.step < 28
    go(tmp_path, trials, stacked=stacked)
    for trial in tmp_path.iterdir():
        result = read(trial / "result.json")
        # Each trial's batch takes a second; the first call of each process is not counted.
        assert result["starved_seconds"] == result["seconds"] == len(trials) * (32 - 4 - 4)
        assert result["steps_per_second"] == round(32 / result["seconds"], 3)


def test_the_state_is_saved_when_its_time_has_come(tmp_path, monkeypatch):
    """Between evaluations, too, and not at a multiple of any number of steps."""
    seconds, trained = 0.0, Programs.train

    def train_for_a_second(programs, state, steps):
        nonlocal seconds
        seconds += 1
        return trained(programs, state, steps)

    monkeypatch.setattr(Programs, "train", train_for_a_second)
    monkeypatch.setattr("research.training.events.time", types.SimpleNamespace(monotonic=lambda: seconds))
    monkeypatch.setattr("research.training.loop.SECONDS_PER_CALL", 1e9)  # calls of four steps, however fast they are
    like = dataclasses.replace(experiments()[0], seed=0)
    saving = dataclasses.replace(like, eval_every=None, checkpoints=Checkpoints(every_seconds=2.0, keep=9))
    programs = programs_of(like, None)
    trial = Trial("0", saving, tmp_path / "0")
    train([trial], feeds_of(like.data), stacked=False, progress=Notes(), programs=programs)
    assert saved_steps(tmp_path / "0") == [8, 16, 24]


def test_a_checkpoint_that_does_not_say_what_it_took_counts_what_comes_after(tmp_path, a_second_a_batch):
    trials = experiments(steps=32, eval_every=None, checkpoints=SELDOM)[:1]
    with pytest.raises(Interrupted) as interrupted:
        go(tmp_path, trials, stacked=False, stop=stop_at(4))
    shutil.rmtree(tmp_path / "0/checkpoints" / str(interrupted.value.step) / "spent")
    go(tmp_path, trials, stacked=False)
    left = 32 - interrupted.value.step
    result = read(tmp_path / "0" / "result.json")
    assert (result["seconds"], result["steps_per_second"]) == (left - 4, round(left / (left - 4), 3))


def test_the_steps_are_those_of_a_bare_loop(uninterrupted):
    folder, _ = uninterrupted
    experiment = experiments()[1]
    batches = make_feed(feeds_of(experiment.data).train.source, "host").batches(experiment.seed, experiment.batch_size)
    values = {path: np.float32(x) for path, x in hparams(experiment).items()}
    state = jax.jit(make_init(experiment))(jax.random.key(experiment.seed), batches[0], values)
    step, losses = jax.jit(make_train_step(experiment)), {}
    for i in range(experiment.steps):
        state, metrics = step(state, batches[i])
        losses[i + 1] = float(metrics["loss"])
    for record in lines(folder / "1", "train"):
        assert record["loss"] == pytest.approx(losses[record["step"]], rel=1e-4)


def test_the_best_state_on_validation_is_scored_on_test(uninterrupted):
    folder, _ = uninterrupted
    for trial, experiment in zip(sorted(folder.iterdir()), experiments(), strict=True):
        losses = {r["step"]: r["loss"] for r in lines(trial, "validation")}
        best = max(losses, key=losses.get)
        result = read(trial / "result.json")
        assert result["best_step"] == best < 24 and best in saved_steps(trial)
        ours = score(experiment, trial, best, "test")
        (logged,) = lines(trial, "test")
        for name, value in ours.items():
            assert logged[name] == pytest.approx(value, rel=1e-6), name
        # The averaged parameters were scored, not the latest ones.
        plain = score(dataclasses.replace(experiment, ema_decay=None), trial, best, "test")
        assert plain["loss"] != pytest.approx(ours["loss"], rel=1e-4)


def score(experiment, trial, step, split):
    """Computes the metrics of a checkpoint directly, with the whole split as one batch."""
    saved = state(trial, step)
    variables = saved["ema"] if experiment.ema_decay else {"params": saved["params"], **saved["collections"]}
    columns = feeds_of(experiment.data).evaluation[split].source.arrays()
    batch = {**columns, "weight": np.ones(len(columns["label"]), np.float32)}
    outputs = experiment.task.eval_outputs(functools.partial(experiment.model.apply, variables), batch)
    return experiment.task.finalize({name: np.asarray(x) for name, x in outputs.items()})


def stop_at(call):
    """Makes a `stop` function that returns True from its n-th call on, with n = `call`."""
    calls = itertools.count(1)
    return lambda: next(calls) >= call


@pytest.mark.parametrize("every", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_stopped_again_and_again_it_ends_the_same(uninterrupted, tmp_path, every):
    folder, stacked = uninterrupted
    steps, parts = [], 0
    for parts in range(1, 200):
        try:
            notes = go(tmp_path, experiments(), stacked=stacked, stop=stop_at(every + 1 + (parts == 1)))
        except Interrupted as interrupted:
            steps.append(interrupted.step)
            latest = [saved_steps(trial)[-1:] for trial in sorted(tmp_path.iterdir())]
            assert [interrupted.step] in latest
        else:
            break
    assert parts > 1 and notes.notes == []
    if stacked:
        assert steps == sorted(steps) and steps[0] > 0
    # An interrupted training has extra checkpoints, at the steps where it was stopped.
    for trial in sorted(tmp_path.iterdir()):
        reference = folder / trial.name
        jax.tree.map(np.testing.assert_array_equal, state(trial), state(reference))
        assert lines(trial) == lines(reference)
        a, b = ({k: v for k, v in read(f / "result.json").items() if "second" not in k} for f in (trial, reference))
        assert a == b


@pytest.mark.slow
def test_stopped_between_evaluations_it_keeps_the_best(tmp_path):
    """The state saved at the stop was not evaluated, so it must not replace the best one."""
    (experiment, *_) = experiments(steps=40, checkpoints=dataclasses.replace(POLICY, every_steps=None, keep=1))
    go(tmp_path / "whole", [experiment], stacked=False)
    for call in (4, 5):
        with pytest.raises(Interrupted) as interrupted:
            go(tmp_path / "parts", [experiment], stacked=False, stop=stop_at(call))
        step = interrupted.value.step
        assert step % 8 and read(tmp_path / "parts/0/checkpoints" / str(step) / "scores/metadata") == {}
    go(tmp_path / "parts", [experiment], stacked=False)
    same(tmp_path / "whole", tmp_path / "parts")


@pytest.mark.parametrize("lost", ["result", "result and test lines", "half a line more", "last checkpoint"])
def test_what_a_kill_near_the_end_loses_is_made_again(uninterrupted, tmp_path, lost):
    folder, stacked = uninterrupted
    shutil.copytree(folder, tmp_path / "again")
    for trial in (tmp_path / "again").iterdir():
        (trial / "result.json").unlink()
        log = trial / "metrics.jsonl"
        text = log.read_text()
        if lost == "result and test lines":
            log.write_text("".join(line for line in text.splitlines(True) if '"test"' not in line))
        elif lost == "half a line more":
            log.write_text(text + text.splitlines()[0][:30])
        elif lost == "last checkpoint":
            shutil.rmtree(trial / "checkpoints" / "24")
    notes = go(tmp_path / "again", experiments(), stacked=stacked)
    assert {step for step, _ in notes.started} <= {24} or lost == "last checkpoint"
    for trial in sorted((tmp_path / "again").iterdir()):
        assert lines(trial) == lines(folder / trial.name)
        a, b = (
            {k: v for k, v in read(f / "result.json").items() if "second" not in k}
            for f in (trial, folder / trial.name)
        )
        assert a == b
        jax.tree.map(np.testing.assert_array_equal, state(trial), state(folder / trial.name))


def test_what_has_ended_is_left_alone(uninterrupted):
    folder, stacked = uninterrupted
    before = files(folder)
    notes = go(folder, experiments(), stacked=stacked)
    assert notes.started == [] and files(folder) == before


@pytest.mark.slow
def test_a_result_that_cannot_be_read_is_none(uninterrupted, tmp_path):
    folder, stacked = uninterrupted
    shutil.copytree(folder, tmp_path / "again")
    for content in ("", "{", "[]", "3", '"finished"', '{"status": 3}', "\x00\x01"):
        (tmp_path / "again" / "1" / "result.json").write_text(content)
        assert go(tmp_path / "again", experiments(), stacked=stacked).started == [(24, ("1",))]
        same(tmp_path / "again", folder)


# -- damaged checkpoints -----------------------------------------------------------------------------------------------


def damage(trial, steps):
    for step in steps:
        for path in (trial / "checkpoints" / str(step) / "state").rglob("d/*"):
            path.write_bytes(bytes(255 - x for x in path.read_bytes()))


@pytest.mark.parametrize("whose", [["1"], ["0", "1", "2"]], ids=["of one trial", "of all"])
def test_a_damaged_checkpoint_falls_back_to_the_one_before_and_says_so(uninterrupted, tmp_path, whose):
    folder, stacked = uninterrupted
    with pytest.raises(Interrupted):
        go(tmp_path, experiments(), stacked=True, stop=stop_at(6))
    (last,) = {tuple(saved_steps(trial)[-2:]) for trial in tmp_path.iterdir()}
    for name in whose:
        damage(tmp_path / name, last[1:])
    notes = go(tmp_path, experiments(), stacked=stacked)
    told = [note for note in notes.notes if "falling back to the one before it" in note]
    assert len(told) == (1 if stacked else len(whose)) and f"/checkpoints/{last[1]}" in told[0]
    starts = {name: step for step, names in notes.started for name in names}
    if stacked:
        assert starts == dict.fromkeys("012", last[0])
        same_ends(tmp_path, folder)
    else:
        assert starts == {name: last[0] if name in whose else last[1] for name in "012"}


def same_ends(a, b):
    for trial in sorted(a.iterdir()):
        jax.tree.map(np.testing.assert_array_equal, state(trial), state(b / trial.name))
        assert lines(trial) == lines(b / trial.name)


def test_where_all_are_damaged_it_starts_again_and_says_so(uninterrupted, tmp_path):
    folder, stacked = uninterrupted
    if not stacked:
        pytest.skip("one of the two is enough")
    with pytest.raises(Interrupted):
        go(tmp_path, experiments(), stacked=True, stop=stop_at(6))
    for trial in tmp_path.iterdir():
        damage(trial, saved_steps(trial))
    notes = go(tmp_path, experiments(), stacked=True)
    assert sum("no checkpoint to continue from, starting at step 0" in note for note in notes.notes) == 3
    assert notes.started[0][0] == 0
    same(tmp_path, folder)


def test_a_trial_without_checkpoints_takes_its_stack_back_and_is_named(uninterrupted, tmp_path):
    folder, stacked = uninterrupted
    if not stacked:
        pytest.skip("one of the two is enough")
    with pytest.raises(Interrupted):
        go(tmp_path, experiments(), stacked=True, stop=stop_at(6))
    shutil.rmtree(tmp_path / "1" / "checkpoints")
    notes = go(tmp_path, experiments(), stacked=True)
    assert notes.notes == [
        "1: no checkpoint to continue from, starting at step 0",
        "0, 2: train together with 1, starting at step 0",
    ]
    same(tmp_path, folder)


@pytest.mark.parametrize("damage", ["cut", "changed", "gone", "older"])
def test_damaged_metrics_are_told(uninterrupted, tmp_path, damage):
    folder, stacked = uninterrupted
    if not stacked:
        pytest.skip("one of the two is enough")
    with pytest.raises(Interrupted) as interrupted:
        go(tmp_path, experiments(), stacked=True, stop=stop_at(6))
    path = tmp_path / "1" / "metrics.jsonl"
    whole = path.read_text().splitlines(keepends=True)
    if damage == "gone":
        path.unlink()
    elif damage == "changed":
        path.write_text("".join([whole[0].replace('"loss": ', '"loss": "x'), *whole[1:]]))
    else:
        path.write_text("".join(whole[:2]))
    if damage == "older":
        for about in tmp_path.glob("*/checkpoints/*/about"):
            shutil.rmtree(about)
    notes = go(tmp_path, experiments(), stacked=True)
    step = interrupted.value.step
    told = [f"1: metrics.jsonl is damaged: lines before step {step} are missing or changed"]
    assert notes.notes == ([] if damage == "older" else told)
    assert notes.started == [(step, ("0", "1", "2"))]
    for name in "012":
        jax.tree.map(np.testing.assert_array_equal, state(tmp_path / name), state(folder / name))
    assert lines(tmp_path / "0") == lines(folder / "0")


# -- failures of single trials -----------------------------------------------------------------------------------------


def rates(*values):
    """Makes experiments with SGD at several learning rates; a very large rate diverges."""
    return [toys.experiment(optimizer=SGD(learning_rate=x), log_every=1, steps=12, eval_every=6) for x in values]


@pytest.mark.parametrize("stacked", [True, False])
def test_a_trial_that_diverges_leaves_the_others_untouched(tmp_path, stacked):
    notes = go(tmp_path / "with", rates(0.1, 1e30, 0.2), stacked=stacked)
    go(tmp_path / "without", rates(0.1, 0.3, 0.2), stacked=stacked)
    for name in "02":
        one, other = tmp_path / "with" / name, tmp_path / "without" / name
        jax.tree.map(np.testing.assert_array_equal, state(one), state(other))
        assert lines(one) == lines(other)
    trial = tmp_path / "with" / "1"
    result = read(trial / "result.json")
    assert result["status"] == "diverged"
    assert result["error"] == f"loss or gradient is not finite at step {result['steps']}"
    assert [note for note in notes.notes if "diverged" in note] == [f"1: {result['error']}: diverged"]
    *before, last = lines(trial, "train")
    assert last["step"] == result["steps"] == len(before) + 1 < 12
    assert last["loss"] is None or last["gradient_norm"] is None
    assert all(r["loss"] is not None and r["gradient_norm"] is not None for r in before)
    assert lines(trial, "test") == [] and "test/loss" not in result["metrics"]
    before = files(trial)
    assert go(tmp_path / "with", rates(0.1, 1e30, 0.2), stacked=stacked).started == []
    assert files(trial) == before


@dataclasses.dataclass(frozen=True, kw_only=True)
class Choosy(Classification):
    """Raises an error in `finalize` for one value of label smoothing, as a metric may for some outputs."""

    def finalize(self, outputs):
        if self.label_smoothing == 0.25:
            raise ZeroDivisionError("no positives in the split")
        return super().finalize(outputs)


@pytest.mark.parametrize("stacked", [True, False])
def test_a_trial_that_cannot_be_scored_fails_alone(tmp_path, stacked):
    def smoothed(middle):
        return [toys.experiment(task=Choosy(classes=3, label_smoothing=x)) for x in (0.1, middle, 0.2)]

    notes = go(tmp_path / "with", smoothed(0.25), stacked=stacked)
    go(tmp_path / "without", smoothed(0.24), stacked=stacked)
    for name in "02":
        one, other = tmp_path / "with" / name, tmp_path / "without" / name
        jax.tree.map(np.testing.assert_array_equal, state(one), state(other))
        assert lines(one) == lines(other)
    result = read(tmp_path / "with" / "1" / "result.json")
    said = rf"{re.escape(__file__)}, line \d+: ZeroDivisionError: no positives in the split"
    assert result["status"] == "failed" and re.fullmatch(said, result["error"])
    assert notes.notes == [f"1: failed: {result['error']}"]
    assert "in finalize" in (tmp_path / "with" / "1" / "error.txt").read_text()


def test_a_failed_trial_is_tried_again_alone(uninterrupted, tmp_path, monkeypatch):
    folder, stacked = uninterrupted
    trials = experiments()
    whole_save = Store.save

    def full(self, step, *rest):
        if step == 16 and self.folder.parent.name == "1":
            raise OSError(28, "No space left on device")
        whole_save(self, step, *rest)

    monkeypatch.setattr(Store, "save", full)
    notes = go(tmp_path / "parts", trials, stacked=stacked)
    (note,) = notes.notes
    assert note.startswith("1: failed: ") and note.endswith(": OSError: [Errno 28] No space left on device")
    results = [read(tmp_path / "parts" / name / "result.json")["status"] for name in "012"]
    assert results == ["finished", "failed", "finished"]
    assert saved_steps(tmp_path / "parts" / "1")[-1] == 12
    before = files(tmp_path / "parts" / "0")
    monkeypatch.undo()
    notes = go(tmp_path / "parts", trials, stacked=stacked)
    assert notes.started == [(12, ("1",))]
    assert files(tmp_path / "parts" / "0") == before
    same(folder, tmp_path / "parts")


def test_a_program_that_raises_fails_its_trials_and_no_others(tmp_path, monkeypatch):
    trials = experiments()
    calls = itertools.count()
    train_one = Programs.train

    def out_of_memory(self, *arguments):
        if 2 <= next(calls) < 4:
            raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 8 bytes.\nmore of it")
        return train_one(self, *arguments)

    monkeypatch.setattr(Programs, "train", out_of_memory)
    notes = go(tmp_path, trials, stacked=False)
    assert [note.partition(": ")[0] for note in notes.notes] == ["0", "1"]
    assert all(n.endswith(": RuntimeError: RESOURCE_EXHAUSTED: Out of memory allocating 8 bytes.") for n in notes.notes)
    assert [read(tmp_path / n / "result.json")["status"] for n in "012"] == ["failed", "failed", "finished"]


# -- other uses of the loop --------------------------------------------------------------------------------------------


def test_until_a_step_and_on_from_there(uninterrupted, tmp_path):
    folder, stacked = uninterrupted
    trials = experiments()
    go(tmp_path, trials, stacked=stacked, until=8)
    assert not any((trial / "result.json").exists() for trial in tmp_path.iterdir())
    assert all(saved_steps(trial)[-1] == 8 for trial in tmp_path.iterdir())
    before = files(tmp_path)
    assert go(tmp_path, trials, stacked=stacked, until=8).started == []
    assert files(tmp_path) == before
    go(tmp_path, trials, stacked=stacked)
    for trial in sorted(tmp_path.iterdir()):
        jax.tree.map(np.testing.assert_array_equal, state(trial), state(folder / trial.name))
        without_extra = [r for r in lines(trial) if (r["step"], r["split"]) != (8, "train")]
        assert without_extra == lines(folder / trial.name)


def test_evaluation_covers_every_example_once_whatever_the_batch():
    experiment = experiments()[0]
    feeds = feeds_of(experiment.data)
    first = make_programs(experiment, feeds.train.resident)
    with feeds.train.batches(0, experiment.batch_size) as batches:
        state = first.init([0], [hparams(experiment)], batches.sent(0))
    found = []
    for size in (1, 7, 50, 64):
        own = dataclasses.replace(experiment, eval_batch_size=size)
        programs = make_programs(own, feeds.train.resident, like=first)
        found.append(evaluate(programs, state, feeds.evaluation["test"], own)[0])
    columns = feeds.evaluation["test"].source.arrays()
    outputs = own.task.eval_outputs(bound_apply(own.model, state.variables(averaged=True)), columns)
    found.append(own.task.finalize({name: np.asarray(x) for name, x in outputs.items()}))
    for other in found[1:]:
        assert other == pytest.approx(found[0], rel=1e-5)


def test_the_event_files_say_what_the_log_says(uninterrupted):
    folder, _ = uninterrupted
    trial = folder / "0"
    logged = {
        (f"{r['split']}/{name}", r["step"]): value
        for r in lines(trial)
        for name, value in r.items()
        if name not in ("step", "split")
    }
    written = {}
    for path in (trial / "tensorboard").iterdir():
        for tag, step, value in scalars(path.read_bytes()):
            written[tag, step] = value
    assert written.keys() == logged.keys()
    for key, value in written.items():
        assert value == pytest.approx(logged[key], rel=1e-6)


def scalars(content):
    """Yields (tag, step, value) of an event file's scalars; records are length, checksum, message, checksum."""
    from tensorboardX.proto.event_pb2 import Event

    while content:
        (length,) = struct.unpack("<Q", content[:8])
        event = Event.FromString(content[12 : 12 + length])
        for value in event.summary.value:
            if value.HasField("simple_value"):
                yield value.tag, event.step, value.simple_value
        content = content[16 + length :]


@pytest.mark.parametrize("stacked", [True, False])
def test_trials_end_alike_stacked_and_not(uninterrupted, tmp_path, stacked):
    """Metrics agree within rounding, because another plan uses another program."""
    folder, was_stacked = uninterrupted
    if was_stacked == stacked:
        pytest.skip("compared with the other way")
    go(tmp_path, experiments(), stacked=stacked)
    for trial in sorted(tmp_path.iterdir()):
        for a, b in zip(lines(trial, "train"), lines(folder / trial.name, "train"), strict=True):
            assert a.pop("split") == b.pop("split")
            assert a == pytest.approx(b, rel=1e-4)


@pytest.mark.slow
def test_an_optimizer_with_more_state_is_continued_too(tmp_path):
    trials = [
        toys.experiment(
            optimizer=AdamW(learning_rate=1e-2, frozen=("Dense_0/*",), rates=(("Dense_1/*", 0.5),)),
            accumulation=2,
            clip_norm=0.5,
            steps=20,
            eval_every=None,
            parallel=dataclasses.replace(toys.ONE_DEVICE, steps_per_call=4),
        )
    ]
    go(tmp_path / "whole", trials, stacked=False)
    with pytest.raises(Interrupted):
        go(tmp_path / "parts", trials, stacked=False, stop=stop_at(3))
    go(tmp_path / "parts", trials, stacked=False)
    jax.tree.map(np.testing.assert_array_equal, state(tmp_path / "whole" / "0"), state(tmp_path / "parts" / "0"))
