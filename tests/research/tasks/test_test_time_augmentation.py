"""Views of an image: their shifts, and weights that sum to 1."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.tasks.test_time_augmentation import mirrored_and_moved, moved_by

IMAGES = jnp.arange(2 * 4 * 5.0).reshape(2, 4, 5, 1) + 1


@pytest.mark.parametrize(("down", "right"), [(1, 0), (-2, 0), (0, 3), (0, -1)])
def test_moved_by(down, right):
    found = np.asarray(moved_by(IMAGES, down, right))
    expected = np.zeros_like(found)
    for row in range(4):
        for column in range(5):
            if 0 <= row + down < 4 and 0 <= column + right < 5:
                expected[:, row + down, column + right] = IMAGES[:, row, column]
    np.testing.assert_array_equal(found, expected)


def test_variants_weigh_the_place_half_and_each_way_an_eighth():
    np.testing.assert_array_equal(mirrored_and_moved(IMAGES, mirrored=False, moved=0)[0][1], IMAGES)
    padded = np.pad(IMAGES, ((0, 0), (2, 2), (2, 2), (0, 0)))
    ways = [padded[:, 2 + down : 6 + down, 2 + right : 7 + right] for down, right in ((2, 0), (-2, 0), (0, 2), (0, -2))]
    expected = IMAGES / 2 + sum(ways) / 8
    np.testing.assert_allclose(
        sum(s * x for s, x in mirrored_and_moved(IMAGES, mirrored=False, moved=2)), expected, rtol=1e-6
    )
    both = sum(s * x for s, x in mirrored_and_moved(IMAGES, mirrored=True, moved=2))
    np.testing.assert_allclose(both, (expected + expected[:, :, ::-1]) / 2, rtol=1e-6)


@pytest.mark.parametrize(("mirrored", "moved", "count"), [(False, 0, 1), (True, 0, 2), (False, 1, 5), (True, 3, 10)])
def test_shares_sum_to_one_over_variants_that_all_differ(mirrored, moved, count):
    images = jax.random.normal(jax.random.key(0), (2, 6, 7, 3))
    shares, found = zip(*mirrored_and_moved(images, mirrored=mirrored, moved=moved), strict=True)
    assert sum(shares) == 1
    assert len({np.asarray(x).tobytes() for x in found}) == count
