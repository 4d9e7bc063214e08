"""Transformers over the mesh axis "tensor": their layers are split, and training is that of one device."""

import dataclasses

import families
import jax
import numpy as np
import pytest
import toys

from research.config.hparams import hparams
from research.data.feed import make_feed
from research.errors import RequestError
from research.models.dit import DiT
from research.models.model import Model
from research.parallel.placement import make_placement
from research.parallel.spec import Parallel
from research.paths import flatten
from research.training.programs import make_programs, placement_of

THREE_AXES = Parallel(mesh=(("data", 2), ("fsdp", 2), ("tensor", 2)), shard="fsdp")
TRANSFORMERS = ("gpt", "llama")


def trained(experiment, steps=10):
    """The loss of each step, and the state after the last one."""
    feed = make_feed(experiment.data.load().train, "host")
    programs = make_programs(experiment, feed.resident)
    with feed.batches(0, experiment.batch_size) as batches:
        state = programs.init([0], [hparams(experiment)], batches.sent(0))
        found = []
        for step in range(steps):
            state, metrics = programs.train(state, [batches.sent(step)])
            found.append(float(metrics["loss"][0]))
    return found, state


@pytest.mark.parametrize("family", TRANSFORMERS)
@pytest.mark.parametrize("scan_layers", [False, True])
def test_three_axes_give_the_losses_of_one_device(family, scan_layers, monkeypatch):
    monkeypatch.setattr("research.parallel.placement.SMALLEST_SHARDED", 32)  # so that a tiny model is split
    one = families.experiment(family, parallel=toys.ONE_DEVICE)
    one = dataclasses.replace(one, model=one.model.clone(depth=2, scan_layers=scan_layers))
    whole, _ = trained(one)
    found, state = trained(dataclasses.replace(one, parallel=THREE_AXES))
    np.testing.assert_allclose(found, whole, atol=1e-4)
    block = state.params["blocks" if scan_layers else "block0"]
    for layer, axes in {"up": (-1, -2), "down": (-2, -1)}.items():
        kernel = block[layer]["kernel"]
        parts = [
            size // part for size, part in zip(kernel.shape, kernel.sharding.shard_shape(kernel.shape), strict=True)
        ]
        assert parts[axes[0]] == 2 and kernel.sharding.spec[axes[0]] == "tensor"
        assert parts[axes[1]] == 2 and kernel.sharding.spec[axes[1]] == "fsdp"
    moments = [x for x in jax.tree.leaves(state.opt_state) if x.shape == kernel.shape]
    assert moments and all(x.sharding == kernel.sharding for x in moments)


SPLIT = {"query", "key", "value", "out", "up", "down"}


@pytest.mark.parametrize("family", ["gpt", "llama", "vit", "dit", "translation", "whisper", "ctc"])
def test_every_transformer_has_rules_for_its_layers(family, tmp_path):
    families.write_files(tmp_path)
    model = families.experiment(family, tmp_path).model
    assert isinstance(model, Model) and model.tensor_rules
    assert "tensor_rules" not in {field.name for field in dataclasses.fields(model)}


def kernels(model, *inputs):
    state = jax.eval_shape(model.init, jax.random.key(0), *inputs)["params"]
    mesh = Parallel(mesh=(("data", 4), ("tensor", 2)))
    return state, make_placement(mesh, tensor_rules=model.tensor_rules).state_shardings(state)


def test_heads_and_hidden_features_are_split():
    model = DiT(image_size=8, patch_size=4, channels=1, classes=3, width=16, depth=1, num_heads=2)
    state, shardings = kernels(model, np.zeros((2, 8, 8, 1)), np.zeros(2), np.zeros(2, int))
    block = shardings["block0"]
    assert {name for name in SPLIT if name in block or name in block["attention"]} == SPLIT
    specs = {name: tuple(x.spec) for name, x in flatten(block).items()}
    assert {specs[f"attention/{name}/kernel"] for name in ("query", "key", "value")} == {(None, "tensor")}
    assert specs["attention/out/kernel"] == specs["down/kernel"] == ("tensor", None)
    assert specs["up/kernel"] == (None, "tensor") and specs["up/bias"] == ("tensor",)
    assert not any(specs["attention/out/bias"])


def test_a_model_without_rules_is_refused_unless_parallel_has_some():
    mesh = (("data", 4), ("tensor", 2))
    with pytest.raises(RequestError, match="this model has no rules for the axis 'tensor', as Transformers do"):
        placement_of(toys.experiment(parallel=Parallel(mesh=mesh)))
    rules = (("Dense_0/kernel", (None, "tensor")),)
    assert placement_of(toys.experiment(parallel=Parallel(mesh=mesh, rules=rules))).shards == 4


class Device:
    """A device of a slice."""

    def __init__(self, number, slice_index, platform="cpu"):
        self.id, self.slice_index, self.process_index = number, slice_index, slice_index
        self.platform = self.device_kind = platform

    def __repr__(self):
        return f"{self.slice_index}.{self.id}"


def test_slices_share_the_axis_data_only():
    devices = [Device(i, i // 4) for i in range(8)]
    mesh = Parallel(mesh=(("fsdp", 2), ("data", 2), ("tensor", 2))).make_mesh(devices)
    slices = np.vectorize(lambda device: device.slice_index)(mesh.devices)
    assert (slices == np.arange(2)[None, :, None]).all()
    with pytest.raises(RequestError, match="parallel.mesh: data 1 does not divide over 2 slices"):
        Parallel(mesh=(("data", 1), ("fsdp", 8))).make_mesh(devices)


def test_any_axis_may_go_over_hosts_of_gpus():
    devices = [Device(i, i // 4, "gpu") for i in range(8)]
    assert Parallel(mesh=(("data", 1), ("fsdp", 8))).make_mesh(devices).shape == {"data": 1, "fsdp": 8}
    split = Parallel(mesh=(("fsdp", 4), ("data", 2))).make_mesh(devices).devices
    assert [[device.slice_index for device in row] for row in split] == [[0, 1]] * 4
