"""Image folders with one subfolder per class."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, Literal, Self

import numpy as np
from etils import epath

from research.config.checks import check_counts
from research.data.images import ImageShape, Resize, load_image, stack_images
from research.data.source import Source
from research.data.spec import Data, Splits, check_amount
from research.errors import RequestError, nearest, require

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
_SPLIT_FOLDERS = {"train": ("train", "training"), "validation": ("validation", "val", "valid"), "test": ("test",)}


@dataclasses.dataclass(frozen=True)
class ImageFolder(Data):
    """Images in folders named after their classes: image uint8 [height, width, channels], label int32 [].

    >>> pets = ImageFolder("pets", size=(64, 64))      # pets/cat/1.png, pets/dog/2.jpg, ...
    >>> pets.example()["image"].shape
    (64, 64, 3)

    The class folders are in `path`, or in `path`/train with optional sibling folders validation and test.  Classes are
    sorted by name.  Hidden files and files without an image suffix are ignored.  Images are resized after applying
    their EXIF orientation; palettes and CMYK count as 3 channels.  Damaged files and pixels with more than 8 bits per
    channel are errors that name the file.

    Attributes:
      path: the folder.
      size: (height, width) to resize images to, in pixels.
      channels: 1 (grey), 3 (RGB) or 4 (RGBA).
      resize: how images are resized (see `ImageShape`).
      convert: convert images with another number of channels, instead of raising an error.
      test: the fraction or number of images to hold out, if there is no test folder.
      class_names: the names of the classes; `fit` fills them in.
    """

    path: str
    size: tuple[int, int] = (32, 32)
    channels: Literal[1, 3, 4] = 3
    resize: Resize = "crop"
    convert: bool = False
    test: float | int = 0.2
    class_names: tuple[str, ...] | None = None

    @property
    def shape(self) -> ImageShape:
        """The shape that every image is converted to."""
        return ImageShape(self.size, self.channels, self.resize, self.convert)

    def read(self) -> Splits:
        folders = self._split_folders()
        names = self._names()
        images = {split: self._images(folder, names) for split, folder in folders.items()}
        if "test" not in images:
            images["train"], images["test"] = self.hold_out(images["train"], "test")
        return Splits(**images)

    def fit(self, train: Source) -> Self:
        """Fills in `class_names`."""
        return dataclasses.replace(self, class_names=self._names())

    def example(self) -> dict[str, np.ndarray]:
        return {"image": np.zeros((*self.size, self.channels), np.uint8), "label": np.zeros((), np.int32)}

    def encode(self, raw: Any) -> dict[str, np.ndarray]:
        """Encodes images for prediction, resized to `size`.

        `raw` is a list of paths, Pillow images or uint8 arrays [height, width, channels], or one array [image, height,
        width, channels]; or a dict of columns whose `image` is any of these.
        """
        if not isinstance(raw, Mapping):
            return {"image": stack_images(raw, self.shape)}
        images = {name: stack_images(x, self.shape) for name, x in raw.items() if name == "image"}
        return super().encode(dict(raw) | images)

    def check(self) -> None:
        super().check()
        check_counts(self, "size")
        check_amount("test", self.test)

    def _split_folders(self) -> dict[str, epath.Path]:
        root = epath.Path(self.path)
        require(root.exists(), f"path={self.path!r} does not exist; expected a folder of class folders")
        require(root.is_dir(), f"path={self.path!r}: expected a folder of class folders, this is a file")
        inside = {folder.name: folder for folder in _folders(root)}
        found = {s: inside[n] for s, names in _SPLIT_FOLDERS.items() for n in names if n in inside}
        if "train" not in found:
            return {"train": root}
        others = sorted(set(inside) - {folder.name for folder in found.values()})
        require(not others, f"path={self.path!r}: {', '.join(others)} beside train; expected validation or test")
        return found

    def _names(self) -> tuple[str, ...]:
        if self.class_names is not None:
            return self.class_names
        folder = self._split_folders()["train"]
        names = tuple(f.name for f in _folders(folder))
        require(bool(names), f"{folder} holds no class folders; expected {folder}/CLASS/IMAGE.png")
        return names

    def _images(self, folder: epath.Path, names: tuple[str, ...]) -> Images:
        files, labels = [], []
        for class_folder in _folders(folder):
            name = class_folder.name
            if name not in names:
                raise RequestError(f"{class_folder} is not a class of the training split; {nearest(name, names)}")
            found = sorted(_image_files(class_folder))
            require(bool(found), f"{class_folder} holds no image ({', '.join(SUFFIXES)})")
            files += found
            labels += [names.index(name)] * len(found)
        require(bool(files), f"{folder} holds no class folders; expected {folder}/CLASS/IMAGE.png")
        return Images(tuple(files), np.array(labels, np.int32), self.shape)


class Images:
    """A source that decodes image files on access."""

    def __init__(self, files: tuple[epath.Path, ...], labels: np.ndarray, shape: ImageShape):
        self.files, self.labels, self.shape = files, labels, shape

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, i: int) -> dict[str, np.ndarray]:
        return {"image": load_image(self.files[i], self.shape), "label": self.labels[i]}

    def column(self, name: str) -> np.ndarray | None:
        return self.labels if name == "label" else None

    def where(self, i: int) -> str:
        return str(self.files[i])


def _folders(path: epath.Path) -> list[epath.Path]:
    return sorted(p for p in path.iterdir() if p.is_dir() and not p.name.startswith("."))


def _image_files(folder: epath.Path) -> Iterator[epath.Path]:
    """All image files below a folder, at any depth (etils has no `**`), except hidden ones."""
    for path in folder.iterdir():
        if not path.name.startswith("."):
            if path.is_dir():
                yield from _image_files(path)
            elif path.suffix.lower() in SUFFIXES and path.is_file():
                yield path
