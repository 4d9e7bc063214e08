"""The training loop: the files it writes, stopping and resuming without a trace."""

import dataclasses
import functools
import json
import shutil
import struct
import types

import jax
import numpy as np
import pytest
import toys
from command_line import files, lines, read, saved_steps, state
from training_loops import POLICY, SELDOM, Notes, experiments, feeds_of, go, programs_of, same, stop_at

from research.config.hparams import hparams
from research.data.feed import Batches, make_feed
from research.optimizers import SGD, AdamW
from research.parallel.programs import Programs
from research.training.checkpoints import Checkpoints, Store
from research.training.evaluate import evaluate
from research.training.loop import Interrupted, train
from research.training.programs import make_programs
from research.training.step import bound_apply, make_init, make_train_step
from research.training.trial import Trial


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


def test_seconds_are_those_of_training_not_of_ending_another_trial(tmp_path, a_second_a_batch, monkeypatch):
    close = Store.close
    monkeypatch.setattr(Store, "close", lambda store: (a_second_a_batch(1000), close(store))[1])
    trials = experiments(steps=12, eval_every=None, checkpoints=SELDOM, optimizer=SGD(learning_rate=0.01))[:2]
    trials[1] = dataclasses.replace(trials[1], optimizer=SGD(learning_rate=1e38))
    go(tmp_path, trials, stacked=True)
    results = [read(tmp_path / name / "result.json") for name in "01"]
    assert [result["status"] for result in results] == ["finished", "diverged"]
    assert results[0]["seconds"] == 2 * (12 - 4)  # each trial's batch takes a second


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
