"""Lists folders without the files that operating systems and file managers leave in them."""

from __future__ import annotations

from collections.abc import Iterator

from etils import epath

LEFT_BEHIND = (
    "$recycle.bin",
    "@eadir",
    "__macosx",
    "desktop.ini",
    "ehthumbs.db",
    "lost+found",
    "system volume information",
    "thumbs.db",
)
"""Names, in lower case, of entries that operating systems leave in folders and that do not begin with a dot."""


def is_hidden(name: str) -> bool:
    """Returns True for the name of a file or folder that no person put there, such as .DS_Store, ._a.png or Thumbs.db.

    >>> [is_hidden(name) for name in (".DS_Store", "._a.png", "Thumbs.db", "a.png")]
    [True, True, True, False]
    """
    return name.startswith(".") or name.lower() in LEFT_BEHIND


def visible(folder: epath.PathLike) -> list[epath.Path]:
    """Returns the entries of a folder that are not hidden, sorted by name."""
    return sorted(path for path in epath.Path(folder).iterdir() if not is_hidden(path.name))


def visible_files(folder: epath.PathLike) -> Iterator[epath.Path]:
    """Yields the files of a folder and its subfolders that are not hidden, each folder sorted by name."""
    for path in visible(folder):
        if path.is_dir():
            yield from visible_files(path)
        else:
            yield path
