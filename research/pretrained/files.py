"""Locates and reads published weights: a safetensors file, shards with an index, a folder, or a hub repository."""

from __future__ import annotations

import json
import pathlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from research.config.extras import from_extra
from research.errors import RequestError, require
from research.listing import is_hidden
from research.whole_files import written_aside

HUB_FILES = (
    "config.json",
    "generation_config.json",
    "preprocessor_config.json",
    "model.safetensors",
    "model.safetensors.index.json",
    "model-*.safetensors",
    "diffusion_pytorch_model.safetensors",
)


_HEADER_BYTES = 16 * 2**20
_MOST_TENSORS = 20_000  # the largest published models of these families have some thousands
_LONGEST_NAME = 500


class Checkpoint(Mapping[str, np.ndarray]):
    """{name: array} over the shards of a checkpoint; tensors are read on access.

    Raises:
      RequestError: a shard is missing or damaged, two shards hold the same tensor, or a header is too large to be one
        of weights.
    """

    def __init__(self, source: pathlib.Path, shards: tuple[pathlib.Path, ...]):
        from safetensors import SafetensorError, safe_open

        self.source = source
        self._files = {}
        for shard in shards:
            require(shard.is_file(), f"{source}: shard {shard.name} is missing")
            try:
                _check_header(shard)
                file = safe_open(shard, framework="numpy")
            except (SafetensorError, OSError) as error:
                raise RequestError(f"{shard} is damaged or not a safetensors file: {str(error)[:200]}") from None
            names = file.keys()
            twice = [name for name in names if name in self._files]
            require(not twice, f"{source}: two shards hold {', '.join(twice[:20])}")
            self._files |= dict.fromkeys(names, file)
            count, longest = len(self._files), max(map(len, names), default=0)
            require(count <= _MOST_TENSORS, f"{source}: {count:,} tensors; expected at most {_MOST_TENSORS:,}")
            require(longest <= _LONGEST_NAME, f"{shard}: a name of {longest:,} characters; expected {_LONGEST_NAME}")

    def __getitem__(self, name: str) -> np.ndarray:
        return self._files[name].get_tensor(name)

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor, without reading it."""
        return tuple(self._files[name].get_slice(name).get_shape())

    def dtype(self, name: str) -> str:
        """The format's name of a tensor's dtype ("F32", "I8"), without reading it."""
        return self._files[name].get_slice(name).get_dtype()

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)


def _check_header(shard: pathlib.Path) -> None:
    """Raises RequestError if a file's header is longer than that of any weights, before it is read."""
    with shard.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
    most = f"a header of {size:,} bytes; expected at most {_HEADER_BYTES:,}"
    require(size <= _HEADER_BYTES, f"{shard} is damaged or not a safetensors file: {most}")


def open_checkpoint(path: pathlib.Path) -> Checkpoint:
    """Opens `model.safetensors`, `model.safetensors.index.json`, or a folder that holds either.

    Raises:
      RequestError: there is no file, several match, the index is invalid, or a shard is missing, damaged or in another
        folder.
    """
    if path.is_dir():
        found = _weights(path, ".safetensors.index.json") or _weights(path, ".safetensors")
        require(bool(found), f"{path}: no .safetensors file in this folder")
        require(len(found) == 1, f"{path}: several checkpoints, name one of {', '.join(x.name for x in found)}")
        path = found[0]
    require(path.is_file(), f"{path}: no such file")
    if path.suffix == ".json":
        index = read_json(path)
        require("weight_map" in index, f"{path}: not an index of shards, the key 'weight_map' is missing")
        shards = index["weight_map"]
        named = isinstance(shards, dict) and bool(shards) and all(isinstance(name, str) for name in shards.values())
        require(named, f"{path}: weight_map={shards!r:.80}: expected an object, the name of a shard for each tensor")
        away = [name for name in dict.fromkeys(shards.values()) if not name or {"/", "\\"} & {*name} or name == ".."]
        require(not away, f"{path}: shards {', '.join(map(repr, away))}: expected names of files in the same folder")
        return Checkpoint(path, tuple(path.parent / name for name in sorted(set(shards.values()))))
    require(path.suffix == ".safetensors", f"{path}: weights are read from .safetensors files only (no pickle)")
    return Checkpoint(path, (path,))


def _weights(folder: pathlib.Path, suffix: str) -> list[pathlib.Path]:
    """Returns the files of a folder with this suffix, sorted, without hidden ones such as ._model.safetensors."""
    return sorted(path for path in folder.glob(f"*{suffix}") if not is_hidden(path.name))


_HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")


def is_hub_id(source: str) -> bool:
    """True if `source` has the form of a hub repository, "org/name"."""
    return bool(_HUB_ID.fullmatch(source))


def is_checkpoint(source: str) -> bool:
    """True if `source` names published weights (a file, a folder with a .safetensors file, the hub) and not one of our
    runs.

    "org/name" refers to the hub unless a local folder `org` exists.
    """
    path = pathlib.Path(source).expanduser()
    if path.is_dir():
        return bool(_weights(path, ".safetensors"))
    there = path.exists() or path.suffix == ".safetensors"
    return there or (is_hub_id(source) and not path.parent.exists())


def locate(source: str | pathlib.Path) -> pathlib.Path:
    """The local path of `source`: itself if it exists, otherwise the downloaded hub repository "org/name"."""
    path = pathlib.Path(source).expanduser()
    if path.exists():
        return path
    on_hub = is_hub_id(str(source)) and path.suffix not in (".safetensors", ".json")
    require(on_hub, f"{source}: no such file or folder, and no hub repository either (org/name)")
    return _download(str(source))


def _download(repository: str) -> pathlib.Path:
    purpose = f"{repository}: no such local path, and reading from the hub"
    huggingface_hub = from_extra("huggingface_hub", "hub", purpose)
    try:
        return pathlib.Path(huggingface_hub.snapshot_download(repository, allow_patterns=list(HUB_FILES)))
    except Exception as error:  # the client raises many types: offline, wrong name, no access
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise RequestError(
            f"{repository}: no such local path, and the hub could not be read ({reason}); "
            "check the name and the network, or give the path of a local model.safetensors"
        ) from None


def read_json(path: pathlib.Path) -> dict[str, Any]:
    """Reads a JSON file that holds an object.

    Raises:
      RequestError: the file is unreadable or holds something else.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise RequestError(f"{path}: not readable as JSON: {error}") from None
    require(isinstance(value, dict), f"{path}: expected a JSON object")
    return value


def beside(path: pathlib.Path, name: str) -> dict[str, Any] | None:
    """Reads the JSON file `name` in the folder of a checkpoint; None if there is none."""
    file = (path if path.is_dir() else path.parent) / name
    return read_json(file) if file.is_file() else None


def write(path: pathlib.Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Writes a safetensors file with the format tag "pt", which readers of these names expect."""
    from safetensors.numpy import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    written_aside(path, lambda aside: save_file(dict(tensors), aside, metadata={"format": "pt"}))
