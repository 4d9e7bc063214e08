"""Optax's own transformations inside the project's pipeline."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import toys

from research.config.hparams import hparams
from research.config.serialization import from_json, to_json
from research.data.feeds import make_feeds
from research.errors import RequestError
from research.optimizers import Optax, rule
from research.schedules import Cosine
from research.training.programs import make_programs

PARAMS = {"head": {"kernel": jnp.array([[1.0, 2.0], [3.0, -4.0]]), "bias": jnp.array([0.5, 1.0])}}
FREE = rule("contrib.schedule_free_adamw", b1=0.8, weight_decay=0.0)


def gradient(params, step):
    return jax.tree.map(lambda p: p * (step + 1) / 3 + 0.1, params)


def walked(transformation, steps=5, **extra):
    """(parameters, state) after a few steps."""
    params, state = PARAMS, transformation.init(PARAMS)
    for step in range(steps):
        updates, state = transformation.update(gradient(params, step), state, params, **extra)
        params = optax.apply_updates(params, updates)
    return params, state


def found(state, field):
    """The parts of an optimizer's state that have a field."""
    is_part = lambda x: hasattr(x, field)  # noqa: E731
    return [x for x in jax.tree.leaves(state, is_leaf=is_part) if is_part(x)]


@pytest.mark.parametrize(
    ("chain", "reference"),
    [
        ((rule("scale_by_belief", b1=0.8),), lambda: optax.adabelief(0.1, b1=0.8)),
        ((rule("adabelief", b1=0.8),), lambda: optax.adabelief(0.1, b1=0.8)),
        (
            (rule("clip", max_delta=0.5), rule("adamw", weight_decay=0.3)),
            lambda: optax.chain(optax.clip(0.5), optax.adamw(0.1, weight_decay=0.3)),
        ),
        ((FREE,), lambda: optax.contrib.schedule_free_adamw(0.1, b1=0.8, weight_decay=0.0)),
    ],
    ids=["direction", "with a rate", "chain", "schedule-free"],
)
def test_updates_are_optaxs(chain, reference):
    own, _ = walked(Optax(0.1, chain=chain).transformation())
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), own, walked(reference())[0])


@pytest.mark.parametrize("own", [rule("scale_by_adam"), rule("adam"), FREE], ids=["direction", "rate", "free"])
def test_frozen_parameters_and_rates_hold(own):
    chain = (own,)
    optimizer = Optax(0.1, chain=chain, frozen=("*/bias",), rates=(("*/kernel", 0.5),))
    transformation = optimizer.transformation()
    params, state = walked(transformation, steps=1)
    np.testing.assert_array_equal(params["head"]["bias"], PARAMS["head"]["bias"])
    whole, _ = walked(Optax(0.1, chain=chain).transformation(), steps=1)
    kernel = PARAMS["head"]["kernel"]
    np.testing.assert_allclose(params["head"]["kernel"] - kernel, (whole["head"]["kernel"] - kernel) / 2, rtol=1e-5)
    if optimizer.averages:
        averaged = optimizer.averaged(state, params)
        np.testing.assert_array_equal(averaged["head"]["bias"], PARAMS["head"]["bias"])
        assert not np.array_equal(averaged["head"]["kernel"], params["head"]["kernel"])


def test_decoupled_decay_is_added_to_a_direction():
    own, _ = walked(Optax(0.1, chain=(rule("scale_by_adam"),), weight_decay=0.3, no_decay=()).transformation())
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), own, walked(optax.adamw(0.1, weight_decay=0.3))[0]
    )


def test_the_loss_reaches_a_rule_that_asks_for_it():
    chain = (rule("sgd"), rule("contrib.reduce_on_plateau", patience=1, factor=0.1, rtol=1e-3))
    transformation = Optax(0.1, chain=chain).transformation()
    _, state = walked(transformation, value=jnp.float32(1.0))
    (plateau,) = found(state, "plateau_count")
    assert float(plateau.scale) < 0.1  # the loss never falls


def trained(experiment, steps=3):
    """(state, metrics of the last step) after a few steps of the compiled program."""
    feeds = make_feeds(experiment.data.load(), experiment.data)
    programs = make_programs(experiment, feeds.train.resident)
    with feeds.train.batches(0, experiment.batch_size) as batches:
        sent = batches.largest()
    state = programs.init([0], [hparams(experiment)], sent)
    for _ in range(steps):
        state, metrics = programs.train(state, [sent])
    return state, metrics


def test_training_gives_the_loss_of_the_batch():
    chain = (rule("sgd"), rule("contrib.reduce_on_plateau", patience=5))
    state, metrics = trained(toys.experiment(optimizer=Optax(0.05, chain=chain)), steps=1)
    (plateau,) = found(state.opt_state, "plateau_count")
    assert float(plateau.best_value) == pytest.approx(float(metrics["loss"][0]))


def test_schedule_free_training_is_evaluated_with_the_averaged_parameters():
    experiment = toys.experiment(optimizer=Optax(0.05, chain=(FREE,), schedule=Cosine(warmup_steps=2)))
    experiment.check()
    state, _ = trained(experiment)
    (free,) = found(state.opt_state, "max_lr")
    expected = optax.contrib.schedule_free_eval_params(free, state.params)
    evaluated = state.variables(averaged=True)["params"]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), evaluated, expected)
    assert any(not np.allclose(a, b) for a, b in zip(*map(jax.tree.leaves, (evaluated, state.params)), strict=True))


def test_a_chain_survives_its_record():
    optimizer = Optax(0.1, chain=(rule("scale_by_adam", b1=0.8, mu_dtype=None), rule("contrib.reduce_on_plateau")))
    assert from_json(to_json(optimizer)) == optimizer


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"chain": ()}, "chain=(): expected rules"),
        ({"chain": ("adam",)}, "chain.0='adam': expected a rule"),
        ({"chain": (rule("scale_by_beleif"),)}, "did you mean 'scale_by_belief'"),
        ({"chain": (rule("scale_by_adam", beta=1),)}, "unexpected keyword argument 'beta'"),
        ({"chain": (rule("adam"), rule("sgd"))}, "adam and sgd both apply the learning rate"),
        ({"chain": (rule("adamw"),), "weight_decay": 0.1}, "rule('adamw', weight_decay=…)"),
        ({"chain": (rule("apply_updates"),)}, "optax.apply_updates"),
        ({"chain": (rule("clip"),)}, "missing 1 required positional argument: 'max_delta'"),
    ],
)
def test_what_optax_would_not_take_is_refused_in_a_line(changes, message):
    with pytest.raises(RequestError) as refused:
        Optax(0.1, **changes).check(10)
    assert message in str(refused.value) and "\n" not in str(refused.value)


def test_two_averages_are_refused():
    free = dataclasses.replace(toys.experiment(), optimizer=Optax(0.1, chain=(FREE,)), ema_decay=0.9)
    with pytest.raises(RequestError, match="ema_decay=0.9: the optimizer averages by itself"):
        free.check()
