"""The order of examples: a permutation per epoch, batches as slices of the stream, no memory of earlier steps."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from research.data.order import Bucketed, InOrder, Shuffled, order

sizes = st.integers(1, 50)


@given(seed=st.integers(0, 2**32), epoch=st.integers(0, 1000), n=sizes)
def test_an_epoch_is_a_permutation(seed, epoch, n):
    assert sorted(order(seed, epoch, n)) == list(range(n))
    assert order(seed, epoch, n).dtype == np.int32


def test_seeds_and_epochs_differ():
    orders = {tuple(order(seed, epoch, 20)) for seed in range(5) for epoch in range(5)}
    assert len(orders) == 25


def test_order_is_the_same_on_every_machine():
    """A changed permutation would change every result and every resumed run, so the test states it literally."""
    assert order(0, 0, 10).tolist() == ORDER_0_0
    assert order(7, 3, 10).tolist() == ORDER_7_3


ORDER_0_0 = [4, 6, 2, 7, 3, 5, 9, 0, 8, 1]
ORDER_7_3 = [3, 5, 4, 7, 8, 0, 9, 2, 1, 6]


@given(seed=st.integers(0, 100), n=sizes, batch_size=sizes, epochs=st.integers(1, 4))
def test_batches_are_the_epochs_one_after_another(seed, n, batch_size, epochs):
    steps = -(-epochs * n // batch_size)
    plan = Shuffled(seed, n, batch_size)
    stream = np.concatenate([plan[step]["index"] for step in range(steps)])
    for epoch in range(epochs):
        assert np.array_equal(stream[epoch * n : (epoch + 1) * n], order(seed, epoch, n))


@given(n=sizes, batch_size=sizes, steps=st.lists(st.integers(0, 30), min_size=1, max_size=12))
def test_a_step_does_not_depend_on_the_steps_before(n, batch_size, steps):
    used = Shuffled(3, n, batch_size)
    for step in steps:
        index = used[step]["index"]
        assert np.array_equal(index, Shuffled(3, n, batch_size)[step]["index"])
        assert index.shape == (batch_size,) and index.dtype == np.int32


@settings(max_examples=20)
@given(n=sizes, batch_size=sizes)
def test_only_the_epochs_at_hand_are_kept(n, batch_size):
    plan = Shuffled(0, n, batch_size)
    for step in (*range(60), 5, 1000, 0):
        plan[step]
        assert len(plan._orders) <= batch_size // n + 3


@given(n=st.integers(1, 200), batch_size=st.sampled_from([1, 7, 64, 200]))
def test_in_order_gives_each_example_once_and_pads_with_weight_0(n, batch_size):
    plan = InOrder(n, batch_size)
    batches = [plan[step] for step in range(len(plan))]
    index, weight = (np.concatenate([b[name] for b in batches]) for name in ("index", "weight"))
    assert np.array_equal(index[weight == 1], np.arange(n))
    assert np.all(index[weight == 0] == 0) and np.sum(weight) == n
    assert all(len(b["index"]) == batch_size for b in batches)
    assert list(iter(plan))[-1]["index"].tolist() == batches[-1]["index"].tolist()
    for beyond in (-1, len(plan)):
        with pytest.raises(IndexError):
            plan[beyond]


@settings(max_examples=30, deadline=None)
@given(
    counts=st.lists(st.integers(1, 30), min_size=1, max_size=4),
    batch_size=st.integers(1, 12),
    epochs=st.integers(1, 4),
    steps=st.lists(st.integers(0, 40), min_size=1, max_size=6),
)
def test_every_bucket_has_a_stream_of_its_own_and_its_share_of_the_steps(counts, batch_size, epochs, steps):
    numbered = np.random.default_rng(0).permutation(sum(counts)).astype(np.int32)
    members = tuple(np.split(numbered, np.cumsum(counts)[:-1]))
    plan = Bucketed(5, members, batch_size)
    turns = [0] * len(members)
    for step in range(sum(epochs * count // batch_size for count in counts)):
        index = plan[step]["index"]
        bucket = next(b for b, own in enumerate(members) if index[0] in own)
        own = Shuffled(5, counts[bucket], batch_size)[turns[bucket]]["index"]
        assert np.array_equal(index, members[bucket][own])
        turns[bucket] += 1
    assert turns == [epochs * count // batch_size for count in counts]
    for step in steps:
        assert np.array_equal(plan[step]["index"], Bucketed(5, members, batch_size)[step]["index"])


def test_the_order_of_buckets_is_that_of_every_seed():
    members = tuple(np.arange(start, start + 20, dtype=np.int32) for start in (0, 20, 40))
    plans = [Bucketed(seed, members, 4) for seed in (0, 1)]
    buckets = [[int(plan[step]["index"][0] // 20) for step in range(60)] for plan in plans]
    assert buckets[0] == buckets[1] and buckets[0][:15] != buckets[0][15:30]
    assert plans[0].of(2)["index"].tolist() == [40, 41, 42, 43]
