"""Regression: losses against PyTorch's, units, metrics against scikit-learn's."""

import jax.numpy as jnp
import numpy as np
import parity
import pytest
from sklearn import metrics as sklearn_metrics

from research.data.source import Columns
from research.errors import RequestError
from research.tasks.regression import Regression


def loss_of(task, outputs, targets):
    batch = {"features": jnp.asarray(outputs), "target": jnp.asarray(targets), "weight": jnp.ones(len(outputs))}
    total, weights = task.loss(lambda x, **_: x, batch)["loss"]
    return total / weights


@pytest.mark.parametrize(
    ("objective", "delta", "key"),
    [("mse", 1, "mse"), ("mae", 1, "l1"), ("huber", 0.7, "huber"), ("huber", 1, "smooth_l1")],
)
def test_losses_equal_pytorchs(objective, delta, key):
    arrays, _ = parity.load("losses")
    task = Regression(objective=objective, huber_delta=delta, shift=0.0, scale=1.0)
    np.testing.assert_allclose(loss_of(task, arrays["input/a"], arrays["input/t"]), arrays[f"output/{key}"], rtol=1e-6)


def test_the_model_learns_standardised_targets_and_metrics_are_in_their_units():
    targets = np.array([100.0, 150.0, 200.0], np.float32)
    source = Columns({"features": np.zeros((3, 2), np.float32), "target": targets})
    task = Regression().fit(source)
    assert task.shift == pytest.approx(150) and task.scale == pytest.approx(targets.std())
    outputs = jnp.asarray([[-1.0], [0.0], [1.0]])
    np.testing.assert_allclose(
        loss_of(task, outputs, targets), ((outputs[:, 0] - (targets - 150) / targets.std()) ** 2).mean(), rtol=1e-6
    )
    batch = {"features": outputs, "target": jnp.asarray(targets)}
    found = task.finalize({k: np.asarray(v) for k, v in task.eval_outputs(lambda x, **_: x, batch).items()})
    predicted = np.asarray(outputs)[:, 0] * targets.std() + 150
    assert found["mae"] == pytest.approx(sklearn_metrics.mean_absolute_error(targets, predicted), rel=1e-5)
    assert found["rmse"] == pytest.approx(sklearn_metrics.root_mean_squared_error(targets, predicted), rel=1e-5)
    assert found["r2"] == pytest.approx(sklearn_metrics.r2_score(targets, predicted), rel=1e-5)


def test_a_constant_target_has_scale_one():
    source = Columns({"features": np.zeros((3, 2), np.float32), "target": np.full(3, 7.0, np.float32)})
    assert Regression().fit(source).scale == 1.0


@pytest.mark.parametrize(("fields", "says"), [({"huber_delta": 0.0}, "huber_delta"), ({"scale": -1.0}, "scale=-1.0")])
def test_impossible_fields_are_refused(fields, says):
    with pytest.raises(RequestError, match=says):
        Regression(**fields).check()
