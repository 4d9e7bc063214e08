"""Each example has a key: its noise does not depend on devices, micro-batches, trials or evaluation batches."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from research.data.feeds import make_feeds
from research.models.mlp import MLP
from research.optimizers import SGD
from research.parallel.spec import Parallel
from research.tasks.randomness import per_example
from research.tasks.task import Task, direction, weighted
from research.training.evaluate import evaluate

STEPS = 6


@dataclasses.dataclass(frozen=True, kw_only=True)
class Denoising(Task):
    """Predicts the mean of the noise in a noised image; draws random numbers in training and in evaluation."""

    better: ClassVar = {"loss": "min"}

    def inputs(self, batch):
        return {"x": batch["image"]}

    def _errors(self, apply, batch, train):
        time = per_example(batch["key"], 0, jax.random.uniform)[:, None, None]
        noise = per_example(batch["key"], 1, jax.random.normal, batch["image"].shape[1:])
        noised = (1 - time) * batch["image"] + time * noise
        return ((apply(x=noised, train=train) - noise[:, 0]) ** 2).mean(-1)

    def loss(self, apply, batch):
        return {"loss": weighted(self._errors(apply, batch, True), batch["weight"])}

    def eval_outputs(self, apply, batch):
        return {"loss": self._errors(apply, batch, False)}

    def finalize(self, outputs):
        return {"loss": float(outputs["loss"].mean())}


def own(**changes):
    base = toys.experiment(task=Denoising(), model=MLP(widths=(16,), classes=3), optimizer=SGD(learning_rate=0.1))
    return dataclasses.replace(base, **changes)


@pytest.fixture(scope="module")
def feeds():
    experiment = own()
    return make_feeds(experiment.data.load(), experiment.data)


def losses(feeds, trials=None, **changes):
    return toys.first_steps(own(**changes), feeds, STEPS, trials)


@pytest.fixture(scope="module")
def reference(feeds):
    return losses(feeds)


@pytest.mark.parametrize(
    "changes",
    [
        {"accumulation": 2},
        {"accumulation": 4},
        {"parallel": Parallel(mesh=(("data", 8),))},
        {"parallel": Parallel(strategy="pmap", mesh=(("data", 8),))},
        {"parallel": Parallel(strategy="pmap", mesh=(("data", 2),)), "accumulation": 4},
    ],
    ids=str,
)
def test_the_noise_does_not_depend_on_the_layout(feeds, reference, changes):
    np.testing.assert_allclose(losses(feeds, **changes)[0].reshape(STEPS), reference[0].reshape(STEPS), rtol=1e-5)


def test_stacked_trials_have_the_noise_that_each_has_alone(feeds, reference):
    together, _, _ = losses(feeds, trials=2)
    np.testing.assert_allclose(together[:, 0], reference[0].reshape(STEPS), rtol=1e-5)
    assert abs(together[:, 1] - together[:, 0]).min() > 1e-4


def test_the_noise_differs_by_step_and_by_example(feeds):
    still, _, _ = losses(feeds, optimizer=SGD(learning_rate=0.0))
    assert len(set(still.reshape(STEPS).tolist())) == STEPS
    keys = jax.random.split(jax.random.key(0), 3)
    first, second = (per_example(keys, stream, jax.random.normal, (2,)) for stream in (0, 1))
    assert len(np.unique(np.stack([first, second]))) == 12


def test_an_evaluation_does_not_depend_on_its_batches(feeds, reference):
    _, programs, state = reference
    found = [
        evaluate(programs, state, feeds.evaluation["validation"], own(eval_batch_size=size))[0]["loss"]
        for size in (1, 7, 64, 40)
    ]
    np.testing.assert_allclose(found, found[0], rtol=1e-6)


def test_directions_are_declared_by_name_or_by_pattern():
    task = toys.experiment().task
    assert direction(task, "validation/loss") == "min" and direction(task, "accuracy") == "max"
    assert direction(task, "top_5_accuracy") == "max" and direction(task, "confusion") is None


def test_a_weight_that_depends_on_parameters_is_not_differentiated():
    def term(w):
        return weighted(jnp.array([2.0, 3.0]) * w, jnp.stack([w, w**2]))

    gradient = jax.grad(lambda w: term(w)[0])(2.0)
    np.testing.assert_allclose(gradient, 2 * 2 + 3 * 4)  # the gradient of the values only
    assert jax.grad(lambda w: term(w)[1])(2.0) == 0
