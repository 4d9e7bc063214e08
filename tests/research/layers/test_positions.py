"""Positions: invariants of rotations, frequencies that scaling leaves unchanged, and the three layouts of sinusoids."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from research.errors import RequestError
from research.layers.positions import Llama3Scaling, Rotary, segment_positions, sinusoidal, valid_positions


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 500), st.integers(0, 500), st.integers(0, 1000))
def test_products_of_rotated_vectors_depend_on_the_distance(i, j, shift):
    rotary, x = Rotary(), jax.random.normal(jax.random.key(0), (2, 1, 1, 16))

    def product(i, j):
        return jnp.vdot(rotary(x[:1], jnp.array([[i]])), rotary(x[1:], jnp.array([[j]])))

    np.testing.assert_allclose(product(i, j), product(i + shift, j + shift), atol=2e-3)


def test_rotation_by_the_formula():
    x = np.arange(8.0, dtype=np.float32).reshape(1, 1, 1, 8)
    turned = Rotary(theta=100.0)(jnp.asarray(x), jnp.array([[3]]))[0, 0, 0]
    for i in range(4):
        angle = 3 * 100.0 ** (-i / 4)
        pair = complex(x[0, 0, 0, i], x[0, 0, 0, i + 4]) * complex(math.cos(angle), math.sin(angle))
        np.testing.assert_allclose([turned[i], turned[i + 4]], [pair.real, pair.imag], atol=1e-5)


def test_scaling_stretches_slow_rotations_only():
    scaling = Llama3Scaling(factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_context=1000)
    wavelengths = np.array([10.0, 249.0, 500.0, 1001.0, 1e6])
    frequencies = np.asarray(scaling(jnp.asarray(2 * math.pi / wavelengths, jnp.float32)))
    stretched = 2 * math.pi / frequencies / wavelengths
    np.testing.assert_allclose(stretched[[0, 1, 3, 4]], [1, 1, 8, 8], rtol=1e-5)
    assert 1 < stretched[2] < 8


def test_sinusoids_of_the_three_publications():
    positions = jnp.arange(7)
    p = np.arange(7)[:, None]
    vaswani = sinusoidal(positions, 6)
    np.testing.assert_allclose(vaswani[:, 0::2], np.sin(p * 10000.0 ** (-np.arange(3) / 3)), atol=1e-6)
    np.testing.assert_allclose(vaswani[:, 1::2], np.cos(p * 10000.0 ** (-np.arange(3) / 3)), atol=1e-6)
    marian = sinusoidal(positions, 6, interleaved=False)
    np.testing.assert_array_equal(marian, np.concatenate([vaswani[:, 0::2], vaswani[:, 1::2]], axis=1))
    whisper = sinusoidal(positions, 6, interleaved=False, shift=1)
    np.testing.assert_allclose(whisper[:, :3], np.sin(p * np.exp(-math.log(10000) / 2 * np.arange(3))), atol=1e-6)


def test_positions_within_segments_and_without_padding():
    segments = np.array([[3, 3, 3, 5, 5, 3], [0, 0, 0, 0, 0, 0]])
    np.testing.assert_array_equal(segment_positions(segments), [[0, 1, 2, 0, 1, 0], [0, 1, 2, 3, 4, 5]])
    valid = np.array([[0, 0, 1, 1], [1, 1, 1, 0]], bool)
    np.testing.assert_array_equal(valid_positions(valid), [[0, 0, 0, 1], [0, 1, 2, 2]])


@pytest.mark.parametrize(
    ("rotary", "field"),
    [
        (Rotary(theta=0.0), "theta=0.0"),
        (Rotary(scaling=Llama3Scaling(factor=0.5)), "scaling.factor=0.5"),
        (Rotary(scaling=Llama3Scaling(low_freq_factor=4.0)), "scaling.low_freq_factor=4.0"),
        (Rotary(scaling=Llama3Scaling(original_context=0)), "scaling.original_context=0"),
    ],
    ids=str,
)
def test_impossible_rotations_are_refused(rotary, field):
    with pytest.raises(RequestError, match=f"^{field}: expected"):
        rotary.check()
