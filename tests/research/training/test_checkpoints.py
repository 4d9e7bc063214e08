"""Checkpoints: saved states are restored, damage is detected, and the policy decides which are kept."""

import dataclasses
import json
import shutil

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from command_line import files

from research.errors import RequestError
from research.training.checkpoints import Checkpoints, CorruptCheckpoint, Store
from research.training.state import TrainState


def a_state(number=0.0):
    """Makes a small train state with a leaf of every kind."""
    return TrainState(
        step=jnp.int32(number),
        params={"dense": {"kernel": jnp.arange(6.0).reshape(2, 3) + number, "bias": jnp.zeros(3, jnp.bfloat16)}},
        collections={"batch_stats": {"mean": jnp.full(3, float(number))}},
        opt_state=({"mu": jnp.ones((2, 3))}, jnp.int32(3)),
        ema=None,
        rng=jax.random.key(7),
        hparams={"optimizer.learning_rate": jnp.float32(0.1)},
    )


def saved(folder, policy, scores, direction="max"):
    """Makes a store from `scores`, {step: validation/loss}; a step whose score is None was not evaluated."""
    store = Store(folder, policy, direction)
    for step, score in scores.items():
        store.save(step, a_state(step), {} if score is None else {"validation/loss": score})
    store.close()
    return Store(folder, policy, direction)


def test_what_is_saved_is_restored(tmp_path):
    store = saved(tmp_path, Checkpoints(), {3: None})
    assert store.steps() == [3]
    restored = store.restore(3, a_state())
    chex.assert_trees_all_equal(restored.replace(rng=0), a_state(3).replace(rng=0))
    assert restored.params["dense"]["bias"].dtype == jnp.bfloat16
    np.testing.assert_array_equal(jax.random.key_data(restored.rng), jax.random.key_data(a_state().rng))
    plain = store.restore(3)
    np.testing.assert_array_equal(plain["params"]["dense"]["kernel"], a_state(3).params["dense"]["kernel"])


def test_arrays_that_states_no_longer_have_are_left_out_of_older_checkpoints(tmp_path):
    """Schedules had their own count of steps before they read the state's."""
    now = a_state(3).replace(opt_state=({"mu": jnp.ones((2, 3))}, optax.EmptyState()))
    older = now.replace(opt_state=(now.opt_state[0], optax.ScaleByScheduleState(count=jnp.int32(3))))
    store = Store(tmp_path, Checkpoints())
    store.save(3, older)
    store.save(4, now.replace(params={"dense": now.params["dense"] | {"scale": jnp.ones(3)}}))
    store.close()
    like = a_state().replace(opt_state=now.opt_state)
    restored = store.restore(3, like)
    chex.assert_trees_all_equal(restored.replace(rng=0), now.replace(rng=0))
    with pytest.raises(CorruptCheckpoint):  # the checkpoint has an array that no older state had
        store.restore(4, like)
    with pytest.raises(CorruptCheckpoint):  # the checkpoint lacks an array of the state
        store.restore(3, like.replace(params={"dense": like.params["dense"] | {"scale": jnp.ones(3)}}))
    store.close()


def test_a_folder_without_checkpoints(tmp_path):
    for store in (Store(tmp_path / "none"), Store(tmp_path / "none", Checkpoints())):
        assert store.steps() == []
        store.close()
    assert list(tmp_path.iterdir()) == []


def test_a_relative_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert saved("checkpoints", Checkpoints(), {1: None}).steps() == [1]
    assert (tmp_path / "checkpoints" / "1").is_dir()


@pytest.mark.parametrize(
    ("direction", "policy", "scores", "during", "after"),
    [
        (None, Checkpoints(keep=2), {1: None, 2: None, 3: None, 4: None}, [3, 4], [3, 4]),
        (None, Checkpoints(keep=1), {1: None, 2: None, 3: None}, [2, 3], [3]),
        (None, Checkpoints(keep=3), {1: None, 2: None, 3: None, 4: None}, [2, 3, 4], [2, 3, 4]),
        (
            "min",
            Checkpoints(best="validation/loss"),
            {1: 2.0, 2: 1.0, 3: 3.0, 4: 4.0, 5: 2.5},
            [2, 4, 5],
            [2, 4, 5],
        ),
        ("max", Checkpoints(best="validation/loss"), {1: 2.0, 2: 5.0, 3: 3.0, 4: 4.0}, [2, 3, 4], [2, 3, 4]),
        ("max", Checkpoints(best="validation/loss"), {1: 2.0, 2: None, 3: None, 4: None}, [1, 3, 4], [1, 3, 4]),
        ("max", Checkpoints(best="validation/loss"), {1: 2.0, 2: 2.0, 3: 2.0, 4: 2.0}, [1, 3, 4], [1, 3, 4]),
        ("max", Checkpoints(best="validation/loss", keep=1), {1: 2.0, 2: 9.0, 3: 2.0, 4: 2.0}, [2, 3, 4], [2, 4]),
    ],
)
@pytest.mark.parametrize("reopened", [False, True])
def test_the_latest_and_the_best_are_kept(tmp_path, direction, policy, scores, during, after, reopened):
    if reopened:
        for step, score in scores.items():
            saved(tmp_path, policy, {step: score}, direction).close()
    store = saved(tmp_path, policy, {} if reopened else scores, direction)
    assert sorted(store.steps()) == during
    store.delete_surplus()
    assert sorted(store.steps()) == after
    assert store.best_step() == (None if policy.best is None else after[0])


def test_a_score_that_is_not_finite_or_not_there_is_never_best(tmp_path):
    policy = Checkpoints(best="validation/loss", keep=9)
    store = Store(tmp_path, policy, "min")
    store.save(1, a_state(), {"validation/loss": None})
    store.save(2, a_state(), {"validation/accuracy": 0.5})
    store.save(3, a_state(), {})
    store.wait()
    assert store.best_step() is None
    store.save(4, a_state(), {"validation/loss": 1e30})
    store.wait()
    assert store.best_step() == 4
    store.close()


def test_later_steps_are_deleted_and_can_be_saved_again(tmp_path):
    store = saved(tmp_path, Checkpoints(keep=5), {1: None, 2: None, 3: None})
    store.delete_after(1)
    assert store.steps() == [1]
    store.save(2, a_state(20))
    store.close()
    assert int(Store(tmp_path).restore(2, a_state()).step) == 20


# -- damage ------------------------------------------------------------------------------------------------------------


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x55
    path.write_bytes(bytes(content))


def truncate(path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


DAMAGES = {
    "flipped byte": flip,
    "truncated": truncate,
    "emptied": lambda p: p.write_bytes(b""),
    "missing": lambda p: p.unlink(),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "checkpoints"
    saved(folder, Checkpoints(best="validation/loss"), {1: 1.0, 2: 2.0}, "min").close()
    return folder


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_never_taken_for_whole(whole, tmp_path, damage):
    noticed = 0
    for name in files(whole / "2"):
        folder = tmp_path / "checkpoints"
        shutil.copytree(whole, folder)
        if (folder / "2" / name).stat().st_size or damage == "missing":
            DAMAGES[damage](folder / "2" / name)
        store = Store(folder, Checkpoints(best="validation/loss"), "min")
        assert 1 in store.steps(), name
        assert store.best_step() == 1, name
        assert int(store.restore(1, a_state()).step) == 1
        try:
            restored = store.restore(2, a_state())
        except CorruptCheckpoint as error:
            noticed += 1
            assert "checkpoints/2: " in str(error) and "\n" not in str(error)
        else:
            chex.assert_trees_all_equal(restored.replace(rng=0), a_state(2).replace(rng=0))
        store.close()
        shutil.rmtree(folder)
    assert noticed >= 3


def test_numbers_changed_by_other_means_are_noticed(tmp_path):
    store = saved(tmp_path, Checkpoints(), {1: None, 2: None})
    store.close()
    shutil.rmtree(tmp_path / "2" / "state")
    shutil.copytree(tmp_path / "1" / "state", tmp_path / "2" / "state")
    with pytest.raises(CorruptCheckpoint, match="its contents are not what was written"):
        Store(tmp_path).restore(2, a_state())


def beside(folder, step, name):
    return folder / str(step) / name / "metadata"


def rewrite(path, change):
    """Changes the JSON record in a file."""
    record = json.loads(path.read_text())
    path.write_text(json.dumps(change(record)))


SIDE_FILES = {
    "a letter of spent": lambda run: rewrite(beside(run, 2, "spent"), lambda x: {"secands": 1.0}),
    "a number of spent": lambda run: rewrite(beside(run, 2, "spent"), lambda x: x | {"seconds": 9e9}),
    "a score": lambda run: rewrite(beside(run, 2, "scores"), lambda x: {"validation/loss": -1.0}),
    "no scores": lambda run: beside(run, 2, "scores").unlink(),
    "half of the scores": lambda run: truncate(beside(run, 2, "scores")),
    "what it says of itself": lambda run: rewrite(beside(run, 2, "about"), lambda x: x | {"step": 3}),
}


@pytest.mark.parametrize("damage", SIDE_FILES)
def test_damage_beside_a_whole_state_is_told_and_done_without(tmp_path, damage):
    """The scores of metrics.jsonl, which are intact, stand in."""
    policy, notes = Checkpoints(best="validation/loss"), []
    store = Store(tmp_path, policy, "min", trial="a")
    for step, score in ((1, 1.0), (2, 2.0)):
        store.save(step, a_state(step), {"validation/loss": score}, {"seconds": 4.0, "steps": step})
    store.close()
    SIDE_FILES[damage](tmp_path)
    store = Store(tmp_path, policy, "min", trial="a", note=notes.append)
    assert int(store.restore(2, a_state()).step) == 2
    assert store.records.spent(2) == ({} if "spent" in damage or "itself" in damage else {"seconds": 4.0, "steps": 2})
    store.scores = {2: {"validation/loss": 0.5}}
    assert store.best_step() == (1 if "spent" in damage else 2)
    assert notes and all(note.startswith("checkpoint 2: its ") for note in notes)
    store.close()


def test_a_checkpoint_of_another_trial_or_step_is_not_taken(tmp_path):
    for name in "ab":
        store = Store(tmp_path / name, Checkpoints(keep=3), trial=name)
        store.save(1, a_state(1))
        store.save(2, a_state(2))
        store.close()
    shutil.rmtree(tmp_path / "a" / "2")
    shutil.copytree(tmp_path / "b" / "2", tmp_path / "a" / "2")
    shutil.copytree(tmp_path / "a" / "1", tmp_path / "a" / "3")
    store = Store(tmp_path / "a", trial="a")
    assert int(store.restore(1, a_state()).step) == 1
    with pytest.raises(CorruptCheckpoint, match="/2: it was saved as trial b, step 2"):
        store.restore(2, a_state())
    with pytest.raises(CorruptCheckpoint, match="/3: it was saved as trial a, step 1"):
        store.restore(3, a_state())
    assert int(Store(tmp_path / "a").restore(2).get("step")) == 2  # nobody says whose checkpoints these are


def older(folder):
    """Makes checkpoints as older versions wrote them."""
    for path in folder.glob("*/about"):
        shutil.rmtree(path)
    return folder


def test_older_checkpoints_are_taken_as_they_are(whole, tmp_path):
    shutil.copytree(whole, tmp_path / "checkpoints")
    folder, notes = older(tmp_path / "checkpoints"), []
    store = Store(folder, Checkpoints(best="validation/loss"), "min", trial="a", note=notes.append)
    assert int(store.restore(2, a_state()).step) == 2
    assert store.best_step() == 1 and store.records.spent(2) == {} and store.records.logged(2) == {} and notes == []
    store.close()
    shutil.copytree(folder / "1", folder / "3")
    with pytest.raises(CorruptCheckpoint, match="its contents are not what was written"):
        Store(folder).restore(3, a_state())


def test_checksums_that_are_gone_are_noticed(whole, tmp_path):
    shutil.copytree(whole, tmp_path / "checkpoints")
    rewrite(beside(tmp_path / "checkpoints", 2, "checksums"), lambda sums: dict(list(sums.items())[1:]))
    with pytest.raises(CorruptCheckpoint, match="its contents are not what was written"):
        Store(tmp_path / "checkpoints").restore(2, a_state())


def test_a_checkpoint_is_never_half_deleted(tmp_path, monkeypatch):
    """A process that is killed while it deletes leaves the checkpoint under another name, or whole."""
    store = saved(tmp_path, Checkpoints(keep=5), {1: None, 2: None})
    removed = []

    def killed(path, **_):
        removed.append(path)
        assert not (tmp_path / "2").exists()
        raise KeyboardInterrupt

    assert store.steps() == [2, 1]
    monkeypatch.setattr(shutil, "rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        store.delete_after(1)
    assert removed == [tmp_path / ".deleted"] and (tmp_path / ".deleted" / "2").is_dir()
    monkeypatch.undo()
    after = Store(tmp_path, Checkpoints(keep=5))
    assert after.steps() == [1]
    after.close()
    store.close()
    assert [path.name for path in tmp_path.iterdir()] == ["1"]


def test_another_structure_is_an_error_and_no_silent_zero(tmp_path):
    store = saved(tmp_path, Checkpoints(), {1: None})
    larger = a_state().replace(params={"dense": {"kernel": jnp.zeros((2, 4)), "bias": jnp.zeros(3, jnp.bfloat16)}})
    more = a_state().replace(collections={"batch_stats": {"mean": jnp.zeros(3), "var": jnp.zeros(3)}})
    for like in (larger, more):
        with pytest.raises(CorruptCheckpoint):
            store.restore(1, like)


def test_reading_leaves_the_save_of_another_process_alone(tmp_path):
    store = saved(tmp_path, Checkpoints(), {1: None})
    store.close()
    shutil.copytree(tmp_path / "1", tmp_path / "2.orbax-checkpoint-tmp")
    before = files(tmp_path)
    reader = Store(tmp_path)
    assert reader.steps() == [1]
    reader.restore(1)
    reader.close()
    assert files(tmp_path) == before
    writer = Store(tmp_path, Checkpoints())
    writer.save(2, a_state(2))
    writer.close()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["1", "2"]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"keep": 0}, "keep=0: expected at least 1"),
        ({"every_steps": 0}, "every_steps=0: expected at least 1"),
        ({"every_seconds": 0.0}, "every_seconds=0.0: expected a number above 0"),
    ],
)
def test_a_policy_that_cannot_be_meant(changes, says):
    with pytest.raises(RequestError, match=says):
        dataclasses.replace(Checkpoints(), **changes).check()
