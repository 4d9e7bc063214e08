import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from research.layers.norms import batch_norm

AXIS = "devices"


def run(layer, x, dy):
    """Output, updated statistics and gradients of x, scale and bias."""
    params = {"scale": jnp.array([0.5, 1.0, 2.0]), "bias": jnp.array([1.0, 0.0, -1.0])}
    statistics = {"mean": jnp.ones(3), "var": jnp.full(3, 2.0)}

    def forward(x, params):
        return layer.apply({"params": params, "batch_stats": statistics}, x, mutable=["batch_stats"])

    y, pull, updated = jax.vjp(forward, x, params, has_aux=True)
    return y, updated, pull(dy.astype(y.dtype))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("axis_name", [None, AXIS])
def test_it_is_flaxs_and_so_are_its_gradients(dtype, axis_name):
    x, dy = jnp.asarray(np.random.default_rng(0).normal(2, 3, (2, 2, 4, 5, 4, 3)), dtype)
    ours = batch_norm(True, axis_name=axis_name, dtype=dtype)
    theirs = nn.BatchNorm(False, axis_name=axis_name, momentum=0.9, epsilon=1e-5, dtype=dtype)
    found, expected = (
        jax.vmap(lambda x, dy, layer=layer: run(layer, x, dy), axis_name=AXIS)(x, dy) for layer in (ours, theirs)
    )
    assert found[0].dtype == expected[0].dtype
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        tolerance = 2e-5 if dtype == "float32" else 0.05
        np.testing.assert_allclose(a.astype(jnp.float32), b.astype(jnp.float32), rtol=tolerance, atol=20 * tolerance)


def test_evaluation_uses_the_running_statistics():
    layer = batch_norm(False, axis_name=None, dtype="float32")
    variables = layer.init(jax.random.key(0), jnp.ones((1, 2)))
    variables["batch_stats"] = {"mean": jnp.array([1.0, 2.0]), "var": jnp.array([4.0, 9.0])}
    np.testing.assert_allclose(layer.apply(variables, jnp.array([[3.0, 5.0]])), [[1.0, 1.0]], rtol=1e-5)
