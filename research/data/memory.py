"""Memory that data may take: on a device, and on the host."""

from __future__ import annotations

import pathlib


def device_budget() -> int:
    """Default bytes of data to keep on a device: a quarter of its free memory (of the host's, on a CPU)."""
    import jax

    stats = jax.local_devices()[0].memory_stats() or {}
    free = stats["bytes_limit"] - stats.get("bytes_in_use", 0) if "bytes_limit" in stats else available_memory()
    return free // 4


def host_budget() -> int:
    """Default bytes of data to keep in host memory: half of the available memory."""
    return available_memory() // 2


def available_memory() -> int:
    """Bytes of host memory that this process may still use, limited by the machine or its container (cgroup v2)."""
    import psutil

    available = psutil.virtual_memory().available
    group = pathlib.Path("/sys/fs/cgroup")
    try:
        limit, used = (int((group / name).read_text()) for name in ("memory.max", "memory.current"))
    except (OSError, ValueError):  # there is no cgroup v2, or it has no limit ("max")
        return available
    return max(0, min(available, limit - used))
