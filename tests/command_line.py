"""The command line in tests: called in this process, or started as one of its own, which can be killed."""

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
    """Exit status and what was printed."""

    status: int
    out: str
    err: str


def launch(*arguments: object) -> Outcome:
    """`python -m launch ARGUMENTS`, in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main([str(argument) for argument in arguments])
    return Outcome(status, out.getvalue(), err.getvalue())


def fill(text: str, world: pathlib.Path, run: object = "") -> str:
    """A text with $W, the folder of what there is, and $OUT, that of a run, put in."""
    return string.Template(text).substitute(W=world, OUT=run)


def refused(arguments: Sequence[object]) -> str:
    """The one line that a request is refused with."""
    outcome = launch(*arguments)
    assert outcome.status == 2, outcome
    assert outcome.out == ""
    lines = outcome.err.splitlines()
    assert len(lines) == 1, outcome.err
    assert lines[0].startswith("error: ") and len(lines[0]) < 1000
    return lines[0]


@contextlib.contextmanager
def quickly(folder: pathlib.Path) -> Iterator[None]:
    """Within it programs are compiled once and kept in a folder, and reports have no figures: half of a run's cost."""
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
    """`python -m launch ARGUMENTS` in a process of its own, on one device."""

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
        """Sends a signal `after` seconds from when `ready()` first holds, unless the process has ended by then."""
        while not ready() and self._process.poll() is None:
            time.sleep(0.002)
        time.sleep(after)
        if self._process.poll() is None:
            self._process.send_signal(number)
        return self.wait()


def write_module(path: pathlib.Path, text: str) -> pathlib.Path:
    """A Python file, its text freed of the indentation of the test that holds it."""
    path.write_text(textwrap.dedent(text).lstrip())
    return path


def files(folder: pathlib.Path) -> dict[str, bytes]:
    """Every file below a folder with its contents; {} where there is no folder."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def read(path: pathlib.Path):
    """A JSON file."""
    return json.loads(path.read_text())


def lines(trial: pathlib.Path, split: str | None = None) -> list[dict]:
    """The records of a trial's metrics.jsonl, of one split or of all."""
    records = [json.loads(line) for line in (trial / "metrics.jsonl").read_text().splitlines()]
    return [r for r in records if split in (None, r["split"])]


def saved_steps(trial: pathlib.Path) -> list[int]:
    """The steps of the checkpoints that are whole, judged by their names alone."""
    folder = trial / "checkpoints"
    return sorted(int(p.name) for p in folder.iterdir() if p.name.isdigit()) if folder.is_dir() else []


def state(trial: pathlib.Path, step: int | None = None):
    """What a trial's last checkpoint, or that of a step, holds: nested dicts of NumPy arrays."""
    store = Store(trial / "checkpoints")
    try:
        return store.restore(store.steps()[0] if step is None else step)
    finally:
        store.close()
