"""Three storages give the same batch; evaluation covers each example once."""

import jax
import jax.numpy as jnp
import numpy as np
import psutil
import pytest
import toys
from hypothesis import given
from hypothesis import strategies as st

from research.data.feed import evaluation_batches, make_feed, take
from research.data.feeds import make_feeds
from research.data.memory import device_budget, host_budget
from research.data.order import order
from research.data.source import Columns, Subset
from research.data.spec import Splits
from research.errors import RequestError

N = 103


class Images:
    """Images made on access: a source that a worker process can decode."""

    def __init__(self, n: int = N, weighted: bool = False):
        self.n, self.weighted = n, weighted

    def __len__(self):
        return self.n

    def __getitem__(self, i):
        image = np.random.default_rng(i).integers(0, 256, (4, 4, 1), dtype=np.uint8)
        example = {"image": image, "label": np.int32(i), "x": np.float32(1 / (i + 1))}
        return example | ({"weight": np.float32(i % 2)} if self.weighted else {})


class Corrupt(Images):
    def __getitem__(self, i):
        if i == 50:
            raise RequestError("example 50 is corrupt")
        return super().__getitem__(i)


def same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        assert np.asarray(a[name]).dtype == b[name].dtype
        assert np.array_equal(np.asarray(a[name]), b[name])


@pytest.mark.parametrize("weighted", [False, True])
def test_device_and_host_give_the_same_batches(weighted):
    source = Images(weighted=weighted)
    device, host = make_feed(source, "device"), make_feed(source, "host")
    run = jax.jit(take)
    on_device, on_host = device.batches(seed=1, batch_size=16), host.batches(seed=1, batch_size=16)
    resident = {name: jnp.asarray(x) for name, x in device.resident.items()}
    for step in (0, 1, 5, 6, 7, 40):  # steps 6 and 12 span two epochs of 103
        sent = on_device.sent(step)
        assert sent.keys() == {"index"} and sent["index"].dtype == np.int32
        same(run(resident, sent), on_host.sent(step))
        same(on_device[step], on_host[step])
        same(run(host.resident, on_host.sent(step)), on_host[step])
    assert host.resident == {} and device.examples == host.examples == N


def test_stacked_trials_take_from_one_copy():
    feed = make_feed(Images(), "device")
    trials = [feed.batches(seed, 16) for seed in range(3)]
    index = np.stack([batches.sent(4)["index"] for batches in trials])
    stacked = jax.jit(jax.vmap(take, in_axes=(None, 0)))(feed.resident, {"index": index})
    for i, batches in enumerate(trials):
        same({name: x[i] for name, x in stacked.items()}, batches[4])


def test_memory_to_count_on():
    assert 0 < host_budget() < psutil.virtual_memory().total
    assert device_budget() > 0


def test_a_batch_is_the_rows_of_the_order():
    batch = make_feed(Images(), "host").batches(seed=5, batch_size=10)[2]
    assert np.array_equal(batch["label"], order(5, 0, N)[20:30])
    assert np.array_equal(batch["weight"], np.ones(10, np.float32)) and batch["weight"].dtype == np.float32


def test_batches_larger_than_the_data_set():
    batch = make_feed(Images(5), "host").batches(seed=0, batch_size=12)[0]
    assert sorted(np.bincount(batch["label"])) == [2, 2, 2, 3, 3]


@given(batch_size=st.integers(2, 30), step=st.integers(0, 50))
def test_processes_that_share_a_batch_get_its_parts(batch_size, step):
    half = batch_size // 2
    whole = FEED.batches(3, batch_size)[step]
    parts = [FEED.batches(3, batch_size, rows)[step] for rows in (slice(0, half), slice(half, None))]
    for name in whole:
        assert np.array_equal(np.concatenate([part[name] for part in parts]), whole[name])


FEED = make_feed(Columns({"x": np.arange(37)}), "host")


@pytest.mark.parametrize("batch_size", [1, 7, 64, N, 200])
@pytest.mark.parametrize("storage", ["device", "host"])
def test_evaluation_covers_each_example_once(storage, batch_size):
    feed = make_feed(Images(weighted=True), storage)
    batches = [take(feed.resident, sent) for sent in evaluation_batches(feed, batch_size)]
    assert all(len(x) == batch_size for batch in batches for x in batch.values())
    labels, weight, x = (np.concatenate([batch[name] for batch in batches]) for name in ("label", "weight", "x"))
    assert np.array_equal(labels[:N], np.arange(N))
    assert np.array_equal(weight[:N], np.arange(N) % 2) and not weight[N:].any()
    assert np.array_equal(labels[N:], np.zeros(len(labels) - N))
    assert np.isclose(np.sum(weight * x), sum((i % 2) / (i + 1) for i in range(N)))


@pytest.mark.parametrize("storage", ["device", "host", "workers"])
def test_evaluation_numbers_the_examples(storage):
    feed = make_feed(Images(), storage, workers=0)
    for batch in (take(feed.resident, sent) for sent in evaluation_batches(feed, 40)):
        assert batch["example"].dtype == np.int32
        assert np.array_equal(batch["example"], batch["label"])


class Anchored(Images):
    """Images that share anchors."""

    def shared(self):
        return {"anchors": np.arange(6.0).reshape(3, 2)}


@pytest.mark.parametrize("storage", ["device", "host", "workers"])
def test_shared_columns_are_whole_in_every_batch(storage):
    feed, plain = make_feed(Anchored(), storage, workers=0), make_feed(Images(), "host")
    with feed.batches(1, 16) as batches:
        batch = take(feed.resident, batches.sent(0))
    anchors = batch.pop("shared")["anchors"]
    assert anchors is feed.shared["anchors"] and anchors.dtype == np.float32 and anchors.shape == (3, 2)
    same(batch, plain.batches(1, 16)[0])
    assert all(take(feed.resident, sent)["shared"]["anchors"] is anchors for sent in evaluation_batches(feed, 40))


def test_shared_columns_count_where_data_are_to_fit():
    feed = make_feed(Anchored(), memory_budget_bytes=N * 24 + 24 - 1, host_budget_bytes=2**20)
    assert feed.storage == "host" and "103 examples, 0.0 MiB, shared columns of 0.0 MiB, over" in feed.reason
    assert feed.resident.keys() == {"shared"}


def test_equal_shared_columns_of_several_splits_are_one_object():
    splits = Splits(Subset(Anchored(), np.arange(60)), Subset(Anchored(), np.arange(60, 80)), Images())
    known = {}
    for _ in range(2):
        feeds = make_feeds(splits, toys.Blobs(storage="host"), known)
        assert feeds.evaluation["validation"].shared["anchors"] is feeds.train.shared["anchors"]
        assert feeds.evaluation["test"].shared == {}


def test_evaluation_of_a_source():
    batches = list(evaluation_batches(Images(), 50))
    assert [batch["weight"].sum() for batch in batches] == [50, 50, 3]


def test_auto_keeps_what_fits_and_says_why():
    size = N * (16 + 4 + 4)
    device = make_feed(Images(), memory_budget_bytes=size, host_budget_bytes=size)
    host = make_feed(Images(), memory_budget_bytes=size - 1, host_budget_bytes=size)
    workers = make_feed(Images(), workers=3, memory_budget_bytes=0, host_budget_bytes=0)
    assert (device.storage, device.reason) == ("device", "103 examples, 0.0 MiB: on the device")
    assert host.storage == "host" and host.reason.startswith(
        "103 examples, 0.0 MiB, over the device's budget of 0.0 MiB"
    )
    assert workers.storage == "workers" and workers.workers == 3 and workers.reason.endswith("read by 3 workers")
    assert make_feed(Images()).storage == "device"
    assert make_feed(Images(), "host").reason == "103 examples, 0.0 MiB: in host memory, as asked"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: make_feed(Images(), "hosts"), "storage='hosts': expected one of .*; did you mean 'host'"),
        (lambda: make_feed(Images(0)), "the data set is empty"),
        (lambda: make_feed(Images(), "host").batches(0, 0), "batch_size=0: expected at least 1"),
        (lambda: list(evaluation_batches(Images(), 0)), "batch_size=0: expected at least 1"),
        (lambda: make_feed(Corrupt()), "example 50 is corrupt"),
        (lambda: make_feed(Columns({"shared": np.ones(3)})), "column 'shared': a batch has the shared columns"),
        (lambda: make_feed(Columns({"x": np.ones(3)}, {"y": np.array([np.inf])})), "shared column 'y' holds inf"),
    ],
)
def test_wrong_requests(make, message):
    with pytest.raises(RequestError, match=f"^{message}"):
        make()


def test_threads_in_this_process_read_the_same_batches():
    """storage="workers" with no worker process: Grain's pipeline, here."""
    host = make_feed(Images(), "host").batches(1, 16)
    with make_feed(Images(), "workers", workers=0).batches(1, 16) as batches:
        for step in (3, 4, 5, 6, 7, 0):
            same(batches.sent(step), host[step])
        same(batches[1], host[1])


@pytest.mark.slow
@pytest.mark.parametrize("weighted", [False, True])
def test_workers_read_the_same_batches(weighted):
    source = Images(weighted=weighted)
    feed, host = make_feed(source, "workers", workers=2), make_feed(source, "host")
    expected = host.batches(seed=1, batch_size=16)
    with feed.batches(seed=1, batch_size=16) as batches:
        for step in (5, 6, 7, 8, 2, 3):  # starts at 5, and again at 2
            same(batches.sent(step), expected[step])
    assert feed.resident == {}
    assert batches._iterator is None
    evaluated = [take({}, sent) for sent in evaluation_batches(feed, 40)]
    for ours, theirs in zip(evaluated, evaluation_batches(host, 40), strict=True):
        same(ours, theirs)


@pytest.mark.slow
def test_an_error_in_a_worker_is_the_same_error():
    batches = make_feed(Corrupt(), "workers", workers=1).batches(seed=0, batch_size=N)
    with pytest.raises(RequestError, match="example 50 is corrupt"):
        batches.sent(0)
    batches.close()
