"""The connection of one of several processes to the others, through keys that process 0 keeps for all."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable
from typing import Any

from research.errors import RequestError, Stopped
from research.parallel.watch import AGAIN, BEAT_SECONDS, GRACE_SECONDS, KEYS, Watch, leave, read_all

WAITING_SECONDS = 1800
"""Seconds that a process waits for others that are alive, such as one that compiles, before it gives up."""


class Lost(Stopped):
    """Another process is missing; the same command, started again in all processes, continues."""


class Elsewhere(RequestError):
    """An error of another process, which reports it itself."""


class Apart(RuntimeError):
    """Processes are at different decisions, because one of them has failed, or of a fault of this program."""


class Link:
    """The connection of a process to the others, through keys that process 0 keeps for all.

    Args:
      client: the client of JAX's coordination service.
      process: the number of this process.
      processes: the number of processes.
      seconds: how long to wait for others that are alive.

    Attributes:
      names: the host of each process, once known.
      over: set when the processes need no longer watch one another.
      watch: shows that this process lives, once started, and watches the others.
      kept: something to keep as long as the connection.
      releases: functions that release what process 0 holds for all, before it, or a process that has lost it, ends.
      ended: the exit status of this process, once all have agreed to end.
    """

    def __init__(self, client: Any, process: int, processes: int, seconds: float = WAITING_SECONDS):
        self.process, self.processes = process, processes
        self.names = [""] * processes
        self.over = threading.Event()
        self.watch = Watch(self, client, self.over)
        self.kept: Any = None
        self.releases: list[Callable[[], None]] = []
        self.ended: int | None = None
        self._client, self._seconds = client, seconds
        self._round = 0

    def name(self, process: int) -> str:
        """A process and its host."""
        return f"process {process}" + (f" ({self.names[process]})" if self.names[process] else "")

    def agree(self, what: str, value: Any) -> Any:
        """Process 0's value."""
        self._round += 1
        if self.process == 0:
            self._put(f"answer/{self._round}", {"what": what, "value": value})
        return self._answer(what)

    def gather(self, what: str, value: Any) -> list[Any]:
        """The values of all processes; fails in all of them unless they are at the same decision."""
        self._round += 1
        own = {"what": what, "value": value}
        if self.process != 0:
            self._put(f"said/{self._round}/{self.process}", own)
            return self._answer(what)
        said = {0: own, **self._said(what)}
        for earlier in range(self._forgotten, self._round):  # all have read the answers before this decision
            self._delete(f"answer/{earlier}")
        self._delete(f"said/{self._round}/")
        self._forgotten = self._round
        answer = {"what": what, "value": [said[i]["value"] for i in range(self.processes)]}
        if apart := [i for i, its in sorted(said.items()) if its["what"] != what]:
            its = said[apart[0]]
            answer["apart"] = f"{self.name(apart[0])} is at {its['what']} ({its['value']}), process 0 at {what}"
        self._put(f"answer/{self._round}", answer)
        return self._answer(what)

    _forgotten = 1

    def share(self, what: str, failure: str | None) -> None:
        """Raises `Elsewhere` with the first failure of any process, if there is one."""
        if failure is not None:
            self.tell_end(1, failure)
        failures = self.gather(what, failure)
        if failure is not None:
            self._delete(f"ended/{self.process}")
        for other, its in enumerate(failures):
            if its is not None:
                raise Elsewhere(its if all(x == its for x in failures) else f"{self.name(other)}: {its}")

    def share_failure(self, what: str, failure: str) -> None:
        """Raises `Apart` in the processes that are at other decisions, and waits until all share a failure."""
        if self.process == 0:  # others may wait for its decision
            self._round += 1
            self._put(f"answer/{self._round}", {"what": what, "apart": f"{self.name(0)}: {failure}"})
        with contextlib.suppress(Elsewhere):
            while True:
                with contextlib.suppress(Apart):
                    self.share(what, failure)

    def tell_end(self, status: int, why: str, *, at_once: bool = False) -> None:
        """Tells the others that this process ends, and why, so that they end too: in a while, or at once."""
        self._put(f"ended/{self.process}", [status, why, at_once])

    def leave(self, status: int, line: str, lost: int | None = None) -> None:
        """Ends this process at once, even while it waits for its devices, and with process 0 all others.

        Args:
          status: the exit status.
          line: says why.
          lost: a process that is lost; others release what process 0 holds if it cannot do so itself.
        """
        if self.process == 0:
            self.tell_end(status, line, at_once=True)
            time.sleep(2 * BEAT_SECONDS)  # the others read it
        if 0 in (self.process, lost):
            releasing = threading.Thread(target=self._release, daemon=True)  # a lost file system makes it wait forever
            releasing.start()
            releasing.join(BEAT_SECONDS)
        leave(status, line)

    def _release(self) -> None:
        for release in self.releases:
            with contextlib.suppress(Exception):
                release()

    def all_end(self) -> bool:
        """Waits for the ends of all processes; False if some do not come."""
        try:
            self._client.wait_at_barrier(f"{KEYS}end", int(1000 * (GRACE_SECONDS + 5 * BEAT_SECONDS)))
        except Exception:
            return False
        return True

    def wait_until_left(self) -> None:
        """Waits, in process 0, until the others have disconnected: JAX aborts one that finds the service gone."""
        if self.process == 0:
            with contextlib.suppress(Exception):
                self._client.get_live_nodes(list(range(self.processes)))  # returns once all that are connected call it

    def _answer(self, what: str) -> Any:
        until = time.monotonic() + 1.1 * self._seconds + 1  # a little longer than process 0 waits
        while time.monotonic() < until:
            text = self._try(lambda: self._client.blocking_key_value_get(f"{KEYS}answer/{self._round}", 5000))
            if text is not None:
                answer = json.loads(text)
                if answer["what"] != what or "apart" in answer:
                    here = f"process {self.process} is at {what}, process 0 at {answer['what']}"
                    raise Apart(answer.get("apart", here))
                return answer["value"]
        raise Lost(f"{self.name(0)} has not reached {what} for {self._seconds:,.0f} s")

    def _said(self, what: str) -> dict[int, Any]:
        """Waits for the values of the other processes."""
        until, pause, said = time.monotonic() + self._seconds, 0.0005, {}
        while time.monotonic() < until:
            said = read_all(self._try(lambda: self._client.key_value_dir_get(f"{KEYS}said/{self._round}/")))
            if len(said) == self.processes - 1:
                return said
            time.sleep(pause)
            pause = min(2 * pause, 0.05)
        missing = ", ".join(self.name(i) for i in range(1, self.processes) if i not in said)
        line = f"{missing}: not at {what}, where process 0 has waited for {self._seconds:,.0f} s"
        self.tell_end(AGAIN, line, at_once=True)
        raise Lost(line)

    def _put(self, key: str, value: Any) -> None:
        text = json.dumps(value, default=float)  # of NumPy numbers
        self._try(lambda: self._client.key_value_set(f"{KEYS}{key}", text, allow_overwrite=True))

    def _delete(self, key: str) -> None:
        self._try(lambda: self._client.key_value_delete(f"{KEYS}{key}"))

    def _try(self, call: Callable[[], Any]) -> Any:
        """The value of a call to the service; None if it fails: if process 0 is lost, the watch ends this process."""
        try:
            return call()
        except Exception as error:
            if "DEADLINE_EXCEEDED" not in str(error):
                time.sleep(0.1)
            return None
