"""Something computed a batch at a time is what it is at once."""

import numpy as np
import pytest

from research.data.batches import in_batches


@pytest.mark.parametrize("size", [1, 3, 4, 12, 50])
def test_batches_have_one_size_and_every_row_counts_once(size):
    given = []

    def compute(rows):
        given.append(rows)
        return {"row": rows, "twice": {"two": np.stack([rows, rows], 1)}}

    found = in_batches(compute, 10, size)
    np.testing.assert_array_equal(found["row"], np.arange(10))
    np.testing.assert_array_equal(found["twice"]["two"], np.arange(10)[:, None] * [1, 1])
    assert {len(rows) for rows in given} == {min(size, 10)} and len(given) == -(-10 // size)
