r"""Runs untrusted programs in a process of their own, with almost no rights.

    ended = run("print(1 + 1)")                              # Ended("passed", "", "2\n", 0.05)
    ended = run("def one(): return 2", tests="assert one() == 1")     # Ended("failed", "AssertionError: ", ...)

The Linux kernel guarantees the following, without privileges (see confined.py):

    time        the process and its group are killed after `Limits.seconds`, and when this process ends
    memory      more than `Limits.memory` of address space is a MemoryError
    network     no socket can reach anything
    processes   none can be started, signalled or re-scheduled; threads are allowed
    files       only the program's own folder can be written, up to `Limits.folder_bytes` in all; it lies in memory and
                vanishes with the process.  Apart from it, only Python and the system's libraries can be read: no home,
                no data, nothing of other processes under /proc
    calls       the kernel refuses every system call that is not on a list
    environment nothing is inherited; stdin is empty; output is kept up to `Limits.output`
    verdict     the tests run in another process (see runner.py), and only that one can write the verdict

A machine that lacks a part runs no program, unless the user accepts it (`Limits.partly`, `Limits.confined`).  Tests
judge what a program's functions return.  A program without tests passes if it says that it has reached its end, which
any program can say; one that merely exits or kills itself has failed.
"""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from typing import Literal

from research.errors import RequestError, require

Outcome = Literal["passed", "failed", "timeout", "syntax error"]

_INSIDE = pathlib.Path(__file__).with_name("runner.py")
_SYSTEM = ("/usr", "/lib", "/lib64", "/etc/ld.so.cache", "/etc/localtime")


@dataclasses.dataclass(frozen=True)
class Limits:
    """Resource limits of a program.

    Attributes:
      seconds: of wall time, including the start of the interpreter, and of CPU time.
      memory: bytes of address space.
      file_bytes: bytes per file.
      folder_bytes: bytes of all files together.
      output: bytes of standard output and error that are kept, together.
      confined: False drops the limits that need Linux (network, processes, files), for machines that are sandboxes
        themselves.
      partly: True accepts a machine that makes no namespaces for this user; a program can then write no file at all.
    """

    seconds: float = 10.0
    memory: int = 512 * 2**20
    file_bytes: int = 16 * 2**20
    folder_bytes: int = 64 * 2**20
    output: int = 10_000
    confined: bool = True
    partly: bool = False

    def check(self) -> None:
        """Raises RequestError for a value out of range."""
        require(0 < self.seconds < 3600, f"seconds={self.seconds}: expected 0 < seconds < 3600")
        least = 64 * 2**20
        require(self.memory >= least, f"memory={self.memory}: expected at least {least}, which Python itself takes")
        for name, least in (("file_bytes", 0), ("folder_bytes", 1), ("output", 0)):
            require(getattr(self, name) >= least, f"{name}={getattr(self, name)}: expected at least {least}")


@dataclasses.dataclass(frozen=True)
class Ended:
    """The end of a program: its outcome, the error in one line, its output, and wall seconds."""

    outcome: Outcome
    error: str = ""
    output: str = ""
    seconds: float = 0.0


def run(program: str, limits: Limits = Limits(), *, tests: str = "") -> Ended:  # noqa: B008  (frozen)
    """Runs Python source in a new interpreter and an empty folder, then tests that use its names.

    Raises:
      RequestError: this system cannot confine a process as `limits` asks.
    """
    limits.check()
    root = tempfile.mkdtemp(prefix="candidate-")
    try:
        folder = os.path.join(root, "work")
        os.mkdir(folder)
        with open(os.path.join(root, "output"), "w+b") as output:
            sizes = [limits.folder_bytes, 0] if limits.confined and limits.partly else [limits.folder_bytes]
            for folder_bytes in sizes:
                verdict, seconds = _run(program, tests, limits, folder_bytes, folder, output)
                if verdict is None or verdict["outcome"] != "not confined":
                    break
            output.seek(0)
            said = output.read(limits.output).decode("utf-8", errors="replace")
    finally:
        _remove(root)
    if verdict is None:
        return Ended("timeout", f"still running after {limits.seconds:g} s", said, seconds)
    if verdict["outcome"] == "not confined":
        raise RequestError(
            f"this system cannot confine a process ({verdict['error']}), so no program is run; expected Linux 5.13 or "
            "later with user namespaces.  Limits(partly=True) does without the latter, and Limits(confined=False) "
            "without any confinement, on a machine that is itself a sandbox"
        )
    return Ended(verdict["outcome"], verdict["error"], said, seconds)


def _run(
    program: str, tests: str, limits: Limits, folder_bytes: int, folder: str, output
) -> tuple[dict[str, str] | None, float]:
    """Returns (the verdict, or None after a timeout; seconds); with `folder_bytes` of 0, no file can be written."""
    reading, writing = os.pipe()
    settings = {
        "verdict": writing,
        "folder": folder,
        "folder_bytes": folder_bytes,
        "confined": limits.confined,
        "readable": [*_SYSTEM, sys.prefix, sys.base_prefix],
        "seconds": limits.seconds,
        "memory": limits.memory,
        "file_bytes": limits.file_bytes,
    }
    start = time.monotonic()
    try:
        process = subprocess.Popen(
            [sys.executable, "-I", "-B", str(_INSIDE), json.dumps(settings)],
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
            process.communicate(json.dumps({"program": program, "tests": tests}).encode(), timeout=limits.seconds)
        except subprocess.TimeoutExpired:
            return None, time.monotonic() - start
        finally:
            _kill(process)
        said, seconds = os.read(reading, 65536), time.monotonic() - start
        verdict = {"outcome": "failed", "error": f"the judge ended with exit status {process.returncode}"}
        return json.loads(said) if said else verdict, seconds
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


def _remove(root: str) -> None:
    """Removes a folder, also one that an unconfined program has nested deeper than Python can follow."""
    if shutil.which("rm"):
        subprocess.run(["rm", "-rf", "--", root], check=False, stderr=subprocess.DEVNULL)
    else:
        shutil.rmtree(root, ignore_errors=True)
