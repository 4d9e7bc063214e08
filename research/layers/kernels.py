"""Chooses kernels by target platform, records the choices, and lists what operations need from their program."""

from __future__ import annotations

import contextlib
import contextvars
import enum
from collections.abc import Iterator, Mapping

import jax
import jax.extend
from jax import lax
from jax.extend.core import Jaxpr, Primitive, jaxprs_in_params

_platform: contextvars.ContextVar[str | None] = contextvars.ContextVar("platform", default=None)
_record: contextvars.ContextVar[dict[str, str] | None] = contextvars.ContextVar("record", default=None)


def target_platform(platform: str | None = None) -> str:
    """The platform to choose kernels for: "cpu", "cuda", "rocm" or "tpu".

    Returns `platform` if it is given ("gpu" becomes "cuda"), else the platform of an enclosing `targeting`, else JAX's
    default backend at the time of the call, which is trace time.
    """
    platform = platform or _platform.get()
    if platform is None:
        platform = jax.default_backend()
        if platform == "gpu" and "rocm" in jax.extend.backend.get_backend().platform_version.lower():
            return "rocm"
    return "cuda" if platform == "gpu" else platform


@contextlib.contextmanager
def targeting(platform: str) -> Iterator[None]:
    """Traces the functions called inside for `platform`, to compile for hardware that this machine lacks."""
    token = _platform.set(platform)
    try:
        yield
    finally:
        _platform.reset(token)


class Need(enum.Enum):
    """Something that an operation needs from the program around it."""

    SEPARATE_STEPS = "steps of training called one by one, not in a loop on the device"
    XLA_PRODUCTS = "matrix products by XLA itself"


_NEEDS: dict[str, dict[str | Primitive, Need]] = {
    "cpu": {
        # XLA's convolutions are about 16 times slower inside a loop: experiments/speed/loop_on_cpu.py
        lax.conv_general_dilated_p: Need.SEPARATE_STEPS,
        # A recurrence has many small matrix products: experiments/speed/ynnpack.py
        "recurrence": Need.XLA_PRODUCTS,
    },
}
"""{platform: {operation: its need}}; an operation is a name that `note` records, or a JAX primitive."""


def needs(platform: str, record: Mapping[str, str], program: Jaxpr | None = None) -> set[Need]:
    """The needs of the operations in a program, by the table.

    Args:
      platform: the platform that the program is compiled for.
      record: the operations noted while the program was traced (`recording`).
      program: the traced program, to include JAX's primitives; None looks at `record` only.
    """
    found = {*record, *(() if program is None else _primitives(program))}
    return {need for operation, need in _NEEDS.get(platform, {}).items() if operation in found}


def can_need(platform: str, need: Need) -> bool:
    """True if any operation in the table has this need on a platform; if not, no program has to be traced."""
    return need in _NEEDS.get(platform, {}).values()


def _primitives(program: Jaxpr) -> set[Primitive]:
    """The JAX primitives in a traced program and in the functions that it calls."""
    inner = (jaxpr for equation in program.eqns for jaxpr in jaxprs_in_params(equation.params))
    return {equation.primitive for equation in program.eqns}.union(*map(_primitives, inner))


def compiler_options(platform: str, record: Mapping[str, str]) -> dict[str, str]:
    """Options for XLA when it compiles a training program for `platform`.

    On a CPU, YNNPACK fuses matrix products with neighbouring operations.  XLA's own products are as fast by themselves,
    but XLA computes an activation's gradient again, element by element, while transposing it for the next product.  The
    option lists reductions too, because listing only products would take reductions, such as the gradient of a bias,
    from YNNPACK.  experiments/speed/ynnpack.py measures this.
    """
    ynnpack = platform == "cpu" and Need.XLA_PRODUCTS not in needs(platform, record)
    types = "LIBRARY_FUSION_TYPE_DOT,LIBRARY_FUSION_TYPE_REDUCE"
    return {"xla_cpu_experimental_ynn_fusion_type": types} if ynnpack else {}


@contextlib.contextmanager
def recording() -> Iterator[dict[str, str]]:
    """Records the kernels chosen for the operations traced inside, and why.

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
    """Adds `choice` to the record of an enclosing `recording`; several choices for an operation are listed in order."""
    record = _record.get()
    if record is None:
        return
    choices = record[operation].split(", ") if operation in record else []
    record[operation] = ", ".join(dict.fromkeys([*choices, choice]))
