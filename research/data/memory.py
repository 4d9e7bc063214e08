"""Memory that data may take: on a device, and on the host."""

from __future__ import annotations

import pathlib


def device_budget() -> int:
    """Bytes of data to keep on a device by default: a quarter of its free memory (of the host's, on a CPU)."""
    import jax

    stats = jax.local_devices()[0].memory_stats() or {}
    free = stats["bytes_limit"] - stats.get("bytes_in_use", 0) if "bytes_limit" in stats else available_memory()
    return free // 4


def host_budget() -> int:
    """Bytes of data to keep in host memory by default: half of what is available."""
    return available_memory() // 2


def available_memory() -> int:
    """Bytes of host memory this process may still use: what the machine has, or its container (cgroup v2) allows."""
    import psutil

    available = psutil.virtual_memory().available
    group = pathlib.Path("/sys/fs/cgroup")
    try:
        limit, used = (int((group / name).read_text()) for name in ("memory.max", "memory.current"))
    except (OSError, ValueError):  # no cgroup v2 here, or no limit ("max")
        return available
    return max(0, min(available, limit - used))
