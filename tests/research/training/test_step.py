"""The train step: gradients, accumulation, averaging, clipping, precision, random keys."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import toys
from flax import linen as nn

from research.config.hparams import hparams
from research.data.augment.augmentation import Augmentation
from research.data.feed import make_feed, take
from research.errors import RequestError
from research.models.mlp import MLP
from research.models.model import arguments
from research.optimizers import SGD, AdamW
from research.schedules import Linear
from research.tasks.classification import Classification
from research.tasks.task import Task
from research.training.abstract import check_carried
from research.training.step import make_eval_step, make_init, make_train_step


def start(experiment, seed=0):
    """Returns the state before the first step, and a list of batches."""
    feed = make_feed(experiment.data.load().train, "device")
    batches = feed.batches(experiment.seed, experiment.batch_size)
    values = {path: jnp.float32(x) for path, x in hparams(experiment).items()}
    first = {k: jnp.asarray(v) for k, v in batches[0].items()}
    state = jax.jit(make_init(experiment))(jax.random.key(seed), first, values)
    return state, [take(feed.resident, batches.sent(i)) for i in range(4)]


def test_one_step_is_the_gradient_of_the_weighted_mean():
    experiment = toys.experiment(
        data=toys.Blobs(weighted=True), optimizer=SGD(learning_rate=0.1), model=MLP(widths=(5,), classes=3)
    )
    state, batches = start(experiment)
    batch = batches[0]

    def loss(params):
        logits = experiment.model.apply({"params": params}, batch["image"])
        each = optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"])
        return (each * batch["weight"]).sum() / batch["weight"].sum()

    value, gradients = jax.value_and_grad(loss)(state.params)
    after, metrics = jax.jit(make_train_step(experiment))(state, batch)
    expected = jax.tree.map(lambda p, g: p - 0.1 * g, state.params, gradients)
    chex.assert_trees_all_close(after.params, expected, atol=1e-6)
    np.testing.assert_allclose(metrics["loss"], value, rtol=1e-6)
    np.testing.assert_allclose(metrics["gradient_norm"], optax.tree.norm(gradients), rtol=1e-5)
    assert int(after.step) == 1


@pytest.mark.parametrize("accumulation", [2, 4])
def test_accumulation_gives_the_gradients_of_the_whole_batch_with_unequal_weights(accumulation):
    whole = toys.experiment(data=toys.Blobs(weighted=True), optimizer=SGD(learning_rate=1.0))
    state, batches = start(whole)
    split = dataclasses.replace(whole, accumulation=accumulation)
    one, metrics_one = jax.jit(make_train_step(whole))(state, batches[0])
    many, metrics_many = jax.jit(make_train_step(split))(state, batches[0])
    chex.assert_trees_all_close(many.params, one.params, atol=1e-6)
    chex.assert_trees_all_close(metrics_many, metrics_one, rtol=1e-5)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TwoTerms(Task):
    """Has two losses with different weights: the mean over examples of class 0, and the mean over all examples."""

    def inputs(self, batch):
        return {"x": batch["image"]}

    def loss(self, apply, batch):
        logits = apply(**self.inputs(batch), train=True)
        first = (batch["label"] == 0).astype(jnp.float32)
        return {
            "loss/first": ((logits[:, 0] ** 2 * first).sum(), first.sum()),
            "loss/all": ((logits[:, 1] ** 2).sum(), jnp.float32(len(logits))),
            "seen": (first.sum(), jnp.float32(1)),
        }


@pytest.mark.parametrize("accumulation", [2, 4])
def test_terms_with_weights_of_their_own_accumulate_too(accumulation):
    whole = toys.experiment(task=TwoTerms(), optimizer=SGD(learning_rate=1.0))
    state, batches = start(whole)
    one, metrics = jax.jit(make_train_step(whole))(state, batches[0])
    split = dataclasses.replace(whole, accumulation=accumulation)
    many, _ = jax.jit(make_train_step(split))(state, batches[0])
    chex.assert_trees_all_close(many.params, one.params, atol=1e-6)
    np.testing.assert_allclose(metrics["loss"], metrics["loss/first"] + metrics["loss/all"], rtol=1e-6)


def test_padding_changes_nothing():
    experiment = toys.experiment(optimizer=SGD(learning_rate=1.0))
    state, batches = start(experiment)
    batch = {k: np.asarray(x) for k, x in batches[0].items()}
    padded = {k: np.concatenate([x, x[:5]]) for k, x in batch.items()}
    padded["weight"][-5:] = 0
    step = jax.jit(make_train_step(experiment))
    chex.assert_trees_all_close(step(state, batch)[0].params, step(state, padded)[0].params, atol=1e-6)


def test_a_batch_without_weight_moves_nothing():
    experiment = toys.experiment(optimizer=SGD(learning_rate=1.0))
    state, batches = start(experiment)
    empty = {**batches[0], "weight": jnp.zeros(len(batches[0]["weight"]))}
    after, metrics = jax.jit(make_train_step(experiment))(state, empty)
    chex.assert_trees_all_equal(after.params, state.params)
    assert float(metrics["loss"]) == 0


def test_clipping_bounds_the_update():
    experiment = toys.experiment(optimizer=SGD(learning_rate=1.0), clip_norm=1e-2)
    state, batches = start(experiment)
    after, metrics = jax.jit(make_train_step(experiment))(state, batches[0])
    moved = optax.tree.norm(jax.tree.map(jnp.subtract, after.params, state.params))
    assert float(metrics["gradient_norm"]) > 0.1
    np.testing.assert_allclose(moved, 1e-2, rtol=1e-3)


def test_a_gradient_below_the_bound_is_not_clipped():
    plain, clipped = (toys.experiment(optimizer=SGD(learning_rate=1.0), clip_norm=bound) for bound in (None, 1e3))
    state, batches = start(plain)
    after, metrics = jax.jit(make_train_step(plain))(state, batches[0])
    assert float(metrics["gradient_norm"]) < 1e3
    state, batches = start(clipped)
    unclipped = jax.jit(make_train_step(clipped))(state, batches[0])[0]
    chex.assert_trees_all_close(unclipped.params, after.params, rtol=1e-6)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Noise(Augmentation):
    """Adds noise that depends on the example's place in the batch."""

    def apply(self, key, x):
        return x + jax.random.normal(key, x.shape)


class LateNoise(Noise):
    after_preprocess = True


@pytest.mark.parametrize("noise", [Noise(), LateNoise()], ids=["raw", "after preprocess"])
def test_the_examples_of_a_shard_have_the_places_of_the_whole_batch(noise):
    experiment = toys.experiment(augment=(noise,))
    state, batches = start(experiment)
    whole = jax.jit(make_train_step(experiment))(state, batches[0])[1]["loss"]
    shards = jax.tree.map(lambda x: x.reshape(2, -1, *x.shape[1:]), batches[0])
    of_shard = make_train_step(experiment, axis_name="data")
    sharded = jax.jit(jax.vmap(of_shard, (None, 0), axis_name="data"))(state, shards)[1]["loss"]
    np.testing.assert_allclose(sharded, [whole, whole], rtol=1e-5)


def test_the_rate_that_is_logged_is_the_rate_that_moved_the_parameters():
    """Both are the rate at the state's step, whatever its value."""
    experiment = toys.experiment(optimizer=SGD(learning_rate=0.5, schedule=Linear(warmup_steps=10)))
    state, batches = start(experiment)
    step = jax.jit(make_train_step(experiment))
    for number, rate in ((4, 0.2), (25, 0.25)):
        before = state.replace(step=jnp.int32(number))
        after, metrics = step(before, batches[0])
        moved = optax.tree.norm(jax.tree.map(jnp.subtract, before.params, after.params))
        np.testing.assert_allclose(metrics["learning_rate"], rate, rtol=1e-6)
        np.testing.assert_allclose(moved / metrics["gradient_norm"], rate, rtol=1e-4)


def test_frozen_parameters_stay_and_count_in_no_norm():
    experiment = toys.experiment(optimizer=SGD(learning_rate=0.1, frozen=("Dense_0/*",)))
    state, batches = start(experiment)
    after, metrics = jax.jit(make_train_step(experiment))(state, batches[0])
    chex.assert_trees_all_equal(after.params["Dense_0"], state.params["Dense_0"])
    moved = jax.tree.map(lambda a, b: (a - b) / 0.1, state.params, after.params)
    np.testing.assert_allclose(metrics["gradient_norm"], optax.tree.norm(moved), rtol=1e-4)


def test_the_average_follows_the_parameters_and_evaluation_uses_it():
    experiment = toys.experiment(optimizer=SGD(learning_rate=0.5), ema_decay=0.75)
    state, batches = start(experiment)
    after, _ = jax.jit(make_train_step(experiment))(state, batches[0])
    expected = jax.tree.map(lambda a, b: 0.1 * a + 0.9 * b, state.params, after.params)
    chex.assert_trees_all_close(after.ema["params"], expected, atol=1e-6)
    outputs = make_eval_step(experiment)(after, batches[0])
    plain = make_eval_step(experiment)(after.replace(params=after.ema["params"], ema=None), batches[0])
    chex.assert_trees_all_equal(outputs, plain)


def test_batch_statistics_are_averaged_as_the_parameters_are():
    experiment = toys.experiment(model=MLP(widths=(8,), classes=3, norm="batch"), ema_decay=0.75)
    state, batches = start(experiment)
    step = jax.jit(make_train_step(experiment))
    expected = state.variables()
    for i in range(40):
        state, _ = step(state, batches[i % len(batches)])
        decay = min(0.75, (1 + i) / (10 + i))  # the decay grows, so that the initial values are soon forgotten
        expected = jax.tree.map(lambda a, b, decay=decay: decay * a + (1 - decay) * b, expected, state.variables())
    chex.assert_trees_all_close(state.variables(averaged=True), expected, rtol=1e-5)


def test_hparams_are_those_of_the_state():
    experiment = toys.experiment(optimizer=SGD(learning_rate=0.1), clip_norm=1.0, ema_decay=0.5)
    state, batches = start(experiment)
    step = jax.jit(make_train_step(experiment))
    assert set(state.hparams) >= {"optimizer.learning_rate", "task.label_smoothing", "clip_norm", "ema_decay"}
    still = state.replace(hparams={**state.hparams, "optimizer.learning_rate": jnp.float32(0)})
    chex.assert_trees_all_equal(step(still, batches[0])[0].params, state.params)
    moved = step(state, batches[0])[0]
    assert not np.allclose(moved.params["Dense_0"]["kernel"], state.params["Dense_0"]["kernel"])


def test_batch_statistics_are_kept_and_used():
    experiment = toys.experiment(model=MLP(widths=(8,), classes=3, norm="batch"))
    state, batches = start(experiment)
    after, _ = jax.jit(make_train_step(experiment))(state, batches[0])
    hidden = batches[0]["image"].reshape(24, -1) @ state.params["Dense_0"]["kernel"] + state.params["Dense_0"]["bias"]
    mean = after.collections["batch_stats"]["BatchNorm_0"]["mean"]
    np.testing.assert_allclose(mean, 0.1 * hidden.mean(0), atol=1e-5)


def test_a_frozen_batch_norm_keeps_its_statistics_and_normalises_by_them():
    model = MLP(widths=(8, 8), classes=3, norm="batch")
    frozen = ("BatchNorm_0/*", "Dense_0/*")
    experiment = toys.experiment(model=model, optimizer=SGD(learning_rate=0.1, frozen=frozen))
    state, (batch, *_) = start(experiment)
    after, metrics = jax.jit(make_train_step(experiment))(state, batch)
    before, now = (s.collections["batch_stats"] for s in (state, after))
    chex.assert_trees_all_equal(now["BatchNorm_0"], before["BatchNorm_0"])
    assert abs(now["BatchNorm_1"]["mean"] - before["BatchNorm_1"]["mean"]).max() > 0

    def loss(**kwargs):
        logits, _ = model.apply(state.variables(), batch["image"], mutable=["batch_stats"], **kwargs)
        return optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"]).mean()

    assert abs(metrics["loss"] - loss(train=True)) > 1e-3 and abs(metrics["loss"] - loss(train=False)) > 1e-3
    probe = dataclasses.replace(experiment.optimizer, frozen=(*frozen, "BatchNorm_1/*", "Dense_1/*"))
    _, metrics = jax.jit(make_train_step(dataclasses.replace(experiment, optimizer=probe)))(state, batch)
    np.testing.assert_allclose(metrics["loss"], loss(train=False), rtol=1e-5)


def test_dropout_differs_by_step_and_by_seed_and_not_by_call():
    experiment = toys.experiment(model=MLP(widths=(64,), classes=3, dropout=0.5), optimizer=SGD(learning_rate=0.1))
    state, batches = start(experiment)
    step = jax.jit(make_train_step(experiment))
    losses = [float(step(s, batches[0])[1]["loss"]) for s in (state, state, state.replace(step=jnp.int32(1)))]
    other = float(step(state.replace(rng=jax.random.key(1)), batches[0])[1]["loss"])
    assert losses[0] == losses[1] != losses[2] and other not in losses


def test_bfloat16_computes_in_bfloat16_and_keeps_float32():
    experiment = toys.experiment(model=MLP(widths=(16,), classes=3, dtype="bfloat16", norm="batch"))
    state, batches = start(experiment)
    after, metrics = jax.jit(make_train_step(experiment))(state, batches[0])
    for tree in (after.params, after.collections):
        assert {x.dtype for x in jax.tree.leaves(tree)} == {jnp.dtype("float32")}
    assert metrics["loss"].dtype == jnp.float32
    outputs = experiment.model.apply(state.variables(), batches[0]["image"])
    assert outputs.dtype == jnp.bfloat16
    full, _ = start(dataclasses.replace(experiment, model=experiment.model.clone(dtype="float32")))
    exact = make_train_step(toys.experiment(model=experiment.model.clone(dtype="float32")))(full, batches[0])[1]
    np.testing.assert_allclose(metrics["loss"], exact["loss"], rtol=0.02)


def test_the_loss_falls():
    experiment = toys.experiment(optimizer=AdamW(learning_rate=1e-2))
    state, batches = start(experiment)
    step = jax.jit(make_train_step(experiment))
    losses = []
    for i in range(60):
        state, metrics = step(state, batches[i % 4])
        losses.append(float(metrics["loss"]))
    assert losses[-1] < 0.3 * losses[0]


def test_model_and_task_that_disagree_are_told_so():
    experiment = toys.experiment(task=Classification(classes=4))
    state, batches = start(experiment)
    with pytest.raises(RequestError, match="task.classes=4: the model gives 3 logits"):
        make_train_step(experiment)(state, batches[0])


def test_what_a_model_sows_stays_out_of_the_state():
    class Sowing(nn.Module):
        @nn.compact
        def __call__(self, x, *, train=False):
            self.sow("intermediates", "input", x)
            return nn.Dense(3)(x.reshape(len(x), -1))

    state, batches = start(toys.experiment(model=Sowing()))
    after, _ = jax.jit(make_train_step(toys.experiment(model=Sowing())))(state, batches[0])
    assert state.collections == {} and after.collections == {}


class Counting(nn.Module):
    """Sows a loss, and counts its calls in an integer variable."""

    kind: str = "int32"

    @nn.compact
    def __call__(self, x, *, train=False):
        calls = self.variable("counts", "calls", lambda: jnp.zeros((), jnp.int32))
        if train:
            calls.value = (calls.value + 1).astype(self.kind)
        y = nn.Dense(3)(x.reshape(len(x), -1))
        self.sow("losses", "size", jnp.mean(y**2))
        return y


@dataclasses.dataclass(frozen=True, kw_only=True)
class WithSown(Classification):
    """Adds the loss that the model sowed."""

    def loss(self, apply, batch):
        logits, sown = apply(**self.inputs(batch), train=True, mutable=["losses"])
        (size,) = sown["losses"]["size"]
        return super().loss(lambda **_: logits, batch) | {"loss/size": (size, jnp.float32(1))}


@pytest.mark.parametrize("accumulation", [1, 2])
def test_what_is_sown_is_the_tasks_and_not_the_next_steps(accumulation):
    experiment = toys.experiment(model=Counting(), task=WithSown(classes=3), accumulation=accumulation)
    state, batches = start(experiment)
    assert set(state.collections) == {"counts"}
    after, metrics = jax.jit(make_train_step(experiment))(state, batches[0])
    assert float(metrics["loss/size"]) > 0
    _, plain = jax.jit(make_train_step(toys.experiment(model=Counting(), accumulation=accumulation)))(state, batches[0])
    np.testing.assert_allclose(metrics["loss"], plain["loss"] + metrics["loss/size"], rtol=1e-5)
    assert int(after.collections["counts"]["calls"]) == accumulation
    check_carried(state, after)


def test_the_average_is_of_floating_numbers_only():
    experiment = toys.experiment(model=Counting(), ema_decay=0.9, optimizer=SGD(learning_rate=0.5))
    state, batches = start(experiment)
    after, _ = jax.jit(make_train_step(experiment))(state, batches[0])
    assert after.ema["counts"]["calls"].dtype == jnp.int32 and int(after.ema["counts"]["calls"]) == 1
    check_carried(state, after)


def test_the_warm_up_of_the_average_is_a_field():
    at_once = toys.experiment(optimizer=SGD(learning_rate=0.5), ema_decay=0.75, ema_warmup=1.0)
    state, batches = start(at_once)
    after, _ = jax.jit(make_train_step(at_once))(state, batches[0])
    expected = jax.tree.map(lambda a, b: 0.75 * a + 0.25 * b, state.params, after.params)
    chex.assert_trees_all_close(after.ema["params"], expected, atol=1e-6)


def test_a_state_that_changes_its_types_is_told_by_path():
    experiment = toys.experiment(model=Counting(kind="float32"))
    state, batches = start(experiment)
    after = jax.eval_shape(make_train_step(experiment), state, batches[0])[0]
    with pytest.raises(RequestError, match=r"changes collections/counts/calls from int32 \[\] to float32 \[\]"):
        check_carried(state, after)


def test_a_model_gets_its_first_argument_by_whatever_name():
    class Named(nn.Module):
        @nn.compact
        def __call__(self, picture, *, scale=1.0, train=False):
            return nn.Dense(3)(scale * picture.reshape(len(picture), -1))

    state, batches = start(toys.experiment(model=Named()))
    assert set(state.params) == {"Dense_0"}
    with pytest.raises(RequestError, match="the task gives 'mask', but Named takes no such argument"):
        arguments(Named(), {"x": 1, "mask": 2})
    with pytest.raises(RequestError, match="Named needs 'picture', which the task does not give"):
        arguments(Named(), {"scale": 2.0})


@pytest.mark.parametrize("accumulation", [1, 2])
def test_a_frozen_norm_that_is_told_at_the_call_trains(accumulation):
    class AtTheCall(nn.Module):
        @nn.compact
        def __call__(self, x, *, train=False):
            x = nn.Dense(8, name="backbone")(x.reshape(len(x), -1))
            return nn.Dense(3)(nn.BatchNorm(name="norm")(x, use_running_average=not train))

    frozen = SGD(learning_rate=0.1, frozen=("backbone/*", "norm/*"))
    experiment = toys.experiment(model=AtTheCall(), optimizer=frozen, accumulation=accumulation)
    state, batches = start(experiment)
    after, _ = jax.jit(make_train_step(experiment))(state, batches[0])
    chex.assert_trees_all_equal(after.collections, state.collections)
