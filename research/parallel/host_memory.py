"""Keeps the memory that a step on a CPU frees for the next step, instead of returning it to the system."""

from __future__ import annotations

import ctypes
import importlib.util
import sys

# glibc's mallopt(3), by the numbers in <malloc.h>.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX, _ARENA_MAX = -1, -2, -4, -8


def keep_freed_memory_on_cpu() -> None:
    """Calls `keep_freed_memory`, unless JAX may find an accelerator: accelerator programs use the device's memory."""
    if not any(importlib.util.find_spec(name) for name in _ACCELERATORS):
        keep_freed_memory()


_ACCELERATORS = ("jax_plugins", "libtpu")


def keep_freed_memory() -> None:
    """Makes this process keep the memory that it frees; for full effect, call it before JAX starts its threads.

    XLA's programs on a CPU allocate their temporary memory in one piece at every call.  glibc returns pieces above
    32 MiB to the system at once, so the next call faults on every page: 43,000 page faults per step and a fifth of the
    CPU time, for a small ResNet.  The process then stays at its peak size until it ends.  Does nothing if the C library
    is not glibc.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return
    mallopt(_MMAP_MAX, 0)  # uses one heap for pieces of every size
    mallopt(_ARENA_MAX, 1)  # and for every thread
    mallopt(_TRIM_THRESHOLD, -1)  # never shrinks the heap
    mallopt(_TOP_PAD, 64 << 20)  # grows the heap in large steps
