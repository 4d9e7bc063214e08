"""Splits are seeded, disjoint, covering, stratified and nested."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from research.data.split import count, hold_out, stratified_order
from research.errors import RequestError

labels = st.lists(st.integers(0, 4), min_size=2, max_size=80).map(np.array)


@given(labels=labels, seed=st.integers(0, 9))
def test_every_prefix_is_stratified(labels, seed):
    chosen = stratified_order(labels, seed)
    assert sorted(chosen) == list(range(len(labels)))
    for k in range(len(labels)):
        for name in np.unique(labels):
            expected = k * np.mean(labels == name)
            assert abs(np.sum(labels[chosen[:k]] == name) - expected) <= len(np.unique(labels)) / 2 + 1


@given(labels=labels, seed=st.integers(0, 9), fraction=st.floats(0.05, 0.5))
def test_held_out_and_rest_are_disjoint_and_cover(labels, seed, fraction):
    rest, held = hold_out(labels, fraction, seed)
    assert sorted([*rest, *held]) == list(range(len(labels)))
    assert len(held) == max(1, round(fraction * len(labels)))


def test_balanced_classes_are_split_exactly():
    labels = np.repeat(np.arange(10), 100)
    _, held = hold_out(labels, 0.1, seed=0)
    assert np.bincount(labels[held]).tolist() == [10] * 10


def test_rare_classes_are_held_out_in_proportion():
    """Each class alone would round to no example."""
    labels = np.concatenate([np.repeat(np.arange(4), 100), np.repeat(np.arange(4, 24), 4)])
    for seed in range(3):
        _, held = hold_out(labels, 0.1, seed)
        assert abs(np.sum(labels[held] >= 4) - 8) <= 2
    rare = [set(labels[hold_out(labels, 0.1, seed)[1]].tolist()) for seed in range(2)]
    assert rare[0] != rare[1]


def test_the_seed_and_the_purpose_decide():
    first, again = (hold_out(100, 0.2, seed=1)[1] for _ in range(2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, hold_out(100, 0.2, seed=2)[1])
    assert not np.array_equal(first, hold_out(100, 0.2, seed=1, purpose=2)[1])


def test_a_smaller_subset_lies_within_a_larger_one():
    labels = np.random.default_rng(0).integers(0, 3, 200)
    small, large = (set(hold_out(labels, k, seed=0)[1].tolist()) for k in (20, 60))
    assert small < large


def test_splits_are_the_same_on_every_machine():
    assert hold_out(20, 5, seed=0)[1].tolist() == HELD


HELD = [1, 9, 12, 17, 19]


def test_amounts():
    assert count(0.1, 100, "test") == 10
    assert count(0, 100, "test") == 0
    assert count(0.001, 100, "test") == 1
    assert count(30, 100, "test") == 30


@pytest.mark.parametrize("amount", [100, 1.0, 1.5, -1, -0.1])
def test_amounts_that_leave_nothing(amount):
    with pytest.raises(RequestError, match=r"^test=.*expected a fraction below 1"):
        count(amount, 100, "test")
