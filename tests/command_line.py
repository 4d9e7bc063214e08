"""Runs the command line in tests, in this process or as a separate process that can be killed."""

import contextlib
import dataclasses
import io
import json
import os
import pathlib
import signal
import string
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache

from launch.cli import main
from research.report import exhibits, figures
from research.training.checkpoints import Store

TESTS = pathlib.Path(__file__).resolve().parent


@dataclasses.dataclass(frozen=True)
class Outcome:
    """The exit status and the output."""

    status: int
    out: str
    err: str


def launch(*arguments: object) -> Outcome:
    """Runs `python -m launch ARGUMENTS` in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main([str(argument) for argument in arguments])
    return Outcome(status, out.getvalue(), err.getvalue())


def fill(text: str, world: pathlib.Path, run: object = "") -> str:
    """Replaces $W by the folder of inputs and $OUT by the folder of the run."""
    return string.Template(text).substitute(W=world, OUT=run)


def refused(arguments: Sequence[object]) -> str:
    """Returns the one line with which a request is refused."""
    outcome = launch(*arguments)
    assert outcome.status == 2, outcome
    assert outcome.out == ""
    lines = outcome.err.splitlines()
    assert len(lines) == 1, outcome.err
    assert lines[0].startswith("error: ") and len(lines[0]) < 1000
    return lines[0]


@contextlib.contextmanager
def quickly(folder: pathlib.Path) -> Iterator[None]:
    """Compiles programs only once into a folder and leaves figures out of reports, which halves the cost of a run."""
    options = {"jax_compilation_cache_dir": str(folder), "jax_persistent_cache_min_compile_time_secs": 0}
    before = {name: getattr(jax.config, name) for name in options}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures, "pictures", lambda table: ())
        patch.setattr(exhibits, "draw", lambda table: ())
        for name, value in options.items():
            jax.config.update(name, value)
        compilation_cache.reset_cache()
        try:
            yield
        finally:
            for name, value in before.items():
                jax.config.update(name, value)
            compilation_cache.reset_cache()


class Process:
    """Runs `python -m launch ARGUMENTS` in a separate process with one device."""

    def __init__(self, *arguments: object, cwd: pathlib.Path = TESTS.parent, before: Sequence[str] = ()):
        environment = {key: x for key, x in os.environ.items() if key != "JAX_NUM_CPU_DEVICES"}
        environment["PYTHONPATH"] = os.pathsep.join([str(TESTS.parent), str(TESTS)])
        self._process = subprocess.Popen(
            [*before, sys.executable, "-m", "launch", *map(str, arguments)],
            env=environment,
            cwd=cwd,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def wait(self) -> Outcome:
        out, err = self._process.communicate(timeout=300)
        return Outcome(self._process.returncode, out, err)

    def signal_when(self, ready: Callable[[], bool], number: signal.Signals, after: float = 0.0) -> Outcome:
        """Sends a signal `after` seconds after `ready()` first returns True, unless the process has ended by then."""
        while not ready() and self._process.poll() is None:
            time.sleep(0.002)
        time.sleep(after)
        if self._process.poll() is None:
            self._process.send_signal(number)
        return self.wait()


def write_module(path: pathlib.Path, text: str) -> pathlib.Path:
    """Writes a Python file, after removing the indentation of its text in the test."""
    path.write_text(textwrap.dedent(text).lstrip())
    return path


def files(folder: pathlib.Path) -> dict[str, bytes]:
    """Returns every file below a folder with its contents; {} without a folder."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def read(path: pathlib.Path):
    """Reads a JSON file."""
    return json.loads(path.read_text())


def lines(trial: pathlib.Path, split: str | None = None) -> list[dict]:
    """Reads the records of a trial's metrics.jsonl, for one split or all."""
    records = [json.loads(line) for line in (trial / "metrics.jsonl").read_text().splitlines()]
    return [r for r in records if split in (None, r["split"])]


def saved_steps(trial: pathlib.Path) -> list[int]:
    """Returns the steps of complete checkpoints, judged by their names alone."""
    folder = trial / "checkpoints"
    return sorted(int(p.name) for p in folder.iterdir() if p.name.isdigit()) if folder.is_dir() else []


def state(trial: pathlib.Path, step: int | None = None):
    """Reads a trial's last checkpoint, or that of a step: nested dicts of NumPy arrays."""
    store = Store(trial / "checkpoints")
    try:
        return store.restore(store.steps()[0] if step is None else step)
    finally:
        store.close()
