"""Writes files that are there whole or not at all, whenever the process is killed."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable

from etils import epath


def is_local(path: epath.PathLike) -> bool:
    """True if a path is on a file system, where files can be appended to; False for an object store."""
    return "://" not in os.fspath(path)


def write_whole(path: epath.PathLike, content: str | bytes, *, synced: bool = False) -> None:
    """Writes or replaces a file: readers never see a part of it, and a killed process never leaves one.

    Args:
      path: the file; its folder exists.
      content: the bytes, or text that is written in UTF-8.
      synced: also waits until the content is on the disk, so that it outlasts a power failure.

    Raises:
      OSError: the file cannot be written; one that was there is unchanged.
    """
    path = epath.Path(path)
    data = content.encode() if isinstance(content, str) else content
    if not is_local(path):
        path.write_bytes(data)  # an object store writes an object atomically
        return

    def write(aside: epath.Path) -> None:
        with open(aside, "wb") as file:
            file.write(data)
            if synced:
                file.flush()
                os.fsync(file.fileno())

    written_aside(path, write)


def written_aside(path: epath.PathLike, write: Callable[[epath.Path], None]) -> None:
    """Calls `write` with another path in the folder of a local file, and then gives that file its name."""
    path = epath.Path(path)
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")  # processes in two containers may share a number
    try:
        write(aside)
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)
