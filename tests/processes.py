"""Runs the command line in several processes on this machine, each with its own virtual devices."""

import os
import pathlib
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import pytest
from command_line import Outcome, lines, read, state

from research import paths

TESTS = pathlib.Path(__file__).resolve().parent


def free_port() -> int:
    """Returns a port of this machine at which nothing listens."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return free.getsockname()[1]


class Processes:
    """Runs `python -m launch ARGUMENTS` in `count` processes with `devices` devices each; output goes to files.

    Args:
      folder: of the files.
      count: of processes, which join one another if there are several.
      devices: of each process.
      arguments: of the program.
      program: what Python runs.
    """

    def __init__(
        self,
        folder: pathlib.Path,
        count: int,
        devices: int,
        *arguments: object,
        program: Sequence[object] = ("-m", "launch"),
    ):
        port = free_port()
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
            command = [sys.executable, *program, *arguments, *joining]
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


class Disturbed(NamedTuple):
    """A run of two processes of which one got a signal.

    Attributes:
      victim: the process that got it.
      after: seconds after training together had begun.
      outcomes: of both.
      seconds: from the signal until both had ended.
    """

    victim: int
    after: float
    outcomes: list[Outcome]
    seconds: float


def disturb(
    folder: pathlib.Path,
    victim: int,
    number: signal.Signals,
    generator: random.Random,
    *arguments: object,
    most: float = 20.0,
) -> Disturbed:
    """Runs a command in two processes, and signals one of them at a random moment, at most `most` seconds later.

    Args:
      folder: of the output.
      victim: the process that gets the signal.
      number: the signal.
      generator: of the moment.
      arguments: of the command.
      most: seconds after the processes have begun together.

    Raises:
      AssertionError: they do not end within 60 seconds, or with another status than that of a process that was lost or
        asked to stop.
    """
    processes = Processes(folder, 2, 2, *arguments)
    after = generator.uniform(0, most)
    outcomes, seconds = processes.signal_when(lambda: "2 processes" in processes.errors(0), victim, number, after)
    told = {0, 75, -signal.SIGKILL} if number == signal.SIGKILL else {0, 75}
    assert {outcome.status for outcome in outcomes} <= told, outcomes
    assert seconds < 60, outcomes
    return Disturbed(victim, after, outcomes, seconds)


def trials(run: pathlib.Path) -> list[pathlib.Path]:
    """Returns the folders of the trials of a run."""
    return sorted((run / "trials").iterdir())


def assert_close(run: pathlib.Path, reference: pathlib.Path, atol: float = 1e-5) -> None:
    """Compares every line of the metrics, and the last parameters, of two runs that have finished."""
    assert [trial.name for trial in trials(run)] == [trial.name for trial in trials(reference)]
    for trial, other in zip(trials(run), trials(reference), strict=True):
        ours, theirs = lines(trial), lines(other)
        assert [(x["step"], x["split"], x.keys()) for x in ours] == [(x["step"], x["split"], x.keys()) for x in theirs]
        for one, its in zip(ours, theirs, strict=True):
            for name in one.keys() - {"split"}:
                assert one[name] == pytest.approx(its[name], abs=atol, rel=10 * atol), (trial.name, one["step"], name)
        params = [paths.flatten(state(x)["params"]) for x in (trial, other)]
        for name in params[0]:
            np.testing.assert_allclose(params[0][name], params[1][name], atol=10 * atol, rtol=1e-7, err_msg=name)
        assert read(trial / "result.json")["status"] == "finished"
