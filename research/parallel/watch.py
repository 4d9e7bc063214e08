"""Notices when one of several processes is lost, or has ended, and ends this one.

Each process shows every `BEAT_SECONDS` that it lives, through keys that process 0 keeps for all.  Process 0 watches all
others, and they watch process 0, so that the work grows with the number of processes, not with its square.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
import time
from typing import Any, Protocol

from research.console import say

AGAIN = 75
"""The exit status that asks for the same command again (EX_TEMPFAIL of sysexits.h)."""

LOST_SECONDS = 20
"""A process that has not been heard of for this long is lost."""

GRACE_SECONDS = 35
"""Seconds that processes have to end by themselves after another one has ended; more than to notice a loss."""

BEAT_SECONDS = 2.0
"""Seconds between the signs of life of a process."""

KEYS = "espalier/"
"""The start of the names of all keys."""


class Member(Protocol):
    """The part of a process's connection to the others that the watch uses."""

    process: int
    processes: int

    def name(self, process: int) -> str: ...

    def leave(self, status: int, line: str, lost: int | None = None) -> None: ...


def leave(status: int, line: str) -> None:
    """Ends this process at once, even while it waits for its devices."""
    if line:
        with contextlib.suppress(Exception):
            say(line, sys.stderr)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit(status)


def read_all(entries: list[tuple[str, str]] | None) -> dict[int, Any]:
    """The JSON values of keys that end with the number of a process, by that number."""
    return {int(key.rpartition("/")[2]): json.loads(value) for key, value in entries or ()}


class Watch:
    """Ends this process when another one is lost, or has ended while this one cannot.

    Args:
      member: the connection of this process.
      client: the client of JAX's coordination service.
      over: set when there is nothing to watch any more.
    """

    def __init__(self, member: Member, client: Any, over: threading.Event):
        self._member, self._client, self._over = member, client, over
        watched = range(1, member.processes) if member.process == 0 else (0,)
        self._heard = {other: (None, time.monotonic()) for other in watched}  # the latest beat, and when it came
        self._ended: dict[int, Any] = {}

    def start(self) -> None:
        """Starts two threads: the one that asks process 0 hangs if its host is lost, and the other one notices."""
        for run in (self._beat, self._look):
            threading.Thread(target=run, daemon=True).start()

    def _beat(self) -> None:
        beat = 0
        while not self._over.wait(BEAT_SECONDS):
            beat += 1
            with contextlib.suppress(Exception):
                self._client.key_value_set(f"{KEYS}alive/{self._member.process}", str(beat), allow_overwrite=True)
                self.hear()

    def hear(self) -> None:
        """Notes new signs of life, and which processes have ended."""
        for other, beat in read_all(self._client.key_value_dir_get(f"{KEYS}alive/")).items():
            if other in self._heard and self._heard[other][0] != beat:
                self._heard[other] = beat, time.monotonic()
        self._ended = read_all(self._client.key_value_dir_get(f"{KEYS}ended/"))

    def _look(self) -> None:
        looked, since = time.monotonic(), {}
        while not self._over.wait(1.0):
            now = time.monotonic()
            if now - looked > LOST_SECONDS / 4:  # this process was stopped, and could not hear
                self._heard = {other: (beat, now) for other, (beat, _) in self._heard.items()}
            looked = now
            since = {other: since.get(other, now) for other in self._ended}
            found = self.verdict(now, since)
            if found is not None:
                self._member.leave(*found)
                return

    def verdict(self, now: float, since: dict[int, float]) -> tuple[int, str, int | None] | None:
        """The status and the line with which this process has to end, and the process that is lost, if one is; None
        if this process can go on.

        Args:
          now: the time in seconds.
          since: when this process heard of the ends of others.
        """
        member, ended = self._member, dict(self._ended)
        for other, (status, why, at_once) in ended.items():
            waited = member.process not in ended and now - since.get(other, now) > GRACE_SECONDS
            if other != member.process and (at_once or waited):
                return (status, why, None) if at_once else (*self.loss(other), None)
        for other, (_, at) in self._heard.items():
            if other not in ended and now - at > LOST_SECONDS:
                return *self.loss(other), other
        return None

    def loss(self, other: int) -> tuple[int, str]:
        """The status and the line with which this process ends after the loss of another one."""
        name = self._member.name(other)
        if other in self._ended:
            status, why, _ = self._ended[other]
            return status, f"{name} has ended: {why or f'exit status {status}'}"
        return AGAIN, f"{name} is lost; start the same command in all processes again to continue"
