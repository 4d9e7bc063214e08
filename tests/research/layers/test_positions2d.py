import jax
import jax.numpy as jnp
import numpy as np
import parity
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from research.layers.positions2d import resize_grid, sincos_2d


@pytest.mark.parametrize("size", [(7, 6), (3, 2), (10, 4), (5, 9)])
def test_resizing_is_that_of_pytorch(size):
    arrays, _ = parity.load("position_resize")
    ours = resize_grid(jnp.asarray(arrays["grid"]), size)
    np.testing.assert_allclose(ours, arrays[f"resized/{size[0]}x{size[1]}"], atol=1e-5)


@settings(max_examples=6, deadline=None)
@given(old=st.tuples(st.integers(1, 9), st.integers(1, 9)), new=st.tuples(st.integers(1, 9), st.integers(1, 9)))
def test_resizing_keeps_constants_and_its_own_size(old, new):
    np.testing.assert_allclose(resize_grid(jnp.full((*old, 2), 3.0), new), 3.0, rtol=1e-5)
    grid = jax.random.normal(jax.random.key(0), (*old, 2))
    np.testing.assert_allclose(resize_grid(grid, old), grid, atol=1e-5)


def test_sincos_waves_with_the_row_in_one_half_and_with_the_column_in_the_other():
    waves = sincos_2d(3, 4, 8).reshape(3, 4, 8)
    assert (waves[..., :4] == waves[:, :1, :4]).all()
    assert (waves[..., 4:] == waves[:1, :, 4:]).all()
    np.testing.assert_allclose(waves[2, 0, :4], [np.sin(2), np.sin(0.02), np.cos(2), np.cos(0.02)], rtol=1e-5)
    np.testing.assert_allclose(waves[0, 3, 4:], [np.sin(3), np.sin(0.03), np.cos(3), np.cos(0.03)], rtol=1e-5)
    assert len({tuple(token) for token in np.asarray(waves.reshape(12, 8)).round(4)}) == 12
