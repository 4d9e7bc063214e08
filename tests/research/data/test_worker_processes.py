"""Worker processes: the order of their values, and how they take signals and the death of their parent."""

import contextlib
import os
import signal
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest
from command_line import TESTS

from research.data.worker_processes import ReadAhead


def squares(step):
    return {"step": np.full(4, step**2)}


def test_values_come_in_order_from_any_step():
    with contextlib.closing(ReadAhead(squares, 3, 6, workers=0)) as batches:
        assert [int(next(batches)["step"][0]) for _ in range(3)] == [9, 16, 25]
        with pytest.raises(StopIteration):
            next(batches)


READER = """
import os, time

close, failed = os.close, []

def counted(descriptor):
    time.sleep(0.001)  # for another thread that would close it too
    try:
        close(descriptor)
    except OSError:
        failed.append(descriptor)
        raise

os.close = counted

import contextlib, gc, signal, sys
import numpy as np
from research.data.worker_processes import ReadAhead

def batch(step):
    return {"step": np.full(1000, step), "image": np.zeros(100_000)}

if __name__ == "__main__":
    seen = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, frame: seen.append(number))
    with contextlib.closing(ReadAhead(batch, 0, None, workers=2)) as batches:
        step = 0
        for line in sys.stdin:
            for _ in range(10):
                circle = next(batches)
                assert circle["step"][0] == step
                circle["itself"] = circle  # which only the garbage collector finds
                step += 1
            del circle
            gc.collect()
            print(len(seen), len(failed), flush=True)
    from grain._src.python.ipc.shared_memory_array import SharedMemoryArray
    print(SharedMemoryArray._del_thread_pool)
"""


class Reader:
    """A process in a group of its own that reads ten batches for every line that it is sent.

    It answers with the numbers of signals that it has handled and of closes that failed.
    """

    def __init__(self, folder):
        (folder / "reader.py").write_text(READER)
        environment = {**os.environ, "PYTHONPATH": str(TESTS.parent)}
        self.process = subprocess.Popen(
            [sys.executable, folder / "reader.py"],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def ask(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def answer(self):
        return [int(number) for number in self.process.stdout.readline().split()]

    def read(self):
        self.ask()
        return self.answer()

    def workers(self):
        found = psutil.Process(self.process.pid).children(recursive=True)
        return [child for child in found if "spawn_main" in " ".join(child.cmdline())]


@pytest.mark.slow
def test_signals_to_all_processes_of_a_run_reach_the_first_one_only(tmp_path):
    """At a terminal Ctrl-C goes to all of them, and some schedulers send SIGTERM to all; also while workers start."""
    reader = Reader(tmp_path)
    reader.ask()
    while len(reader.workers()) < 2:
        assert reader.process.poll() is None
        time.sleep(0.01)
    os.killpg(reader.process.pid, signal.SIGINT)
    assert reader.answer() == [1, 0]
    workers = reader.workers()
    for number, total in ((signal.SIGINT, 2), (signal.SIGTERM, 3)):
        os.killpg(reader.process.pid, number)
        assert reader.read() == [total, 0]
    assert reader.workers() == workers and len(workers) == 2
    out, errors = reader.process.communicate(timeout=60)
    assert (reader.process.returncode, errors) == (0, "")
    assert out == "None\n"  # no thread of Grain's closes memory, which the garbage collector would close again
    assert not any(worker.is_running() for worker in workers)


@pytest.mark.slow
def test_no_file_is_closed_twice_and_workers_end_with_a_process_that_is_killed(tmp_path):
    """They would hold its standard error, for which a pipe waits."""
    reader = Reader(tmp_path)
    assert [reader.read() for _ in range(20)] == [[0, 0]] * 20
    workers = reader.workers()
    assert len(workers) == 2
    reader.process.kill()
    reader.process.stdin.close()
    started = time.monotonic()
    reader.process.stderr.read()
    _, alive = psutil.wait_procs(workers, timeout=10)
    assert not alive and time.monotonic() - started < 10
