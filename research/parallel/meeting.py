"""The meeting of the processes of a program before they join: it names those that are missing, while it waits for them.

Process 0 listens where JAX's coordination service will listen afterwards, which waits for all without a word.  Every
other process tells its number there, as a line of JSON, and hears who is missing, and when all have come.
"""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

from research.errors import RequestError
from research.parallel.clusters import STARTING_SECONDS, Joining
from research.parallel.link import Lost

FIRST_NOTE_SECONDS = 5.0
"""Seconds until the first line about missing processes."""

NOTE_SECONDS = 30.0
"""Seconds between such lines."""

GUEST_SECONDS = 2.0
"""Seconds that a process may take to send its line after it has connected."""

LONGEST_LINE = 4096


def meet(found: Joining, note: Callable[[str], None], seconds: float = STARTING_SECONDS) -> None:
    """Waits until all processes have come.

    Args:
      found: how this process joins the others.
      note: called with a line about missing processes, after some seconds and then now and again.
      seconds: how long to wait.

    Raises:
      RequestError: the processes do not fit together.
      Lost: some processes are missing after `seconds`.
    """
    host, _, port = found.coordinator.rpartition(":")
    grace = 0.0 if found.process == 0 else 2.0  # to hear whom process 0 has waited for
    notes = _Notes(f"process {found.process} of {found.processes}", note, seconds, grace)
    if found.process == 0:
        _receive(found.processes, int(port), notes)
    else:
        _come(found, (host.strip("[]"), int(port)), notes)


class _Notes:
    """Notes at intervals for whom a process waits, until a deadline."""

    def __init__(self, process: str, note: Callable[[str], None], seconds: float, grace: float):
        self._process, self._note, self._seconds = process, note, seconds
        self._due = time.monotonic() + min(FIRST_NOTE_SECONDS, seconds / 2)
        self._until = time.monotonic() + seconds + grace

    def waits(self, missing: str) -> None:
        """Notes what the process waits for, if a line is due; raises Lost after the deadline."""
        now = time.monotonic()
        if now >= self._until:
            raise Lost(f"{self._process} has waited {self._seconds:,.0f} s for {missing}")
        if now >= self._due:
            self._due = now + NOTE_SECONDS
            self._note(f"{self._process} waits for {missing}")


def _receive(processes: int, port: int, notes: _Notes) -> None:
    """Receives all other processes, as process 0."""
    here: dict[int, tuple[str, socket.socket]] = {}
    told = here
    with contextlib.ExitStack() as open_sockets:
        server = open_sockets.enter_context(_listening(port, notes))
        try:
            while len(here) < processes - 1:
                with contextlib.suppress(OSError):
                    guest = open_sockets.enter_context(server.accept()[0])
                    _welcome(guest, processes, here)
                here = {i: (host, guest) for i, (host, guest) in here.items() if not _has_gone(guest)}
                missing = ", ".join(f"process {i}" for i in range(1, processes) if i not in here)
                if here != told:
                    told = here
                    _tell_all(here, {"missing": missing})
                if missing:
                    notes.waits(missing)
        except (RequestError, Lost) as error:
            _tell_all(here, {"lost" if isinstance(error, Lost) else "error": str(error)})
            raise
        _tell_all(here, {"all": True})
        for _, guest in here.values():  # the guests close first, so that the port is free at once
            with contextlib.suppress(OSError):
                guest.recv(1)


def _welcome(guest: socket.socket, processes: int, here: dict[int, tuple[str, socket.socket]]) -> None:
    """Adds a process that has come to those that are here; ignores connections that are not from a process."""
    guest.settimeout(GUEST_SECONDS)
    hello = _read(guest) or {}
    process, expected, host = (hello.get(name) for name in ("process", "processes", "host"))
    if type(process) is not int or type(expected) is not int or type(host) is not str or process < 1:
        return
    name = f"process {process} ({host})"
    if expected != processes:
        problem = f"{name} expects {expected} processes, process 0 expects {processes}; expected one number"
    elif process >= processes:
        return
    elif process in here and not _has_gone(here[process][1]):
        problem = f"both {here[process][0]} and {host} start process {process}; expected different numbers"
    else:
        here[process] = host, guest
        return
    _tell(guest, {"error": problem})
    raise RequestError(problem)


def _come(found: Joining, address: tuple[str, int], notes: _Notes) -> None:
    """Comes to process 0, as any other process, and waits until it says that all are there."""
    hello = {"process": found.process, "processes": found.processes, "host": socket.gethostname()}
    missing = "the others"
    while True:
        with contextlib.suppress(OSError), socket.create_connection(address, timeout=2.0) as host:
            _tell(host, hello)
            while True:
                try:
                    said = _read(host)
                except TimeoutError:
                    said = {}
                if said is None:
                    break  # process 0 has ended, or another program listens there
                if "all" in said:
                    return
                if "lost" in said:
                    raise Lost(said["lost"])
                if "error" in said:
                    raise RequestError(said["error"])
                missing = said.get("missing", missing)
                notes.waits(missing)
        notes.waits(f"process 0, which is not at {found.coordinator}")
        time.sleep(0.2)


@contextlib.contextmanager
def _listening(port: int, notes: _Notes) -> Iterator[socket.socket]:
    """Listens at a port, once it is free."""
    while True:
        try:
            if socket.has_dualstack_ipv6():
                server = socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
            else:
                server = socket.create_server(("", port))
            break
        except OSError as error:
            notes.waits(f"port {port} ({error.strerror})")
            time.sleep(0.2)
    with server:
        server.settimeout(0.2)
        yield server


def _tell(to: socket.socket, said: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):
        to.sendall(json.dumps(said).encode() + b"\n")


def _tell_all(here: dict[int, tuple[str, socket.socket]], said: dict[str, Any]) -> None:
    for _, guest in here.values():
        _tell(guest, said)


def _read(of: socket.socket) -> dict[str, Any] | None:
    """The next line; None at the end, or if it is no JSON object."""
    line = b""
    while not line.endswith(b"\n") and len(line) < LONGEST_LINE:
        byte = of.recv(1)
        if not byte:
            return None
        line += byte
    try:
        said = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return said if isinstance(said, dict) else None


def _has_gone(guest: socket.socket) -> bool:
    """True if the other side has closed the connection."""
    guest.settimeout(0.0)
    try:
        return guest.recv(1, socket.MSG_PEEK) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True
    finally:
        guest.settimeout(GUEST_SECONDS)
