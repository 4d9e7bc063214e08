"""Padding at the end: its content, and the small number of padded lengths."""

import numpy as np

from research.data.padding import padded_columns, padded_length


def test_lengths_are_few_and_none_is_longer_than_the_most():
    lengths = [padded_length(n, 100) for n in range(1, 120)]
    assert sorted(set(lengths[:100])) == [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 100]
    assert lengths[100:] == list(range(101, 120)) and all(n <= padded for n, padded in enumerate(lengths, 1))


def test_a_mask_says_what_is_no_padding():
    columns = padded_columns("tokens", [np.array([5]), np.array([6, 7, 8, 9, 10])], 100)
    np.testing.assert_array_equal(columns["tokens"], [[5, 0, 0, 0, 0, 0], [6, 7, 8, 9, 10, 0]])
    np.testing.assert_array_equal(columns["tokens_mask"].sum(axis=1), [1, 5])
