"""Length buckets: every example is in one that fits, padding is small, and all seeds have the same shapes."""

import gzip
import pathlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from research.data.buckets import Padded, assign, fit_shapes, padding
from research.data.feed import evaluation_batches, make_feed, take
from research.errors import RequestError

N, WIDTH = 103, {"source": 23, "target": 31}


def padded(n: int = N, buckets: int = 4, seed: int = 0) -> Padded:
    """Tokens that identify example and position: 1 + (example · 100 + position); 0 is padding."""
    rng = np.random.default_rng(seed)
    lengths = {name: rng.integers(1, width + 1, n) for name, width in WIDTH.items()}
    places = {name: np.arange(width) for name, width in WIDTH.items()}
    columns = {
        name: np.where(places[name] < lengths[name][:, None], 1 + np.arange(n)[:, None] * 100 + places[name], 0)
        for name in WIDTH
    }
    return Padded(columns, lengths, fit_shapes(lengths, buckets, WIDTH))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 40), st.integers(1, 500)), min_size=1, max_size=60), st.integers(1, 6))
def test_buckets_are_a_chain_and_each_example_is_in_the_first_that_takes_it(pairs, buckets):
    lengths = dict(zip(("a", "b"), np.array(pairs).T, strict=True))
    shapes = fit_shapes(lengths, buckets, {"a": 40, "b": 500})
    count = len(shapes["a"])
    assert count <= buckets and (shapes["a"][-1], shapes["b"][-1]) == (40, 500)
    assert all((np.diff(shapes[name]) >= 0).all() for name in shapes)
    bucket = assign(lengths, shapes)
    for name, x in lengths.items():
        assert (x <= shapes[name][bucket]).all()
    smaller = bucket > 0
    too_short = [x > shapes[name][np.maximum(bucket - 1, 0)] for name, x in lengths.items()]
    assert (too_short[0] | too_short[1])[smaller].all()


def test_more_buckets_are_less_padding_and_one_is_as_wide_as_the_longest():
    source = padded(1000)
    shares = [padding(source.lengths, fit_shapes(source.lengths, n, WIDTH)) for n in (1, 2, 4, 8)]
    assert shares == sorted(shares, reverse=True) and shares[-1] < 0.8 * shares[0]
    real = sum(x.sum() for x in source.lengths.values())
    assert shares[0] == pytest.approx(1 - real / (1000 * sum(WIDTH.values())))


def test_an_example_beyond_the_last_bucket_is_refused():
    with pytest.raises(RequestError, match="longer than the last"):
        assign({"a": np.array([3, 9])}, {"a": np.array([4, 8])})


def test_a_batch_is_cut_to_its_bucket_with_a_mask_and_is_the_same_wherever_the_data_live():
    feeds = [make_feed(padded(), storage) for storage in ("device", "host")]
    on_device, on_host = (feed.batches(seed=3, batch_size=8) for feed in feeds)
    shapes = set()
    for step in range(30):
        batch = take(feeds[0].resident, on_device.sent(step))
        for name, x in on_host.sent(step).items():
            np.testing.assert_array_equal(batch[name], x)
        shapes.add(batch["source"].shape)
        for name in WIDTH:
            np.testing.assert_array_equal(batch[name] > 0, batch[f"{name}_mask"])
        example = (batch["source"][:, 0] - 1) // 100
        np.testing.assert_array_equal(example, (batch["target"][:, 0] - 1) // 100)
        whole = feeds[1].source.arrays()["target"][example]
        assert (whole[:, batch["target"].shape[1] :] == 0).all()  # only padding is cut
    assert 2 <= len(shapes) <= 4


def test_the_shape_of_a_step_is_the_same_for_all_seeds_but_not_its_examples():
    feed = make_feed(padded(), "host")
    one, other = feed.batches(0, 8), feed.batches(1, 8)
    for step in range(40):
        assert one[step]["source"].shape == other[step]["source"].shape
    assert any((one[step]["source"] != other[step]["source"]).any() for step in range(3))


def test_a_step_is_the_same_whatever_was_asked_before():
    feed = make_feed(padded(), "host")
    straight = [feed.batches(5, 8)[step] for step in range(60)]
    jumping = feed.batches(5, 8)
    for step in (59, 0, 17, 16, 58, 30):
        for name, x in jumping[step].items():
            np.testing.assert_array_equal(x, straight[step][name])


@pytest.mark.parametrize("batch_size", [5, 8, 64, 150])
def test_every_example_is_shown_about_once_an_epoch(batch_size):
    source = padded()
    feed = make_feed(source, "host")
    epochs, shown = 12, np.zeros(N, int)
    plan = feed.batches(0, batch_size)._plan
    buckets = len(np.unique(feed.buckets))
    for step in range(epochs * N // batch_size - buckets):
        index = plan[step]["index"]
        assert len(index) == batch_size and len(set(feed.buckets[index])) == 1
        np.add.at(shown, index, 1)
    smallest = np.bincount(feed.buckets).min()
    assert abs(shown - epochs).max() <= 1 + batch_size * (buckets + 1) / smallest


def places(batch) -> int:
    return batch["source"].shape[1] + batch["target"].shape[1]


@pytest.mark.parametrize("storage", ["host", "workers"])
def test_the_batch_that_needs_most_has_the_largest_shape(storage):
    largest = make_feed(padded(), storage).batches(0, 8).largest()
    assert largest["source"].shape == (8, WIDTH["source"]) and largest["target"].shape == (8, WIDTH["target"])


@pytest.mark.parametrize("storage", ["host", "workers"])
def test_the_average_batch_is_as_large_as_steps_are_in_the_mean(storage):
    """None of the available shapes is closer."""
    batches = make_feed(padded(n=900), storage).batches(0, 8)
    on_host = make_feed(padded(n=900), "host").batches(0, 8)
    seen = [places(on_host[step]) for step in range(900 // 8)]
    nearest = min(set(seen), key=lambda size: abs(size - np.mean(seen)))
    assert places(batches.average()) == nearest < places(batches.largest())


def test_an_evaluation_takes_every_example_once_the_wanted_ones_first():
    source = padded()
    wanted = np.arange(N) % 10 == 3
    source.first = wanted
    feed = make_feed(source, "device")
    seen = []
    for sent in evaluation_batches(feed, 16):
        batch = take(feed.resident, sent)
        np.testing.assert_array_equal(batch["example"], (batch["source"][:, 0] - 1) // 100)
        seen += list(((batch["source"][:, 0] - 1) // 100)[batch["weight"] > 0])
    assert sorted(seen) == list(range(N)) and seen == list(feed.reading_order)
    assert wanted[seen[: wanted.sum()]].all()


def test_a_part_of_a_padded_source_keeps_its_shapes():
    source = padded()
    part = source.take(np.array([5, 9]))
    assert len(part) == 2 and part.shapes is source.shapes
    np.testing.assert_array_equal(part.lengths["source"], source.lengths["source"][[5, 9]])


@pytest.mark.slow
def test_workers_give_the_same_batches():
    host = make_feed(padded(), "host").batches(1, 8)
    with make_feed(padded(), "workers", workers=1).batches(1, 8) as batches:
        for step in (4, 5, 6):
            for name, x in batches.sent(step).items():
                np.testing.assert_array_equal(x, host[step][name])


def test_processes_that_share_a_batch_see_one_shape():
    feed = make_feed(padded(), "host")
    for step in range(10):
        whole = feed.batches(0, 8)[step]
        halves = [feed.batches(0, 8, rows)[step] for rows in (slice(0, 4), slice(4, 8))]
        for name, x in whole.items():
            np.testing.assert_array_equal(np.concatenate([half[name] for half in halves]), x)


def test_words_of_multi30k_have_little_padding(data_root):
    """The project's target, measured in words, which need no tokenizer: at most 10% padding with 12 shapes."""
    lengths = {}
    for name in ("de", "en"):
        text = gzip.decompress(pathlib.Path(data_root, "multi30k", f"train.{name}.gz").read_bytes()).decode()
        lengths[name] = np.array([len(line.split()) for line in text.splitlines()])
    shapes = fit_shapes(lengths, 12, {name: int(x.max()) for name, x in lengths.items()})
    assert padding(lengths, shapes) <= 0.10
