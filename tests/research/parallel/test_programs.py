"""Mapping the step over devices, trials and steps does not change its results."""

import dataclasses

import chex
import jax
import numpy as np
import pytest
import toys
from flax import linen as nn

from research.config.hparams import hparams
from research.data.feed import evaluation_batches, make_feed
from research.data.feeds import make_feeds
from research.data.source import Columns
from research.data.spec import Splits
from research.errors import RequestError
from research.models.mlp import MLP
from research.optimizers import SGD, AdamW
from research.parallel.programs import FUSED_STEPS
from research.parallel.spec import Parallel
from research.tasks.classification import Classification
from research.training.programs import EvalKey, make_programs

EIGHT = Parallel()
STEPS = 20


def losses(experiments, *, stacked=False, steps=STEPS, state_too=False):
    """Trains; returns the loss of each step, [steps] or [steps, trials]."""
    first = experiments[0]
    feed = make_feed(first.data.load().train, first.data.storage)
    programs = make_programs(first, feed.resident, trials=len(experiments) if stacked else None)
    batches = [feed.batches(e.seed, e.batch_size) for e in experiments]
    state = programs.init([e.seed for e in experiments], [hparams(e) for e in experiments], batches[0].sent(0))

    def sent(step):
        if not stacked:
            return batches[0].sent(step)
        parts = [b.sent(step) for b in batches]
        return {name: np.stack([p[name] for p in parts]) for name in parts[0]}

    found, step = [], 0
    while step < steps:
        n = min(programs.steps_per_call(state, sent(0)), steps - step)
        state, metrics = programs.train(state, [sent(step + i) for i in range(n)])
        found.append(np.asarray(metrics["loss"])[:n])
        step += n
    found = np.concatenate(found)
    return (found, programs.placement.whole(state)) if state_too else found


@pytest.fixture(scope="module")
def with_batch_norm():
    # Adam would turn rounding errors in the gradients of biases before a batch norm into full-size steps.
    optimizer = SGD(learning_rate=0.3, momentum=0.9)
    model = MLP(widths=(16, 8), classes=3, norm="batch")
    return toys.experiment(model=model, optimizer=optimizer, clip_norm=1.0, ema_decay=0.9)


@pytest.fixture(scope="module")
def alone(with_batch_norm):
    return losses([with_batch_norm], state_too=True)


@pytest.mark.parametrize("strategy", ["jit", "pmap"])
def test_eight_devices_give_the_losses_of_one(strategy, with_batch_norm, alone):
    assert jax.device_count() == 8
    spread = dataclasses.replace(with_batch_norm, parallel=Parallel(strategy=strategy))
    found, state = losses([spread], state_too=True)
    np.testing.assert_allclose(found, alone[0], atol=1e-5)
    chex.assert_trees_all_close(state.collections, alone[1].collections, atol=1e-4)
    assert jax.tree.leaves(state.collections)


@pytest.mark.parametrize("strategy", ["jit", "pmap"])
def test_accumulation_on_eight_devices_with_unequal_weights(strategy):
    one = toys.experiment(data=toys.Blobs(weighted=True, validation=0), batch_size=64, optimizer=SGD(learning_rate=0.5))
    spread = dataclasses.replace(one, parallel=Parallel(strategy=strategy), accumulation=4)
    np.testing.assert_allclose(losses([spread]), losses([one]), atol=1e-5)


@pytest.mark.parametrize("steps_per_call", [1, 3, 64])
def test_steps_in_one_call_are_the_same_steps(steps_per_call):
    experiment = toys.experiment(model=MLP(widths=(16,), classes=3, dropout=0.3))
    parallel = dataclasses.replace(toys.ONE_DEVICE, steps_per_call=steps_per_call)
    found = losses([dataclasses.replace(experiment, parallel=parallel)])
    np.testing.assert_allclose(found, losses([experiment]), rtol=1e-5)


def trials(count, **changes):
    """Makes trials that differ in seed, learning rate and weight decay."""
    rates = np.geomspace(1e-3, 3e-2, count)
    return [
        toys.experiment(seed=i % 2, optimizer=AdamW(learning_rate=float(r), weight_decay=0.1 * i), **changes)
        for i, r in enumerate(rates)
    ]


@pytest.mark.parametrize("parallel", [toys.ONE_DEVICE, EIGHT], ids=["one device", "eight devices"])
@pytest.mark.parametrize("count", [3, 8], ids=["batch over devices", "trials over devices"])
def test_stacked_trials_have_the_losses_they_have_alone(parallel, count):
    model = MLP(widths=(16,), classes=3, dropout=0.2, norm="batch")
    together = losses(trials(count, parallel=parallel, model=model), stacked=True)
    for i, experiment in enumerate(trials(count, model=model)):
        np.testing.assert_allclose(together[:, i], losses([experiment]), rtol=1e-5)


def test_stacked_trials_under_pmap():
    together = losses(trials(3, parallel=Parallel(strategy="pmap")), stacked=True)
    for i, experiment in enumerate(trials(3)):
        np.testing.assert_allclose(together[:, i], losses([experiment]), atol=1e-5)


def test_three_hundred_float64_steps_agree_to_nine_digits():
    with jax.enable_x64(True):
        own = trials(3, model=MLP(widths=(16,), classes=3, dtype="float64"), steps=300)
        together = losses(own, stacked=True, steps=300)
        assert together.dtype == np.float64
        for i, experiment in enumerate(own):
            np.testing.assert_allclose(together[:, i], losses([experiment], steps=300), rtol=1e-9)


@pytest.mark.parametrize("storage", ["host", "device"])
def test_where_the_data_live_changes_nothing(storage):
    experiment = toys.experiment(data=toys.Blobs(validation=40, storage=storage))
    np.testing.assert_allclose(losses([experiment]), losses([toys.experiment()]), rtol=1e-6)


def test_rules_shard_a_parameter_and_its_moments():
    rules = (("Dense_0/kernel", (None, "model")), ("Dense_1/kernel", ("model", None)))
    parallel = Parallel(mesh=(("data", 2), ("model", 4)), rules=rules)
    experiment = toys.experiment(parallel=parallel)
    found, state = losses([experiment], state_too=True)
    np.testing.assert_allclose(found, losses([toys.experiment()]), atol=1e-5)
    kernel = state.params["Dense_0"]["kernel"]
    assert kernel.addressable_shards[0].data.shape == (12, 4)
    moments = [x for x in jax.tree.leaves(state.opt_state) if x.shape == (12, 16)]
    assert moments and all(x.addressable_shards[0].data.shape == (12, 4) for x in moments)


class Convolutional(nn.Module):
    """A user's own model, which uses nothing of this library."""

    @nn.compact
    def __call__(self, x, *, train=False):
        return nn.Dense(3)(nn.Conv(4, (3,))(x).reshape(len(x), -1))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, FUSED_STEPS),
        ({"model": Convolutional()}, 1),
        ({"data": toys.Blobs(validation=40, storage="host")}, 1),
        ({"model": Convolutional(), "parallel": dataclasses.replace(toys.ONE_DEVICE, steps_per_call=3)}, 3),
        ({"model": Convolutional(), "parallel": Parallel(strategy="pmap")}, 1),
    ],
    ids=["fused", "convolution", "data travel", "asked for", "convolution under pmap"],
)
def test_steps_in_one_call_by_default(changes, expected):
    experiment = toys.experiment(**changes)
    feed = make_feed(experiment.data.load().train, experiment.data.storage)
    programs = make_programs(experiment, feed.resident)
    sent = feed.batches(0, experiment.batch_size).sent(0)
    assert programs.steps_per_call(programs.init([0], [hparams(experiment)], sent), sent) == expected


@pytest.mark.parametrize("trials", [None, 3])
def test_evaluation_on_eight_devices(trials):
    """The outputs equal those on one device, and equal keys share a compiled program."""
    found = []
    for parallel in (toys.ONE_DEVICE, EIGHT, Parallel(strategy="pmap")):
        experiment = toys.experiment(parallel=parallel)
        feed = make_feed(experiment.data.load().test)
        programs = make_programs(experiment, feed.resident, trials=trials)
        sent = next(evaluation_batches(feed, 16))
        state = programs.init(range(trials or 1), [hparams(experiment)] * (trials or 1), sent)
        outputs = programs.evaluate(EvalKey(), state, programs.hold(feed), sent)
        assert all(isinstance(x, jax.Array) for x in outputs.values())
        found.append(programs.placement.fetch(outputs))
        assert programs.evaluate_memory(EvalKey(task_of=None), state, programs.hold(feed), sent) > 0
        assert len(programs._compiled.evaluate) == 1
        assert programs.evaluate_memory(EvalKey(seed=1), state, programs.hold(feed), sent) > 0
        assert len(programs._compiled.evaluate) == 2
    for other in found[1:]:
        chex.assert_trees_all_close(other, found[0], rtol=1e-5)


# -- shared columns ----------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rows(toys.Blobs):
    """The blobs as rows of a shared table; an example is its row number."""

    rows: int = 300

    def read(self):
        train, _, test = super().read()
        images = np.concatenate([part.arrays()["image"] for part in (train, test)])
        table = np.zeros((self.rows, 12), np.float32)
        table[: len(images)] = images.reshape(-1, 12)

        def part(source, start):
            row = np.arange(start, start + len(source))
            return Columns({"row": row, "label": source.arrays()["label"]}, shared={"table": table})

        return Splits(train=part(train, 0), test=part(test, len(train)))


class OfTable(Classification):
    """Classifies rows of the shared table."""

    def inputs(self, batch):
        return {"x": batch["shared"]["table"][batch["row"]]}


def of_table(data, **changes):
    return toys.experiment(task=OfTable(classes=3, input="row"), data=data, **changes)


@pytest.mark.parametrize("storage", ["device", "host"])
@pytest.mark.parametrize("parallel", [toys.ONE_DEVICE, EIGHT, Parallel(strategy="pmap")], ids=["one", "mesh", "pmap"])
@pytest.mark.parametrize("accumulation", [1, 2])
def test_a_shared_column_gives_the_losses_of_a_column_per_example(storage, parallel, accumulation):
    changes = {"parallel": parallel, "accumulation": accumulation, "batch_size": 32}
    shared = of_table(Rows(validation=40, storage=storage), **changes)
    np.testing.assert_allclose(losses([shared], steps=6), losses([toys.experiment(batch_size=32)], steps=6), atol=1e-5)


@pytest.mark.parametrize("accumulation", [1, 2])
@pytest.mark.parametrize("devices", [1, 8])
@pytest.mark.parametrize("strategy", ["jit", "pmap"])
def test_eight_stacked_trials_need_the_memory_of_one_shared_column(strategy, devices, accumulation):
    data = Rows(validation=40, rows=2_200_000)
    parallel = Parallel(strategy=strategy, mesh=(("data", devices),))
    experiment = of_table(data, parallel=parallel, accumulation=accumulation, batch_size=32)
    feeds = make_feeds(data.load(), data)
    programs = make_programs(experiment, feeds.train.resident, trials=8)
    table = feeds.train.shared["table"]
    assert table.nbytes > 100e6
    sent = feeds.train.batches(0, experiment.batch_size).sent(0)
    state = programs.init(range(8), [hparams(experiment)] * 8, sent)
    side_by_side = {name: np.stack([x] * 8) for name, x in sent.items()}

    analysis = programs.train_program(state, side_by_side).memory_analysis()  # for one device
    assert table.nbytes < analysis.argument_size_in_bytes < 1.1 * table.nbytes
    assert analysis.temp_size_in_bytes + analysis.output_size_in_bytes < 0.1 * table.nbytes
    assert programs.train_memory(state, side_by_side) < 0.1 * table.nbytes
    state, metrics = programs.train(state, [side_by_side])

    validation = feeds.evaluation["validation"]
    resident, batch = programs.hold(validation), next(evaluation_batches(validation, 8))
    assert programs.evaluate_memory(EvalKey(), state, resident, batch) < 0.1 * table.nbytes
    outputs = programs.evaluate(EvalKey(), state, resident, batch)
    assert (metrics["loss"][0] > 0).all() and all(np.isfinite(x).all() for x in outputs.values())

    tables = [x for x in jax.live_arrays() if table.shape == x.shape[-2:]]
    assert sum(shard.data.nbytes for x in tables for shard in x.addressable_shards) == devices * table.nbytes


@pytest.mark.parametrize(
    ("parallel", "changes", "says"),
    [
        (Parallel(mesh=(("date", -1),)), {}, "one of them 'data'"),
        (Parallel(mesh=(("data", 0),)), {}, "at least 1"),
        (Parallel(mesh=(("data", -1), ("model", -1))), {}, "at most one"),
        (Parallel(mesh=(("data", 16),)), {}, "8 devices do not fill it"),
        (Parallel(mesh=(("data", -1), ("model", 3))), {}, "8 devices do not fill it"),
        (Parallel(rules=(("*", ("modl",)),)), {}, "no mesh axis 'modl'"),
        (Parallel(strategy="pmap", rules=(("*", ("data",)),)), {}, "use jit"),
        (Parallel(steps_per_call=0), {}, "at least 1"),
        (EIGHT, {"batch_size": 20}, "does not divide over 8 devices"),
        (EIGHT, {"batch_size": 24, "accumulation": 2}, "does not divide over 8 devices"),
    ],
)
def test_a_layout_that_cannot_be_is_one_line(parallel, changes, says):
    experiment = toys.experiment(parallel=parallel, **changes)
    with pytest.raises(RequestError, match="^[^\n]+$") as error:
        experiment.check()
        make_programs(experiment, {})
    assert says in str(error.value)
