"""The source of Python's standard library as a corpus: on every machine that runs this, and nothing to download."""

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
from research.errors import require


@dataclasses.dataclass(frozen=True, kw_only=True)
class PythonSource(Corpus):
    """The modules of a folder, a document each, sorted by path; so a held-out split is whole modules.

    The standard library is under the PSF licence (https://docs.python.org/3/license.html), which allows all that is
    done here.  Left out are tests, what is installed beside it, files that are not UTF-8, and those of which most is
    a table (`skip`).

    Attributes:
      path: of the folder; None is the standard library of the interpreter that runs.
      skip: names of folders that are left out, wherever they are.
      version: of Python, where `path` is None; filled in by `fit`, so that another interpreter cannot be taken for it.
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
            folders[:] = [name for name in folders if name not in self.skip]
            files += [pathlib.Path(folder, name) for name in names if name.endswith(".py")]
        found = []
        for file in sorted(files):
            data = file.read_bytes()
            try:
                data.decode("utf-8")
            except UnicodeDecodeError:
                continue
            if data:
                found.append(Document(self._text(data, str(file)), file.relative_to(root).as_posix()))
        return found

    def fit(self, train: Source) -> Self:
        """Takes the tokenizer that was fitted to the training modules, and notes whose standard library they are."""
        fitted = super().fit(train)
        return fitted if self.path is not None else dataclasses.replace(fitted, version=platform.python_version())
