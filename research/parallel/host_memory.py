"""Keeping the memory that a step on a CPU frees for the next one, rather than fetching it anew from the system."""

from __future__ import annotations

import ctypes
import importlib.util
import sys

# glibc's mallopt(3), by the numbers in <malloc.h>.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX, _ARENA_MAX = -1, -2, -4, -8


def keep_freed_memory_on_cpu() -> None:
    """`keep_freed_memory`, unless JAX could find an accelerator here: its programs have their own memory."""
    if not any(importlib.util.find_spec(name) for name in _ACCELERATORS):
        keep_freed_memory()


_ACCELERATORS = ("jax_plugins", "libtpu")


def keep_freed_memory() -> None:
    """Makes this process hold on to what it frees; to be called before JAX starts its threads, to full effect.

    XLA's programs on a CPU allocate their temporary memory in one piece at every call.  glibc gives pieces above 32 MiB
    back at once, so that the next call finds every page of it missing: 43,000 page faults a step and a fifth of the
    CPU time, for a small ResNet.  Afterwards the process is as large as it ever was until it ends.  Nothing happens
    where the C library is not glibc.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return
    mallopt(_MMAP_MAX, 0)  # one heap for pieces of every size,
    mallopt(_ARENA_MAX, 1)  # and for every thread,
    mallopt(_TRIM_THRESHOLD, -1)  # which never shrinks
    mallopt(_TOP_PAD, 64 << 20)  # and grows in large steps
