"""Placed arrays are fetched unchanged, and programs do not change snapshots."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys
from flax import linen as nn

from research.layers.log_mel import LogMel
from research.parallel.placement import Held, make_placement
from research.parallel.spec import Parallel

PLACEMENTS = {
    "one device": toys.ONE_DEVICE,
    "mesh": Parallel(mesh=(("data", 8),)),
    "pmap": Parallel(strategy="pmap", mesh=(("data", 8),)),
}


def one_state(seed):
    key = jax.random.key(seed)
    return {
        "kernel": np.float32(seed) + np.arange(6, dtype=np.float32).reshape(2, 3),
        "step": np.int32(seed),
        "rng": key,
    }


def plain(state):
    """Converts a state to NumPy arrays, with keys as their data."""
    return {**state, "rng": jax.random.key_data(state["rng"])}


@pytest.mark.parametrize("parallel", PLACEMENTS.values(), ids=PLACEMENTS)
@pytest.mark.parametrize("trials", [None, 3, 8])
def test_states_come_back_whole(parallel, trials):
    placement = make_placement(parallel, trials=trials)
    states = [one_state(seed) for seed in range(trials or 1)]
    whole = placement.whole(placement.place(placement.join(states)))
    for i, state in enumerate(states):
        chex.assert_trees_all_equal(plain(placement.part(whole, i)), plain(state))


@pytest.mark.parametrize("parallel", PLACEMENTS.values(), ids=PLACEMENTS)
def test_a_snapshot_outlives_the_state(parallel):
    placement = make_placement(parallel)
    state = placement.place(one_state(2))
    taken = placement.snapshot(state)
    add = jax.jit(lambda state: {**state, "kernel": state["kernel"] + 1}, donate_argnums=0)
    for _ in range(3):
        state = add(state)
    chex.assert_trees_all_equal(plain(taken), plain(one_state(2)))
    assert isinstance(taken["kernel"], np.ndarray)


@pytest.mark.parametrize("steps", [False, True])
@pytest.mark.parametrize("trials", [None, 3, 8])
@pytest.mark.parametrize("parallel", PLACEMENTS.values(), ids=PLACEMENTS)
def test_each_device_gets_its_rows_of_a_batch(parallel, trials, steps):
    placement = make_placement(parallel, trials=trials)
    shape = (*(4,) * steps, *(() if trials is None else (trials,)), 16)
    x = np.arange(np.prod(shape), dtype=np.int32).reshape(shape)
    placed = placement.put({"index": x}, stacked_steps=steps)["index"]
    if parallel.strategy == "pmap":
        np.testing.assert_array_equal(np.concatenate(placed, axis=-1), x)
        assert placed.shape[0] == 8
    else:
        np.testing.assert_array_equal(placed, x)
        assert placed.addressable_shards[0].data.size == x.size // placement.shards


FSDP = {
    "over data": (Parallel(mesh=(("data", 8),), shard="fsdp"), 8),
    "over its own axis": (Parallel(mesh=(("data", 2), ("fsdp", 4)), shard="fsdp"), 4),
}


def layers():
    return {
        "kernel": np.ones((96, 256), np.float32),
        "layers": np.ones((3, 128, 64), np.float32),
        "odd": np.ones((129, 131), np.float32),
        "bias": np.ones(256, np.float32),
        "rng": jax.random.key(0),
    }


@pytest.mark.parametrize(("parallel", "parts"), FSDP.values(), ids=FSDP)
def test_sharding_splits_the_largest_dimension_that_divides(parallel, parts):
    placement = make_placement(parallel)
    state = {"params": layers(), "moments": layers()}
    placed = placement.place(state)
    first = {name: x.addressable_shards[0].data.shape for name, x in placed["params"].items()}
    assert first["kernel"] == (96, 256 // parts) and first["layers"] == (3, 128 // parts, 64)
    assert first["odd"] == (129, 131) and first["bias"] == (256,)
    assert placement.kept_whole(state) == ["moments/odd", "params/odd"]
    assert jax.tree.all(jax.tree.map(lambda x, y: x.sharding == y.sharding, placed["params"], placed["moments"]))
    assert placement.shards == 8 and placement.put({"x": np.ones((16, 3))})["x"].addressable_shards[0].data.shape == (
        2,
        3,
    )
    chex.assert_trees_all_equal(plain(placement.whole(placed)["params"]), plain(layers()))


def test_sharding_of_trials_leaves_their_axis_alone():
    placement = make_placement(FSDP["over data"][0], trials=8)
    placed = placement.place(placement.join([layers()] * 8))
    assert placed["kernel"].addressable_shards[0].data.shape == (8, 96, 32)
    assert placement.put({"x": np.ones((8, 16, 3))})["x"].addressable_shards[0].data.shape == (8, 2, 3)


def constraints(parallel):
    """The first axes of all sharding constraints in the program of a small model, for a batch of 16."""
    model = nn.Sequential([nn.Dense(32), nn.Dense(8)])
    x = jnp.ones((16, 4))
    variables = jax.eval_shape(model.init, jax.random.key(0), x)
    with make_placement(parallel).tracing():
        traced = jax.make_jaxpr(model.apply)(variables, x)
    return [e.params["sharding"].spec[0] for e in traced.eqns if e.primitive.name == "sharding_constraint"]


def test_activations_stay_split_like_the_batch_where_parameters_are_split():
    assert constraints(FSDP["over its own axis"][0]) == [("data", "fsdp")] * 3
    assert constraints(FSDP["over data"][0]) == ["data"] * 3
    assert constraints(Parallel()) == constraints(Parallel(strategy="pmap")) == []


def test_features_of_speech_are_computed_where_the_recordings_are():
    placement = make_placement(PLACEMENTS["mesh"])
    waveforms = np.random.default_rng(0).normal(size=(16, 3200)).astype(np.float32)
    sent = placement.put({"x": waveforms})["x"]
    with placement.tracing():
        compiled = jax.jit(LogMel(mels=20)).lower(sent).compile()
    assert "all-gather" not in compiled.as_text() and "fft" in compiled.as_text()
    np.testing.assert_allclose(compiled(sent), LogMel(mels=20)(waveforms), atol=1e-5)


def test_shapes_stay_shapes():
    placement = make_placement(PLACEMENTS["mesh"])
    shape = jax.ShapeDtypeStruct((16, 3), jnp.float32)
    placed = [placement.put({"x": shape})["x"], placement.hold({"x": shape}, Held())["x"]]
    assert [x.sharding.shard_shape(x.shape) for x in placed] == [(2, 3), (16, 3)]


def test_what_is_held_is_put_there_once():
    placement, held = make_placement(toys.ONE_DEVICE), Held()
    x, y = np.arange(3), np.arange(3)
    first = placement.hold({"x": x}, held)
    own = held.copy()
    again = placement.hold({"a": {"x": x}, "y": y}, own)
    assert again["a"]["x"] is first["x"] and again["y"] is not first["x"]
    assert placement.hold(y, own) is again["y"] and placement.hold(y, held) is not again["y"]
