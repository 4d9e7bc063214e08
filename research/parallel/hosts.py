"""Several processes that run one program: how they start, agree, wait for one another, and notice that one is lost.

    start(processes=8)                                  # before any other use of JAX
    storage = agree("the storage", storage)             # process 0 decides, all hear
    stop = any(gather("asked to stop", stop))           # all hear of all

Every process calls these functions in the same order; a process alone decides at once.  Values are JSON.  They pass
through JAX's coordination service, not through the devices, so a process that waits can tell for which one.  Only this
module and `placement.py` know that there may be several processes.

When a process is lost, the others notice within 30 seconds and end with the exit status `AGAIN`: nothing is written,
and the same command continues from the last checkpoints.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from research.console import say
from research.errors import RequestError, Stopped, one_line
from research.parallel.clusters import STARTING_SECONDS, joining
from research.parallel.watch import AGAIN, BEAT_SECONDS, GRACE_SECONDS, KEYS, Watch, leave, read_all

WAITING_SECONDS = 1800
"""How long a process waits for others that are alive, as while one of them compiles, before it gives up."""


class Lost(Stopped):
    """Another process is missing; the same command, started again in all processes, continues."""


class Elsewhere(RequestError):
    """An error of another process, which reports it itself."""


class Apart(RuntimeError):
    """Processes are at different decisions, because one of them has failed, or of a fault of this program."""


# -- start and end -----------------------------------------------------------------------------------------------------

_link: Link | None = None  # the connection to the other processes, which lasts as long as JAX's own


def start(processes: int | None = None, process: int | None = None, coordinator: str | None = None) -> None:
    """Joins the processes of this program, and checks that all of them are there.

    Call it before JAX is used.  Without `process` and `coordinator`, the cluster that started this process is asked
    (SLURM, Open MPI, Cloud TPU, GKE); without a cluster, or with `processes=1`, this process is alone.

    Args:
      processes: the expected number of processes; None takes the cluster's.
      process: the number of this process, from 0.
      coordinator: HOST:PORT of process 0.

    Raises:
      RequestError: this process would train alone although several are expected, or they do not fit together.
      Lost: some processes are missing after `STARTING_SECONDS`.
    """
    global _link
    found = joining(processes, process, coordinator)
    if found is None:
        return
    import jax

    # With JAX's own preemption service, Python would never see SIGTERM.  Recoverable processes survive the loss of
    # others long enough to end in order.
    jax.config.update("jax_enable_preemption_service", False)
    jax.config.update("jax_enable_recoverability", True)
    try:
        jax.distributed.initialize(
            found.coordinator,
            found.processes,
            found.process,
            found.devices,
            cluster_detection_method="deactivate",
            initialization_timeout=STARTING_SECONDS,
            shutdown_timeout_seconds=10,
        )
    except Exception as error:
        where = f"process {found.process} of {found.processes} with process 0 at {found.coordinator}"
        if "DEADLINE_EXCEEDED" in str(error) or "UNAVAILABLE" in str(error):
            raise Lost(f"{where}: others are missing after {STARTING_SECONDS} s ({one_line(error)})") from None
        raise RequestError(f"{where}: cannot start: {one_line(error)}") from error
    from jax._src.distributed import global_state  # the barriers and keys have no public name

    _link = Link(global_state.client, found.process, found.processes)
    if not leads():
        _link.kept = _outlive(found.coordinator)
    _link.watch.start()
    own = [socket.gethostname(), jax.local_device_count(), jax.local_devices()[0].platform]
    everyone = _link.gather("the start", own)
    _link.names = [host for host, _, _ in everyone]
    platforms = {platform for _, _, platform in everyone}
    if len(platforms) > 1 or jax.process_count() != found.processes:
        each = ", ".join(f"{_link.name(i)}: {count} {platform}" for i, (_, count, platform) in enumerate(everyone))
        raise RequestError(f"the processes would not train together: expected devices of one kind, found {each}")
    if leads():
        say(f"{found.processes} processes, {jax.device_count()} devices", sys.stderr)


def end(status: int, why: str = "") -> None:
    """Ends this process together with the others; if they cannot end by themselves, they end with the same status.

    Args:
      status: the exit status of this process.
      why: a line for the others, in case that they have to end because of this.
    """
    global _link
    if _link is None:
        return
    _link.tell_end(status, why)
    if not _link.all_end():
        leave(status, "")
    _link.over.set()
    import jax

    with contextlib.suppress(Exception):
        jax.distributed.shutdown()
    _link = None


def _outlive(coordinator: str) -> Any:
    """Ends this process in order when JAX aborts it, as JAX does once process 0 does not answer.

    JAX aborts in a thread of C++, where handlers of Python's own `signal` do not run.  Any other abort stays one.

    Returns:
      What has to be kept as long as the process lives.
    """

    def aborted(number: int) -> None:
        host, _, port = coordinator.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
        except OSError:
            known = _link is not None
            leave(*(_link.watch.loss(0) if known else (AGAIN, "process 0 is lost; start the same command again")))

    handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(aborted)
    set_handler = ctypes.CDLL(None).signal
    set_handler.argtypes, set_handler.restype = (ctypes.c_int, type(handler)), ctypes.c_void_p
    set_handler(signal.SIGABRT, handler)
    return handler


# -- decisions ---------------------------------------------------------------------------------------------------------


def several() -> bool:
    """True if this process is one of several."""
    return _link is not None


def count() -> int:
    """The number of processes."""
    return 1 if _link is None else _link.processes


def leads() -> bool:
    """True in process 0, which alone writes files and reports progress, and in a process that is alone."""
    return _link is None or _link.process == 0


def agree(what: str, value: Any) -> Any:
    """Returns process 0's value in every process; `what` names the decision in errors.

    >>> agree("the steps per call", 64)
    64
    """
    return value if _link is None else _link.agree(what, value)


def gather(what: str, value: Any) -> list[Any]:
    """Returns the values of all processes, by their numbers.

    >>> gather("asked to stop", False)
    [False]
    """
    return [value] if _link is None else _link.gather(what, value)


def smallest(what: str, value: int) -> int:
    """Returns the smallest of the processes' values."""
    return min(gather(what, value))


def by_leader(what: str, function: Callable[[], Any]) -> Any:
    """Calls a function in process 0 only; every process returns its value, or raises its error.

    Raises:
      Stopped: the function raised it in process 0.
      Elsewhere: the function raised any other error in process 0; that process raises the error itself.
    """
    if _link is None:
        return function()
    told, raised = None, None
    if leads():
        try:
            told = {"value": function()}
        except Exception as error:
            raised, told = error, {"stopped" if isinstance(error, Stopped) else "error": one_line(error)}
    told = _link.agree(what, told)
    if raised is not None:
        raise raised
    if "stopped" in told:
        raise Stopped(told["stopped"])
    if "error" in told:
        raise Elsewhere(told["error"])
    return told["value"]


@contextlib.contextmanager
def together(what: str) -> Iterator[None]:
    """Raises an error in every process if the block raises one in any of them: `Elsewhere` in those without their own.

    A process that cannot get here, as its devices wait for those of one that failed, ends with the exit status 1.
    """
    if _link is None:
        yield
        return
    own = None
    try:
        yield
    except Exception as error:
        own = error
    try:
        _link.share(what, None if own is None else one_line(own))
    except Elsewhere as elsewhere:
        # An error that all have is reported by process 0.
        raise (elsewhere if own is None or (not leads() and str(elsewhere) == one_line(own)) else own) from None


def share_failure(what: str, error: Exception) -> None:
    """Makes every process fail at its next decision, and waits until all have called this function.

    If one of them is lost meanwhile, this process ends with the exit status `AGAIN`.
    """
    if _link is not None:
        _link.share_failure(what, one_line(error))


def check_alike(what: str, value: Any, expected: str) -> None:
    """Raises RequestError in every process if its value is not process 0's anywhere; the line says where."""
    values = gather(what, value)
    for other, its in enumerate(values):
        if its != values[0]:
            kind = RequestError if leads() else Elsewhere
            raise kind(f"{_link.name(other)}: {what} differs from process 0's; expected {expected}")


# -- the connection ----------------------------------------------------------------------------------------------------


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
    """

    def __init__(self, client: Any, process: int, processes: int, seconds: float = WAITING_SECONDS):
        self.process, self.processes = process, processes
        self.names = [""] * processes
        self.over = threading.Event()
        self.watch = Watch(self, client, self.over)
        self.kept: Any = None
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

    def all_end(self) -> bool:
        """Waits for the ends of all processes; False if some do not come."""
        try:
            self._client.wait_at_barrier(f"{KEYS}end", int(1000 * (GRACE_SECONDS + 5 * BEAT_SECONDS)))
        except Exception:
            return False
        return True

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
