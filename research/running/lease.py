"""The lease of a run's folder (lease.json): only the launcher that holds it writes there.

A lease expires if it is not renewed for `LEASE_SECONDS`, as by a launcher that was suspended.  Another launcher may
then take it over; the first one notices before its next write, and stops.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import os
import socket
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any, Protocol

import psutil
from etils import epath

from research.console import say
from research.errors import RequestError, Stopped
from research.training.records import is_local, read_json

LEASE_SECONDS = 60.0
"""A lease expires if it is not renewed for this long."""

RENEWED_SECONDS = LEASE_SECONDS / 4
"""Seconds between renewals."""

NOTICED_SECONDS = 1.0
"""Maximum seconds until a launcher notices the loss of its lease, even if it writes nothing."""

READ_SECONDS = 5.0
"""A lease in an object store is read at most this often."""

STARTING_SECONDS = 5.0
"""A lease without a readable owner, older than this, was left behind by a killed launcher."""


class LeaseLost(Stopped):
    """Another launcher has taken over the folder, or somebody has deleted the lease."""


class _Kept(Protocol):
    """A way to keep a lease: in a file system, or in an object store."""

    def take(self) -> None:
        """Takes the lease, or raises RequestError if another launcher has it."""

    def is_ours(self) -> bool:
        """True unless the lease has been replaced or deleted since `take`."""

    def renew(self) -> None: ...

    def give_back(self) -> None:
        """Deletes the lease if it is ours."""


class Lease:
    """Holds the lease of a folder inside a `with` block; a thread renews it.

        with Lease(folder) as lease:
            lease.check()                       # before anything is written

    Args:
      folder: the run's folder, which is created if it does not exist.
      own_process: this process does nothing else.  It then ends as soon as the lease is lost, so that checkpoints that
        are being written in the background are not completed.
      token: names the lease; all processes that train the run together, of which one holds it, know it.

    Raises:
      RequestError: another launcher holds the lease.
    """

    def __init__(self, folder: epath.Path, *, own_process: bool = False, token: str | None = None):
        self.folder = folder
        self._own_process = own_process
        kind = _InFiles if is_local(folder) else _InStore
        self._kept: _Kept = kind(folder / "lease.json", token or uuid.uuid4().hex)
        self._ended, self._ending = threading.Event(), threading.Lock()

    def __enter__(self) -> Lease:
        new = not self.folder.exists()
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            self._kept.take()
        except OSError:
            if new:
                self.folder.rmdir()
            raise
        self._thread = threading.Thread(target=self._keep, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()
        self._kept.give_back()

    def check(self) -> None:
        """Raises LeaseLost if the lease is not ours any more; ends the process if it is our own."""
        try:
            if self._kept.is_ours():
                return
        except OSError:
            return  # a file system that cannot be read cannot be written to either, and the write says why
        lost = LeaseLost(f"{self.folder}: {self._taken_by()}; this launcher has stopped and writes nothing more there")
        if self._own_process:
            self._ending.acquire()  # never released, so that only one thread says it
            say(str(lost), sys.stderr)
            os._exit(1)
        raise lost

    def give_up(self) -> None:
        """Deletes the lease just before this process ends, so that another launcher need not wait until it expires.

        Any of the processes that know its token may do so: if the one that holds it lives, it stops.
        """
        self._ending.acquire()
        self._kept.give_back()

    def _taken_by(self) -> str:
        held = read_json(self.folder / "lease.json")
        if not (isinstance(held, dict) and {"pid", "host"} <= held.keys()):
            return "its lease.json is gone"
        return (
            f"process {held['pid']} on {held['host']} has taken over this run, because this launcher was suspended or "
            f"unreachable for more than {LEASE_SECONDS:.0f} seconds"
        )

    def _keep(self) -> None:
        renewed = time.monotonic()
        while not self._ended.wait(NOTICED_SECONDS):
            with contextlib.suppress(OSError, LeaseLost):  # on a full disk, the trials report the error
                self.check()
                if time.monotonic() - renewed >= RENEWED_SECONDS:
                    self._kept.renew()
                    renewed = time.monotonic()


class _InFiles:
    """A lease in a file system: the file at the path holds the token of its owner.

    The file is complete when it appears at its path, and is replaced only under a lock of the file that it replaces.
    Its age is measured by the clock of the file system, so that the clocks of two hosts may differ.
    """

    def __init__(self, path: epath.Path, token: str):
        self.path = path
        self._owner = _owner(token)
        self._file: int | None = None
        self._name = os.fspath(path)
        self._ours: tuple[int, ...] = ()  # the state of the file when it was last read and was ours

    def take(self) -> None:
        own = self.path.with_name(f".lease.{self._owner['token']}.tmp")
        self._file = os.open(own, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
        try:
            os.write(self._file, json.dumps(self._owner).encode())
            os.fsync(self._file)
            self._put(own)
        except BaseException:
            os.close(self._file)
            raise
        finally:
            own.unlink(missing_ok=True)

    def _put(self, own: epath.Path) -> None:
        """Moves our complete file to the path."""
        for _ in range(3):
            try:
                held = os.open(self.path, os.O_RDWR)
            except FileNotFoundError:
                with contextlib.suppress(FileExistsError):
                    self._create(own)
                    return
                continue
            try:
                with _locked(held):
                    if os.path.samestat(os.fstat(held), os.stat(self.path)):
                        self._require_expired(held)
                        os.replace(own, self.path)
                        return
            except BlockingIOError:
                break
            except FileNotFoundError:
                continue
            finally:
                os.close(held)
        raise _just_started(self.path)

    def _create(self, own: epath.Path) -> None:
        try:
            os.link(own, self.path)
        except FileExistsError:
            raise
        except OSError:  # a file system without links; there, others may see an empty file for a moment
            made = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
            os.dup2(made, self._file)
            os.close(made)
            os.write(self._file, own.read_bytes())

    def _require_expired(self, held: int) -> None:
        os.utime(self._file)  # by the clock of the file system, as the other launcher does
        age = os.fstat(self._file).st_mtime - os.fstat(held).st_mtime
        try:
            owner = json.loads(os.pread(held, 2**16, 0))
        except ValueError:
            owner = None
        if _is_owner(owner):
            _require_gone(owner, abs(age) > LEASE_SECONDS, self.path)
        elif abs(age) <= STARTING_SECONDS:
            raise _just_started(self.path)

    def is_ours(self) -> bool:
        # Asked before every write; looking at an unchanged file takes a tenth of the time of reading it.
        try:
            now = os.stat(self._name)
        except FileNotFoundError:
            return False
        state = (now.st_dev, now.st_ino, now.st_size, now.st_mtime_ns, now.st_ctime_ns)
        if state != self._ours:
            self._ours = state if _token(self.path) == self._owner["token"] else ()
        return state == self._ours

    def renew(self) -> None:
        os.utime(self._file)  # this never touches the file of another launcher

    def give_back(self) -> None:
        for _ in range(100):  # another launcher locks the file while it looks at it
            try:
                self._delete()
                break
            except FileNotFoundError:
                break
            except BlockingIOError:
                time.sleep(0.01)
        if self._file is not None:
            os.close(self._file)

    def _delete(self) -> None:
        """Deletes the file if it is ours, also if it was made by another process."""
        held = os.open(self.path, os.O_RDWR)
        try:
            with _locked(held):
                if self.is_ours():
                    self.path.unlink()
        finally:
            os.close(held)


class _InStore:
    """A lease in an object store, which has neither locks nor a common clock.

    A lease that looks expired is watched for longer than it takes to renew it.
    """

    def __init__(self, path: epath.Path, token: str):
        self.path = path
        self._owner = _owner(token)
        self._seen = -math.inf

    def take(self) -> None:
        held = read_json(self.path)
        if _is_owner(held):
            expired = not isinstance(held.get("time"), float) or abs(time.time() - held["time"]) > LEASE_SECONDS
            if expired:
                time.sleep(1.5 * RENEWED_SECONDS)
                expired = read_json(self.path) == held
            _require_gone(held, expired, self.path)
        self._write()
        time.sleep(1.0)  # another launcher may have started at the same time
        if not self._is_still_ours():
            raise _just_started(self.path)

    def is_ours(self) -> bool:
        return time.monotonic() - self._seen < READ_SECONDS or self._is_still_ours()

    def _is_still_ours(self) -> bool:
        now = time.monotonic()
        ours = _token(self.path) == self._owner["token"]
        self._seen = now if ours else -math.inf
        return ours

    def renew(self) -> None:
        if self._is_still_ours():
            self._write()

    def _write(self) -> None:
        self.path.write_text(json.dumps(self._owner | {"time": time.time()}))

    def give_back(self) -> None:
        if self._is_still_ours():
            self.path.unlink()


def _owner(token: str) -> dict[str, Any]:
    """Identifies this process, whose number is unique within a namespace of its host, and this lease."""
    return {"host": socket.gethostname(), "pid": os.getpid(), "processes": _processes(), "token": token}


def _processes() -> str | None:
    """The namespace of process numbers, which containers of one host do not share; None where there are none."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return None


def _is_owner(held: Any) -> bool:
    return isinstance(held, dict) and isinstance(held.get("host"), str) and type(held.get("pid")) is int


def _require_gone(owner: dict[str, Any], expired: bool, path: epath.Path) -> None:
    """Raises RequestError if the owner of a lease still holds it."""
    here = owner["host"] == socket.gethostname() and owner.get("processes", _processes()) == _processes()
    ended = here and (owner["pid"] == os.getpid() or not psutil.pid_exists(owner["pid"]))
    if not (expired or ended):
        raise RequestError(
            f"{path.parent} is being trained by process {owner['pid']} on {owner['host']}; "
            f"wait for it, or choose another folder"
        )


def _just_started(path: epath.Path) -> RequestError:
    return RequestError(f"{path.parent}: another launcher has just started there; choose another folder")


def _token(path: epath.Path) -> str | None:
    """The token of the owner of a lease; None if there is no lease, or it has none."""
    held = read_json(path)
    return held.get("token") if isinstance(held, dict) else None


@contextlib.contextmanager
def _locked(file: int) -> Iterator[None]:
    """Locks a file inside the block, on file systems that have locks; raises BlockingIOError if it is locked."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:
        yield
        return
    try:
        yield
    finally:
        fcntl.flock(file, fcntl.LOCK_UN)
