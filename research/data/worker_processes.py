"""Worker processes of Grain that leave signals to the process that started them, and end with it."""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from multiprocessing import resource_tracker
from typing import Any

import numpy as np

HANDLED = {signal.SIGINT, signal.SIGTERM}
"""Signals that a terminal or a scheduler sends to all processes of a run, of which only the first one stops it."""


class ReadAhead:
    """The batches of the steps from `start` to `stop`, in order, made ahead by worker processes.

    Args:
      make: makes the batch of a step, {name: array}; it is sent to the workers.
      start, stop: the range of steps; `stop` is None if there is no last one.
      workers: number of processes; 0 makes the batches in this process.
    """

    def __init__(self, make: Callable[[int], dict[str, np.ndarray]], start: int, stop: int | None, workers: int):
        if workers:
            resource_tracker.ensure_running()  # it unblocks signals in the thread that starts it
        with _signals_blocked():  # processes and threads inherit this from the thread that starts them
            self._iterator = _iterate(make, start, 2**48 if stop is None else stop, workers)
        self._started = False

    def __next__(self) -> dict[str, np.ndarray]:
        if self._started:
            return _own(next(self._iterator))
        with _signals_blocked():  # the first batch starts the workers
            batch = _own(next(self._iterator))
        self._started = True
        return batch

    def close(self) -> None:
        """Ends the workers."""
        if self._iterator is not None:
            self._iterator.close()
            self._iterator = None
            gc.collect()  # Grain's iterators refer to each other, and complain if the interpreter ends before they do


def _own(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Copies a batch out of the memory that is shared with the workers, which can then be closed."""
    return {name: np.array(x) for name, x in batch.items()}


def _iterate(make: Callable[[int], Any], start: int, stop: int, workers: int) -> Any:
    import cloudpickle
    import grain
    from absl import flags

    from research.config.modules import FILE_PREFIX  # imported here, so that workers do not import jax

    for name, module in list(sys.modules.items()):
        if name.startswith(FILE_PREFIX):  # a user's own file, which workers cannot import
            cloudpickle.register_pickle_by_value(module)
    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()  # Grain reads absl flags, which only absl.app.run parses
    # Grain would close shared memory in a thread of its own.  If the garbage collector finds the memory meanwhile,
    # Python closes it as well, and with it whichever file has got its descriptor since.
    with contextlib.suppress(ImportError):  # a later Grain may do so elsewhere, which a test would tell
        from grain._src.python.ipc.shared_memory_array import SharedMemoryArray

        SharedMemoryArray.enable_async_del = lambda *_: None
    ahead = grain.ReadOptions(num_threads=2, prefetch_buffer_size=2)
    values = grain.MapDataset.range(start, stop).map(make).to_iter_dataset(ahead)
    options = grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=2)
    return iter(values.mp_prefetch(options, worker_init_fn=_end_with_parent))


def _end_with_parent(worker: int, workers: int) -> None:
    """Ends this worker process when the one that started it has ended, however that happened, and at no signal."""
    for number in HANDLED:
        signal.signal(number, signal.SIG_IGN)

    def wait() -> None:
        multiprocessing.parent_process().join()
        os._exit(0)

    threading.Thread(target=wait, daemon=True).start()


@contextlib.contextmanager
def _signals_blocked() -> Iterator[None]:
    """Blocks `HANDLED` in this thread; other threads of this process still receive them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
