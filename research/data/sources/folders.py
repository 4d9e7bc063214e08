"""Image folders with one subfolder per class."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal, Self

import numpy as np
from etils import epath

from research.config.checks import check_counts
from research.data.images import ImageShape, Resize, load_image, stack_images
from research.data.source import Source
from research.data.sources.image_files import class_images, folders, split_folders
from research.data.spec import Data, Splits, check_amount
from research.data.text.characters import check_characters
from research.errors import RequestError, nearest, require


@dataclasses.dataclass(frozen=True)
class ImageFolder(Data):
    """Images in folders named after their classes: image uint8 [height, width, channels], label int32 [].

    >>> pets = ImageFolder("pets", size=(64, 64))      # pets/cat/1.png, pets/dog/2.jpg, ...
    >>> pets.example()["image"].shape
    (64, 64, 3)

    The class folders are in `path`, or in `path`/train with optional sibling folders validation and test (also Train,
    training_set, val and the like).  Classes are sorted by name.  Hidden files and files without an image suffix are
    ignored; images of a type that is not read are an error.  Images are resized after applying their EXIF orientation;
    palettes and CMYK count as 3 channels, transparency of any kind as one more.  Damaged files and pixels with more
    than 8 bits per channel are errors that name the file.

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
        names = self._names()
        images = {split: self._images(folder, names) for split, folder in split_folders(self.path).items()}
        if "test" not in images:
            images["train"], images["test"] = self.hold_out(images["train"], "test")
        return Splits(**images)

    def load(self) -> Splits:
        names = self._names()
        require(
            len(names) > 1 or self.class_names is not None,
            f"path={self.path!r} holds one class, {', '.join(names)}; expected a folder per class, at least two",
        )
        return super().load()

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

    def _names(self) -> tuple[str, ...]:
        if self.class_names is not None:
            return self.class_names
        folder = split_folders(self.path)["train"]
        names = tuple(f.name for f in folders(folder))
        require(bool(names), f"{folder} holds no class folders; expected {folder}/CLASS/IMAGE.png")
        for name in names:
            check_characters(name, f"{folder}: the class folder {name!r}")
        return names

    def _images(self, folder: epath.Path, names: tuple[str, ...]) -> Images:
        files, labels = [], []
        for class_folder in folders(folder):
            name = class_folder.name
            if name not in names:
                raise RequestError(f"{class_folder} is not a class of the training split; {nearest(name, names)}")
            found = class_images(class_folder)
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
