import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from research.layers.norms import FrozenBatchNorm, batch_norm
from research.layers.surroundings import surroundings

AXIS = "devices"


def run(layer, x, dy, axis_name=None):
    """Output, updated statistics and gradients of x, scale and bias."""
    params = {"scale": jnp.array([0.5, 1.0, 2.0]), "bias": jnp.array([1.0, 0.0, -1.0])}
    statistics = {"mean": jnp.ones(3), "var": jnp.full(3, 2.0)}

    def forward(x, params):
        with surroundings(axis_name=axis_name):
            return layer.apply({"params": params, "batch_stats": statistics}, x, mutable=["batch_stats"])

    y, pull, updated = jax.vjp(forward, x, params, has_aux=True)
    return y, updated, pull(dy.astype(y.dtype))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("axis_name", [None, AXIS])
def test_it_is_flaxs_and_so_are_its_gradients(dtype, axis_name):
    x, dy = jnp.asarray(np.random.default_rng(0).normal(2, 3, (2, 2, 4, 5, 4, 3)), dtype)
    ours = batch_norm(True, dtype=dtype)
    theirs = nn.BatchNorm(False, axis_name=axis_name, momentum=0.9, epsilon=1e-5, dtype=dtype)
    found = jax.vmap(lambda x, dy: run(ours, x, dy, axis_name), axis_name=AXIS)(x, dy)
    expected = jax.vmap(lambda x, dy: run(theirs, x, dy), axis_name=AXIS)(x, dy)
    assert found[0].dtype == expected[0].dtype
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        tolerance = 2e-5 if dtype == "float32" else 0.05
        np.testing.assert_allclose(a.astype(jnp.float32), b.astype(jnp.float32), rtol=tolerance, atol=20 * tolerance)


@pytest.mark.parametrize("axis_name", [None, AXIS])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 2e-4), ("bfloat16", 0.02)])
def test_a_mean_of_many_deviations_costs_no_precision(dtype, tolerance, axis_name):
    """Compares output, statistics and gradients with float64, where the mean is 300 standard deviations."""
    rng = np.random.default_rng(0)
    scale = 1 if dtype == "float32" else 100  # bfloat16 has no decimals at 300, so deviations are larger
    x = jnp.asarray(rng.normal([300, -300, 0], scale, (2, 32, 4, 4, 3)), dtype)
    dy = jnp.asarray(rng.normal(size=x.shape), dtype)
    layer = batch_norm(True, dtype=dtype)
    found = jax.vmap(lambda x, dy: run(layer, x, dy, axis_name), axis_name=AXIS)(x, dy)
    y, updated, (dx, dparams) = jax.tree.map(lambda a: np.asarray(a, np.float64), found)

    x, dy = np.asarray(x, np.float64), np.asarray(dy, np.float64)
    axes = (1, 2, 3) if axis_name is None else (0, 1, 2, 3)
    centred = x - x.mean(axes, keepdims=True)
    variance = np.square(centred).mean(axes, keepdims=True)
    normal = centred / np.sqrt(variance + 1e-5)
    scale, bias = np.array([0.5, 1.0, 2.0]), np.array([1.0, 0.0, -1.0])
    through = dy - dy.mean(axes, keepdims=True) - normal * (dy * normal).mean(axes, keepdims=True)

    def close(a, b):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)

    close(y, normal * scale + bias)
    close(updated["batch_stats"]["mean"], 0.9 + 0.1 * np.broadcast_to(x.mean(axes), (2, 3)))
    close(updated["batch_stats"]["var"], 1.8 + 0.1 * np.broadcast_to(variance.reshape(-1, 3), (2, 3)))
    close(dx, through * scale / np.sqrt(variance + 1e-5))
    close(dparams["scale"], (dy * normal).sum((1, 2, 3)))


def test_evaluation_uses_the_running_statistics():
    layer = batch_norm(False, dtype="float32")
    variables = layer.init(jax.random.key(0), jnp.ones((1, 2)))
    variables["batch_stats"] = {"mean": jnp.array([1.0, 2.0]), "var": jnp.array([4.0, 9.0])}
    np.testing.assert_allclose(layer.apply(variables, jnp.array([[3.0, 5.0]])), [[1.0, 1.0]], rtol=1e-5)


def test_a_frozen_norm_is_a_trained_one_in_evaluation_without_parameters():
    generator = np.random.default_rng(0)
    x = jnp.asarray(generator.normal(2, 3, (2, 4, 3)), jnp.float32)
    scale, bias, mean, var = (jnp.asarray(np.abs(generator.normal(size=3)) + 0.1, jnp.float32) for _ in range(4))
    trained = {"params": {"scale": scale, "bias": bias}, "batch_stats": {"mean": mean, "var": var}}
    frozen = {"batch_stats": {"scale": scale, "bias": bias, "mean": mean, "var": var}}
    layer = FrozenBatchNorm(epsilon=1e-3)
    expected = batch_norm(False, dtype="float32", epsilon=1e-3).apply(trained, x)
    np.testing.assert_allclose(layer.apply(frozen, x), expected, rtol=1e-5)
    fresh = layer.init(jax.random.key(0), x)
    assert set(fresh) == {"batch_stats"} and set(fresh["batch_stats"]) == {"scale", "bias", "mean", "var"}
    np.testing.assert_allclose(layer.apply(fresh, x), x, rtol=1e-3)
