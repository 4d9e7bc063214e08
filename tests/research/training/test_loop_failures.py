"""The training loop: damaged checkpoints and logs, and failures of single trials."""

import dataclasses
import itertools
import re
import shutil

import jax
import numpy as np
import pytest
import toys
from command_line import files, lines, read, saved_steps, state
from training_loops import experiments, go, same, stop_at

from research.optimizers import SGD
from research.parallel.programs import Programs
from research.tasks.classification import Classification
from research.training.checkpoints import Store
from research.training.loop import Interrupted

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
