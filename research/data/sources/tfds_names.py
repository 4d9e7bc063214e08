"""Names of TFDS data sets, and the folders of prepared ones."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterator
from typing import Any

from etils import epath

from research.errors import RequestError, nearest

_KINDS = "tensorflow_datasets.core.features."


def data_dir(given: str | None = None) -> epath.Path:
    """The folder of prepared data sets: `given`, or $TFDS_DATA_DIR, or else ~/tensorflow_datasets."""
    return epath.Path(given or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()


def parse_name(name: str) -> tuple[str, str | None, str | None]:
    """Splits TFDS's `name[/config][:version]` into (name, config, version)."""
    match = re.fullmatch(r"([A-Za-z]\w*)(?:/([\w.-]+))?(?::(\d+\.\d+\.\d+))?", name)
    if match is None:
        raise RequestError(f"name={name!r}: expected NAME, NAME/CONFIG, NAME:1.2.3 or NAME/CONFIG:1.2.3")
    return match.groups()


def check_known(name: str) -> None:
    """Raises RequestError, with the nearest name, unless TFDS has a builder of that name."""
    import tensorflow_datasets as tfds

    known = tfds.list_builders(with_community_datasets=False)
    if name not in known:
        raise RequestError(f"TFDS has no data set {name!r}; {nearest(name, known)}")


def versions(folder: epath.Path) -> dict[str, epath.Path]:
    """Returns {version: folder} of the prepared versions in a folder, oldest first."""
    if not folder.is_dir():
        return {}
    found = [
        p for p in folder.iterdir() if re.fullmatch(r"\d+\.\d+\.\d+", p.name) and (p / "dataset_info.json").exists()
    ]
    return {p.name: p for p in sorted(found, key=lambda p: tuple(map(int, p.name.split("."))))}


def open_prepared(folder: epath.Path) -> Any:
    """Returns TFDS's builder of a prepared version, which reads it.

    Raises:
      RequestError: features.json cannot be read, or names a class that is not one of TFDS's own kinds of features.
        TFDS would import the module of such a class, and so run code that came with the data.
    """
    import tensorflow_datasets as tfds

    file = folder / "features.json"
    try:
        record = json.loads(file.read_text())
    except (OSError, ValueError, RecursionError):
        raise RequestError(f"{file}: expected the features of a data set that TFDS has prepared") from None
    for name in _classes(record):
        if not name.startswith(_KINDS):
            raise RequestError(f"{file}: a feature is of the class {name!r}; expected a class of {_KINDS[:-1]}")
    return tfds.builder_from_directory(folder)


def _classes(record: Any) -> Iterator[str]:
    """The names of classes in a features.json, at any depth, also in text that is JSON itself."""
    if isinstance(record, str):
        with contextlib.suppress(ValueError):
            inside = json.loads(record)
            yield from () if isinstance(inside, str) else _classes(inside)
    elif isinstance(record, dict):
        names = ("pythonClassName", "python_class_name", *(("type",) if "content" in record else ()))
        yield from (record[name] for name in names if isinstance(record.get(name), str))
        for value in record.values():
            yield from _classes(value)
    elif isinstance(record, list):
        for value in record:
            yield from _classes(value)
