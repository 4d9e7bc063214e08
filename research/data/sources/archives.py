"""Reads files by name from a folder or from a zip, in the same way."""

from __future__ import annotations

import functools
import zipfile
from typing import Any, BinaryIO

from etils import epath

from research.errors import RequestError, nearest, require
from research.listing import is_hidden, visible_files


class Files:
    """The files of a folder or zip, by their paths in it, such as "VOC2007/Annotations/000001.xml".

    Raises:
      RequestError: there is no such folder, or the file is no zip.
    """

    def __init__(self, path: str):
        self.path, self._root = path, epath.Path(path)
        require(self._root.exists(), f"path={path!r} does not exist; expected a folder or a .zip")
        if not self._root.is_dir():
            require(zipfile.is_zipfile(self._root), f"path={path!r}: expected a folder or a .zip")

    @functools.cached_property
    def names(self) -> tuple[str, ...]:
        """All files that are not hidden, sorted."""
        if self._root.is_dir():
            return tuple(sorted(file.relative_to(self._root).as_posix() for file in visible_files(self._root)))
        files = (entry.filename for entry in self._zip.infolist() if not entry.is_dir())
        return tuple(sorted(name for name in files if not any(map(is_hidden, name.split("/")))))

    def open(self, name: str) -> BinaryIO:
        """Opens a file.

        Raises:
          RequestError: there is none of that name.
        """
        if name not in self.names_set:
            raise RequestError(f"{self.where(name)} does not exist; {nearest(name, self.names)}")
        return self._zip.open(name) if not self._root.is_dir() else (self._root / name).open("rb")

    def read(self, name: str) -> bytes:
        with self.open(name) as file:
            return file.read()

    def where(self, name: str) -> str:
        """The name of a file in an error."""
        return f"{self.path}/{name}"

    @functools.cached_property
    def names_set(self) -> frozenset[str]:
        """The same, to look names up."""
        return frozenset(self.names)

    @functools.cached_property
    def _zip(self) -> zipfile.ZipFile:
        try:
            return zipfile.ZipFile(self._root.open("rb"))
        except zipfile.BadZipFile as error:
            raise RequestError(f"path={self.path!r} is damaged: {error}") from None

    def __getstate__(self) -> dict[str, Any]:
        """Without the open file, which each worker process opens for itself."""
        return {name: x for name, x in self.__dict__.items() if name != "_zip"}
