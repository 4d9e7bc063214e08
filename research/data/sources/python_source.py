"""The source code of Python's standard library as a corpus, available wherever this package runs."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import platform
import sysconfig
from collections.abc import Sequence
from typing import Self

from research.data.source import Source
from research.data.sources.text import Corpus, Document
from research.data.text.characters import without_mark
from research.errors import require
from research.listing import is_hidden


@dataclasses.dataclass(frozen=True, kw_only=True)
class PythonSource(Corpus):
    """Python modules of a folder as documents, sorted by path, so that held-out splits consist of whole modules.

    >>> data = PythonSource(length=256)

    The standard library is under the PSF licence (https://docs.python.org/3/license.html), which permits this use.
    Tests, packages installed beside it, files that are not UTF-8, and modules that consist mostly of tables are left
    out (`skip`).

    Attributes:
      path: the folder; None for the standard library of the running interpreter.
      skip: names of folders to leave out at any depth.
      version: the Python version if `path` is None; filled in by `fit`, so that another interpreter's library cannot be
        mistaken for it.
    """

    path: str | None = None
    skip: tuple[str, ...] = ("test", "tests", "idle_test", "site-packages", "encodings", "pydoc_data")
    version: str | None = None

    def documents(self) -> Sequence[Document]:
        running = platform.python_version()
        if self.path is None and self.version is not None:
            found = f"version={self.version!r}: this is Python {running}, whose standard library has other modules"
            require(self.version == running, found)
        root = pathlib.Path(self.path or sysconfig.get_path("stdlib"))
        require(root.is_dir(), f"path={str(root)!r}: no such folder")
        files = []
        for folder, folders, names in os.walk(root):
            folders[:] = [name for name in folders if name not in self.skip and not is_hidden(name)]
            files += [pathlib.Path(folder, name) for name in names if name.endswith(".py") and not is_hidden(name)]
        found = []
        for file in sorted(files):
            data = without_mark(file.read_bytes())
            try:
                data.decode("utf-8")
            except UnicodeDecodeError:
                continue
            if data:
                found.append(Document(self._text(data, str(file)), file.relative_to(root).as_posix()))
        return found

    def fit(self, train: Source) -> Self:
        """Copies the tokenizer fitted to the training modules, and records the Python version of the library."""
        fitted = super().fit(train)
        return fitted if self.path is not None else dataclasses.replace(fitted, version=platform.python_version())
