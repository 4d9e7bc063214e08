"""Which implementation an operation is traced into: the platform it is traced for, and a record of what was chosen."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator, Mapping

import jax
import jax.extend

_platform: contextvars.ContextVar[str | None] = contextvars.ContextVar("platform", default=None)
_record: contextvars.ContextVar[dict[str, str] | None] = contextvars.ContextVar("record", default=None)


def target_platform(platform: str | None = None) -> str:
    """The platform to choose kernels for: "cpu", "cuda", "rocm" or "tpu".

    `platform` where it is given ("gpu" is "cuda"), else that of an enclosing `targeting`, else JAX's default backend,
    looked up now: at trace time.
    """
    platform = platform or _platform.get()
    if platform is None:
        platform = jax.default_backend()
        if platform == "gpu" and "rocm" in jax.extend.backend.get_backend().platform_version.lower():
            return "rocm"
    return "cuda" if platform == "gpu" else platform


@contextlib.contextmanager
def targeting(platform: str) -> Iterator[None]:
    """Traces what is inside for `platform`, whatever this machine has: to compile for hardware one does not hold."""
    token = _platform.set(platform)
    try:
        yield
    finally:
        _platform.reset(token)


def compiler_options(platform: str, record: Mapping[str, str]) -> dict[str, str]:
    """Options for XLA when it compiles a training program for `platform`.

    On a CPU, YNNPACK takes matrix products together with what stands next to them.  XLA's own products are as fast by
    themselves, but it computes an activation's gradient again, element by element, while it transposes it for the
    product behind.  Sums are named too, for naming products alone takes them from YNNPACK, and the gradient of a bias
    is such a sum.  A recurrence has products that are small and many: a program with one in its `record` keeps XLA's.
    experiments/speed/ynnpack.py measures this.
    """
    ynnpack = platform == "cpu" and "recurrence" not in record
    types = "LIBRARY_FUSION_TYPE_DOT,LIBRARY_FUSION_TYPE_REDUCE"
    return {"xla_cpu_experimental_ynn_fusion_type": types} if ynnpack else {}


@contextlib.contextmanager
def recording() -> Iterator[dict[str, str]]:
    """Collects the kernels chosen for the operations traced inside, and why.

        with recording() as kernels:
            jax.eval_shape(step, state, batch)
        kernels  # {"attention": "einsum (the table's for cpu)"}

    Functions that JAX has already traced and cached are not traced again, so they are not recorded.
    """
    record: dict[str, str] = {}
    token = _record.set(record)
    try:
        yield record
    finally:
        _record.reset(token)


def note(operation: str, choice: str) -> None:
    """Adds `choice` to the record of an enclosing `recording`; several for one operation are listed in order."""
    record = _record.get()
    if record is None:
        return
    choices = record[operation].split(", ") if operation in record else []
    record[operation] = ", ".join(dict.fromkeys([*choices, choice]))
