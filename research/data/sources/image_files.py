"""Finds the splits, classes and files of image folders, however they are spelled."""

from __future__ import annotations

import collections
import re

from etils import epath

from research.errors import RequestError, require
from research.listing import visible, visible_files

SUFFIXES = (
    *(".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".dib", ".gif", ".webp", ".avif", ".tif", ".tiff"),
    *(".ppm", ".pgm", ".pbm", ".pnm"),
)
_NOT_READ = (
    *(".heic", ".heif", ".jxl", ".jp2", ".j2k", ".jpx", ".jpf", ".svg", ".tga", ".ico", ".psd", ".qoi", ".exr"),
    *(".hdr", ".raw", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf"),
)
"""Suffixes of images, and of photographs as cameras store them, that `ImageFolder` does not decode."""

_SPLITS = {
    "train": re.compile(r"train(ing)?([ _-]?(set|data|images|split))?", re.IGNORECASE),
    "validation": re.compile(r"(validation|valid|val|dev)([ _-]?(set|data|images|split))?", re.IGNORECASE),
    "test": re.compile(r"test(ing)?([ _-]?(set|data|images|split))?", re.IGNORECASE),
}


def split_folders(path: str) -> dict[str, epath.Path]:
    """Returns {split: its folder of class folders}; {"train": the folder itself} if it holds the classes.

    A folder such as Train, training_set or val is a split if it holds folders and no image, or if all others beside it
    are named like splits, too; otherwise it is a class.

    Raises:
      RequestError: there is no training split, there are two folders for one split or folders that are none, or the
        only folder in `path` holds the data set.
    """
    root = epath.Path(path)
    require(root.exists(), f"path={path!r} does not exist; expected a folder of class folders")
    require(root.is_dir(), f"path={path!r}: expected a folder of class folders, this is a file")
    inside = folders(root)
    splits = {folder.name: split for folder in inside if (split := _split_of(folder.name))}
    if not splits or (len(splits) < len(inside) and not any(_holds_folders(f) for f in inside if f.name in splits)):
        _check_classes(path, inside)
        return {"train": root}
    others = [folder.name for folder in inside if folder.name not in splits]
    named = " and ".join(splits)
    beside = next((name for name, split in splits.items() if split == "train"), named)
    require(not others, f"path={path!r}: {', '.join(others)} beside {beside}; expected validation or test")
    require("train" in splits.values(), f"path={path!r}: {named} without train; expected a folder train beside it")
    require(len({*splits.values()}) == len(splits), f"path={path!r}: {named} are folders of one split; expected one")
    return {split: root / name for name, split in splits.items()}


def folders(path: epath.Path) -> list[epath.Path]:
    """Returns the folders in a folder that are not hidden, sorted by name."""
    return [p for p in visible(path) if p.is_dir()]


def class_images(folder: epath.Path) -> list[epath.Path]:
    """Returns all images below the folder of a class.

    Raises:
      RequestError: there is none, or there are images of a type that is not read.
    """
    files = sorted(path for path in visible_files(folder) if path.is_file())
    found = [file for file in files if _suffix(file) in SUFFIXES]
    left_out = collections.Counter(_suffix(file) for file in files if _suffix(file) in _NOT_READ)
    if left_out:
        listed = ", ".join(f"{n:,} {suffix}" for suffix, n in sorted(left_out.items()))
        raise RequestError(
            f"{folder} holds images that cannot be read ({listed}) beside {len(found):,} that can; "
            f"convert them to .png or .jpg, or move them away"
        )
    require(bool(found), f"{folder} holds no image ({', '.join(SUFFIXES)})")
    return found


def _split_of(name: str) -> str | None:
    return next((split for split, spelled in _SPLITS.items() if spelled.fullmatch(name)), None)


def _check_classes(path: str, inside: list[epath.Path]) -> None:
    """Refuses a folder that holds only the folder of a data set, as archives do, and classes that hold splits."""
    nested = [folder for folder in inside if _holds_folders(folder)]
    if nested and len(inside) == 1:
        raise RequestError(f"path={path!r} holds only the folder {inside[0].name}; did you mean {str(inside[0])!r}?")
    for folder in nested:
        splits = [inner.name for inner in folders(folder) if _split_of(inner.name)]
        if len(splits) > 1:
            raise RequestError(f"{folder} holds {' and '.join(splits)}; expected {splits[0]}/{folder.name} in {path!r}")


def _holds_folders(folder: epath.Path) -> bool:
    images = any(_suffix(path) in SUFFIXES and path.is_file() for path in visible(folder))
    return not images and bool(folders(folder))


def _suffix(path: epath.Path) -> str:
    return path.suffix.lower()
