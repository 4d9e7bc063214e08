"""Names of TFDS data sets, and the folders of prepared ones."""

from __future__ import annotations

import os
import re

from etils import epath

from research.errors import RequestError, nearest


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
