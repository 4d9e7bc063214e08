import jax
import jax.numpy as jnp
import numpy as np
import parity
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from research.layers.positions2d import resize_grid, sincos_2d, sincos_of_mask


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


def test_positions_of_a_mask_count_what_is_seen():
    """A mask of the first rows and columns has the positions of a map of that size; the last one is a full turn."""
    mask = jnp.zeros((2, 4, 6), bool).at[0, :3, :4].set(True).at[1].set(True)
    waves = sincos_of_mask(mask, 8)
    assert waves.shape == (2, 4, 6, 8)
    np.testing.assert_allclose(waves[0, :3, :4], sincos_of_mask(jnp.ones((1, 3, 4), bool), 8)[0], atol=1e-6)
    np.testing.assert_allclose(waves[1, 3, :, :2], [[0, 1]] * 6, atol=1e-4)  # sine and cosine of 2π, of the row
    np.testing.assert_allclose(waves[1, :, 5, 4:6], [[0, 1]] * 4, atol=1e-4)  # of the column
