"""Segment operations against NumPy, their derivatives, and padding."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from research.layers.segments import segment_max, segment_mean, segment_softmax, segment_sum

COUNT = 4
SEGMENTS = np.array([[2, 0, 2, 4, 0, 7], [3, 3, 3, 1, 4, 4]])  # 4 and 7 are padding; some segments are empty
VALUES = np.random.default_rng(0).normal(size=(2, 6, 3)).astype(np.float32)


def by_numpy(reduce):
    out = np.zeros((2, COUNT, 3), np.float32)
    for row in range(2):
        for segment in range(COUNT):
            own = VALUES[row, SEGMENTS[row] == segment]
            if len(own):
                out[row, segment] = reduce(own)
    return out


CASES = {
    segment_sum: lambda x: x.sum(0),
    segment_mean: lambda x: x.mean(0),
    segment_max: lambda x: x.max(0),
}


@pytest.mark.parametrize("operation", CASES, ids=lambda f: f.__name__)
def test_values_and_gradients(operation):
    for rows in (slice(0, 2), slice(0, 1)):  # one row takes another way
        values, segments = jnp.asarray(VALUES[rows]), jnp.asarray(SEGMENTS[rows])
        found = jax.jit(operation, static_argnums=2)(values, segments, COUNT)
        np.testing.assert_allclose(found, by_numpy(CASES[operation])[rows], rtol=1e-5)
        check_grads(lambda x, segments=segments: operation(x, segments, COUNT), (values,), 1, ["rev"], rtol=1e-2)
        gradient = jax.grad(lambda x, segments=segments: operation(x, segments, COUNT).sum())(values)
        assert not np.asarray(gradient)[SEGMENTS[rows] >= COUNT].any()


def test_softmax_sums_to_one_in_each_segment_and_is_stable():
    logits = jnp.asarray(VALUES * 1e4)
    found = segment_softmax(logits, jnp.asarray(SEGMENTS), COUNT)
    sums = segment_sum(found, jnp.asarray(SEGMENTS), COUNT)
    there = np.array([[(SEGMENTS[row] == s).any() for s in range(COUNT)] for row in range(2)])
    np.testing.assert_allclose(sums, np.repeat(there[..., None], 3, -1), atol=1e-6)
    assert not np.asarray(found)[SEGMENTS >= COUNT].any()
    small = jnp.asarray(VALUES)
    check_grads(lambda x: segment_softmax(x, jnp.asarray(SEGMENTS), COUNT), (small,), 1, ["rev"], rtol=1e-2)
    one = SEGMENTS[1] == 3
    expected = np.exp(VALUES[1, one]) / np.exp(VALUES[1, one]).sum(0)
    np.testing.assert_allclose(segment_softmax(small, jnp.asarray(SEGMENTS), COUNT)[1, one], expected, rtol=1e-5)


def test_equal_maxima_share_the_gradient():
    values, segments = jnp.array([[1.0, 1.0, 0.0, 5.0]]), jnp.array([[0, 0, 0, 1]])
    gradient = jax.grad(lambda x: segment_max(x, segments, 2).sum())(values)
    np.testing.assert_allclose(gradient, [[0.5, 0.5, 0.0, 1.0]])
