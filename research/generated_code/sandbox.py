r"""Runs untrusted programs in a process of their own, with almost no rights.

    ended = run("print(1 + 1)")          # Ended("passed", "", "2\n", 0.05)

The Linux kernel guarantees the following, without privileges (see confined.py):

    time        the process and its group are killed after `Limits.seconds`
    memory      more than `Limits.memory` of address space is a MemoryError
    network     no socket can be created, so nothing can be reached
    processes   none can be started or signalled; threads are allowed
    files       only the program's own folder, which is removed afterwards, can be written; apart from it, only Python
                and the system's libraries can be read: no home, no data, nothing of other processes under /proc
    environment nothing is inherited; stdin is empty; output is kept up to `Limits.output`

Not guaranteed: the verdict comes from the interpreter that runs the program, so a program that tries to forge it (by
manipulating the calling frames) can.  A program that merely exits or kills itself has failed.
"""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from typing import Literal

from research.errors import RequestError, require

Outcome = Literal["passed", "failed", "timeout", "syntax error"]

_INSIDE = pathlib.Path(__file__).with_name("confined.py")
_SYSTEM = ("/usr", "/lib", "/lib64", "/etc/ld.so.cache", "/etc/localtime")


@dataclasses.dataclass(frozen=True)
class Limits:
    """Resource limits of a program.

    Attributes:
      seconds: of wall time, including the start of the interpreter, and of CPU time.
      memory: bytes of address space.
      file_bytes: bytes per file.
      output: bytes of standard output and error that are kept, together.
      confined: False drops the limits that need Linux (network, processes, files), for machines that are sandboxes
        themselves.
    """

    seconds: float = 10.0
    memory: int = 512 * 2**20
    file_bytes: int = 16 * 2**20
    output: int = 10_000
    confined: bool = True

    def check(self) -> None:
        """Raises RequestError for a value out of range."""
        require(0 < self.seconds < 3600, f"seconds={self.seconds}: expected 0 < seconds < 3600")
        least = 64 * 2**20
        require(self.memory >= least, f"memory={self.memory}: expected at least {least}, which Python itself takes")
        for name in ("file_bytes", "output"):
            require(getattr(self, name) >= 0, f"{name}={getattr(self, name)}: expected at least 0")


@dataclasses.dataclass(frozen=True)
class Ended:
    """How a program ended: its outcome, the error in one line, its output, and wall seconds."""

    outcome: Outcome
    error: str = ""
    output: str = ""
    seconds: float = 0.0


def run(program: str, limits: Limits = Limits()) -> Ended:  # noqa: B008  (frozen)
    """Runs Python source in a new interpreter and an empty folder.

    Raises:
      RequestError: this system cannot confine a process as `limits` asks.
    """
    limits.check()
    with tempfile.TemporaryDirectory(prefix="candidate-") as root:
        folder = os.path.join(root, "work")
        os.mkdir(folder)
        with open(os.path.join(root, "output"), "w+b") as output:
            verdict, ended, seconds = _run(program, limits, folder, output)
            output.seek(0)
            said = output.read(limits.output).decode("utf-8", errors="replace")
    if verdict.get("outcome") == "not confined":
        raise RequestError(
            f"this system cannot confine a process ({verdict['error']}); "
            "expected Linux 5.13 or later, or confined=False on a machine that is itself a sandbox"
        )
    if verdict:
        return Ended(verdict["outcome"], verdict["error"], said, seconds)
    if ended in (None, -signal.SIGXCPU):
        return Ended("timeout", f"still running after {limits.seconds:g} s", said, seconds)
    how = f"signal {-ended} ({signal.strsignal(-ended)})" if ended < 0 else f"exit status {ended}"
    return Ended("failed", f"{how} before its end", said, seconds)


def _run(program: str, limits: Limits, folder: str, output) -> tuple[dict[str, str], int | None, float]:
    """Returns (verdict or {}, exit status or None after a timeout, seconds)."""
    nonce = secrets.token_hex(16)
    reading, writing = os.pipe()
    asked = {
        "program": program,
        "nonce": nonce,
        "verdict": writing,
        "folder": folder,
        "confined": limits.confined,
        "readable": [*_SYSTEM, sys.prefix, sys.base_prefix],
        "seconds": limits.seconds,
        "memory": limits.memory,
        "file_bytes": limits.file_bytes,
    }
    start = time.monotonic()
    try:
        process = subprocess.Popen(
            [sys.executable, "-I", "-B", str(_INSIDE)],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env={"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": folder, "TMPDIR": folder, "PYTHONHASHSEED": "0"},
            start_new_session=True,
            pass_fds=(writing,),
        )
        os.close(writing)
        writing = None
        try:
            process.communicate(json.dumps(asked).encode("utf-8"), timeout=limits.seconds)
            ended = process.returncode
        except subprocess.TimeoutExpired:
            ended = None
        finally:
            _kill(process)
        seconds = time.monotonic() - start
        os.set_blocking(reading, False)
        return _verdict(reading, nonce), ended, seconds
    finally:
        os.close(reading)
        if writing is not None:
            os.close(writing)


def _kill(process: subprocess.Popen) -> None:
    """Kills the process and everything it started: the process group exists as long as any member does."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        process.kill()
    process.wait()


def _verdict(reading: int, nonce: str) -> dict[str, str]:
    """Reads the verdict from the pipe; {} unless it has the right nonce."""
    try:
        said = os.read(reading, 65536).decode("utf-8", errors="replace")
        first, _, rest = said.partition(" ")
        return json.loads(rest) if first == nonce else {}
    except (BlockingIOError, ValueError):
        return {}
