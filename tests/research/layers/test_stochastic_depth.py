import jax
import jax.numpy as jnp
import numpy as np

from research.layers.stochastic_depth import StochasticDepth, linear_rates


def test_an_example_is_dropped_whole_and_the_mean_stays():
    x = jnp.ones((4000, 2, 3))
    y = StochasticDepth(0.25).apply({}, x, train=True, rngs={"dropout": jax.random.key(0)})
    assert set(np.unique(y)) == {0.0, np.float32(1 / 0.75)}
    assert (y == y[:, :1, :1]).all()
    np.testing.assert_allclose(y.mean(), 1.0, atol=0.03)


def test_nothing_is_dropped_in_evaluation_or_at_rate_zero():
    x = jax.random.normal(jax.random.key(0), (5, 4))
    np.testing.assert_array_equal(StochasticDepth(0.9).apply({}, x, train=False), x)
    np.testing.assert_array_equal(StochasticDepth(0.0).apply({}, x, train=True), x)


def test_rates_grow_from_zero():
    np.testing.assert_allclose(linear_rates(0.3, 4), (0, 0.1, 0.2, 0.3))
    assert linear_rates(0.3, 1) == (0.0,)
