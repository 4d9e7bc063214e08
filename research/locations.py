"""Folders that a person names: on this machine, or in an object store."""

from __future__ import annotations

import os

from etils import epath

from research.config.extras import from_extra
from research.errors import RequestError, one_line, require

STORES = {"gs": ("gcsfs", "gcs"), "s3": ("s3fs", "s3")}
"""{scheme of an object store: (the library that reads it, the extra that installs it)}."""


def location(path: epath.PathLike, asked: str = "") -> epath.Path:
    """Returns the path of a folder that a person named, whether or not it exists.

    >>> str(location("runs/digits"))
    'runs/digits'

    Args:
      path: a path on this machine, or gs://… or s3://….
      asked: where it was given, such as "--out "; errors begin with it.

    Raises:
      RequestError: there is no store of that kind, its library is not installed or cannot reach it, or no file system
        takes such a path.
    """
    text = os.fspath(path)
    scheme, is_store, _ = text.partition("://")
    named = f"{asked}{text:.200}"
    if is_store:
        require(scheme in STORES, f"{named}: no such kind of store; expected a folder, gs://… or s3://…")
        from_extra(*STORES[scheme], named)
    require("\0" not in text, f"{named}: a path cannot hold the character NUL")
    try:
        epath.Path(text).exists() if is_store else os.stat(text)
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:
        raise RequestError(f"{named}: {error.strerror or one_line(error)}") from None
    except Exception as error:  # libraries of stores raise many types
        raise RequestError(f"{named}: cannot be reached: {one_line(error)}") from None
    return epath.Path(text)
