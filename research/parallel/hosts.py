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
import functools
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from typing import Any

from research.console import say
from research.errors import RequestError, Stopped, one_line
from research.parallel.clusters import joining
from research.parallel.link import Apart, Elsewhere, Link, Lost
from research.parallel.meeting import meet
from research.parallel.watch import AGAIN, leave

__all__ = ["AGAIN", "Apart", "Elsewhere", "Lost"]

JOINING_SECONDS = 60
"""Seconds that JAX may take to connect processes that have met."""

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
      Lost: some processes are missing after a time (`meeting.py`).
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
    with contextlib.suppress(ValueError):  # not in the main thread, where no signals arrive
        signal.signal(signal.SIGTERM, _end_all)
    meet(found, functools.partial(say, stream=sys.stderr))
    try:
        jax.distributed.initialize(
            found.coordinator,
            found.processes,
            found.process,
            found.devices,
            cluster_detection_method="deactivate",
            initialization_timeout=JOINING_SECONDS,
            shutdown_timeout_seconds=10,
        )
    except Exception as error:
        where = f"process {found.process} of {found.processes} with process 0 at {found.coordinator}"
        if "DEADLINE_EXCEEDED" in str(error) or "UNAVAILABLE" in str(error):
            raise Lost(f"{where}: others have been lost at the start ({one_line(error)})") from None
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
    _link.ended = status
    _link.over.set()
    _link.wait_until_left()
    import jax

    with contextlib.suppress(Exception):
        jax.distributed.shutdown()
    with contextlib.suppress(ValueError):
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _link = None


def _end_all(number: int, frame: object) -> None:
    """Ends all processes because this one was asked to end while there is nothing to save."""
    if _link is None:
        leave(AGAIN, "asked to end; start the same command in all processes again")
    line = f"{_link.name(_link.process)} was asked to end; start the same command in all processes again"
    _link.tell_end(AGAIN, line, at_once=True)
    _link.leave(AGAIN, line)


@contextlib.contextmanager
def given_up(release: Callable[[], None]) -> Iterator[None]:
    """Calls `release` if process 0 has to end before the block does; if it is lost, the others call theirs.

    Args:
      release: releases what would hinder the same command when it is started again, such as a lease.
    """
    if _link is None:
        yield
        return
    _link.releases.append(release)
    try:
        yield
    finally:
        _link.releases.remove(release)


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
            if _link is None:
                leave(AGAIN, "process 0 is lost; start the same command in all processes again")
            if _link.ended is not None:
                leave(_link.ended, "")
            _link.leave(*_link.watch.loss(0), lost=0)

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
