"""Runs the command line in several processes on this machine, each with its own virtual devices."""

import os
import pathlib
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable

from command_line import Outcome

TESTS = pathlib.Path(__file__).resolve().parent


class Processes:
    """Runs `python -m launch ARGUMENTS` in `count` processes with `devices` devices each; output goes to files."""

    def __init__(self, folder: pathlib.Path, count: int, devices: int, *arguments: object):
        with socket.socket() as free:
            free.bind(("localhost", 0))
            port = free.getsockname()[1]
        environment = os.environ | {
            "JAX_PLATFORMS": "cpu",
            "JAX_NUM_CPU_DEVICES": str(devices),
            "PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS)]),
        }
        folder.mkdir(parents=True, exist_ok=True)
        self._files = [[folder / f"{stream}{i}" for stream in ("out", "err")] for i in range(count)]
        self._running = []
        for i in range(count):
            joining = ["--processes", count, "--process", i, "--coordinator", f"localhost:{port}"] if count > 1 else []
            command = [sys.executable, "-m", "launch", *arguments, *joining]
            with open(self._files[i][0], "w") as out, open(self._files[i][1], "w") as err:
                self._running.append(
                    subprocess.Popen(list(map(str, command)), env=environment, cwd=TESTS.parent, stdout=out, stderr=err)
                )

    def errors(self, process: int) -> str:
        """The standard error of a process so far."""
        return self._files[process][1].read_text()

    def wait(self, seconds: float = 300) -> list[Outcome]:
        """Waits for all processes, at most `seconds`, after which they are killed."""
        until = time.monotonic() + seconds
        try:
            for process in self._running:
                process.wait(timeout=max(0.1, until - time.monotonic()))
        finally:
            for process in self._running:
                process.kill()
        texts = [[file.read_text() for file in files] for files in self._files]
        return [Outcome(p.returncode, out, err) for p, (out, err) in zip(self._running, texts, strict=True)]

    def signal_when(
        self, ready: Callable[[], bool], process: int, number: signal.Signals, after: float = 0.0
    ) -> tuple[list[Outcome], float]:
        """Sends a signal to one process once `ready()`; returns the outcomes, and the seconds until all had ended."""
        while not ready() and all(p.poll() is None for p in self._running):
            time.sleep(0.01)
        time.sleep(after)
        sent = time.monotonic()
        self._running[process].send_signal(number)
        return self.wait(), time.monotonic() - sent
