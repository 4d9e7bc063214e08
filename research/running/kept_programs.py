"""Keeps compiled programs on disk, so that a later run that needs the same ones does not compile them again.

JAX does the keeping (its persistent compilation cache); this file chooses the folder.  Variables of JAX's come first:
`JAX_COMPILATION_CACHE_DIR` is another folder, and `JAX_ENABLE_COMPILATION_CACHE=false` keeps nothing.
"""

from __future__ import annotations

import hashlib
import os
import pathlib
import platform
import re

import jax

LARGEST = 4 * 2**30
"""Bytes of all kept programs; those that were not used for longest go first."""

WORTH_KEEPING = 0.1
"""Seconds of compiling from which a program is kept."""


def keep_programs() -> str | None:
    """Turns keeping on, if nobody chose otherwise; returns a sentence about it when it makes the folder, else None."""
    if not jax.config.jax_enable_compilation_cache or jax.config.jax_compilation_cache_dir:
        return None
    try:
        folder = programs_folder()
        new = not folder.exists()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except (OSError, RuntimeError):  # no home, or one that cannot be written to
        return None
    jax.config.update("jax_compilation_cache_max_size", LARGEST)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", WORTH_KEEPING)
    jax.config.update("jax_compilation_cache_dir", str(folder))
    return f"compiled programs are kept in {folder.parent}, at most {LARGEST // 2**30} GiB" if new else None


def programs_folder() -> pathlib.Path:
    """The folder of this kind of machine: a program for a CPU may not run on another one that shares the folder."""
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    machine = hashlib.sha256(" ".join([platform.machine(), *_cpu_features()]).encode()).hexdigest()[:12]
    return cache / "espalier" / "programs" / machine


def _cpu_features() -> list[str]:
    """The instruction sets of this machine's CPU, where the system lists them."""
    try:
        listed = re.search(r"^(flags|Features)\s*:(.*)$", pathlib.Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        return []
    return sorted(listed[2].split()) if listed else []
