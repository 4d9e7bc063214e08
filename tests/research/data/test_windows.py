"""Windows: rows of a strided view, on the host and on the device, with the memory of one array."""

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

import research.parallel.programs  # noqa: F401  (makes windows a pytree)
from research.data.feed import evaluation_batches, make_feed, take
from research.data.source import Columns, chunks, nbytes
from research.data.windows import Windows


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.integers(1, 12), st.integers(1, 5))
def test_rows_are_those_of_the_array_they_stand_for(size, length, stride):
    values = np.arange(size + length, dtype=np.uint8)
    windows = Windows(values, length, stride)
    rows = np.lib.stride_tricks.sliding_window_view(values, length)[::stride]
    assert windows.shape == rows.shape and len(windows) == len(rows) and windows.dtype == np.uint8
    np.testing.assert_array_equal(windows[:], rows)
    np.testing.assert_array_equal(windows[len(rows) - 1], rows[-1])
    index = np.array([[0, len(rows) - 1]], np.int32)
    np.testing.assert_array_equal(windows[index], rows[index])
    assert windows.nbytes == values.nbytes


def test_one_batch_from_every_storage_and_the_tokens_are_held_once():
    source = Columns({"tokens": Windows(np.arange(500, dtype=np.uint16), 100)})
    assert nbytes(source) == 1000  # where the rows would be 80,200
    device, host = make_feed(source, "device"), make_feed(source, "host")
    resident = jax.device_put(device.resident)
    assert [x.shape for x in jax.tree.leaves(resident)] == [(500,)]
    on_device, on_host = device.batches(seed=3, batch_size=8), host.batches(seed=3, batch_size=8)
    run = jax.jit(take)
    for step in (0, 7, 60):  # 401 windows: step 50 spans two epochs
        batch = run(resident, on_device.sent(step))
        assert batch["tokens"].dtype == jnp.uint16
        np.testing.assert_array_equal(batch["tokens"], on_host.sent(step)["tokens"])
        np.testing.assert_array_equal(np.diff(batch["tokens"].astype(np.int32)), 1)
    stacked = np.stack([on_device.sent(step)["index"] for step in range(2)])
    both = jax.jit(jax.vmap(take, in_axes=(None, 0)))(resident, {"index": stacked})
    np.testing.assert_array_equal(both["tokens"][1], on_host[1]["tokens"])


def test_an_evaluation_takes_every_row_once():
    source = Columns({"tokens": Windows(np.arange(50), 10, 10)})
    rows = [batch["tokens"][batch["weight"] > 0] for batch in evaluation_batches(source, 3)]
    np.testing.assert_array_equal(np.concatenate(rows), np.arange(50).reshape(5, 10))
    assert [len(chunk["tokens"]) for chunk in chunks(source, 2)] == [2, 2, 1]
    assert isinstance(source.take(np.array([0, 2])).arrays()["tokens"], np.ndarray)
