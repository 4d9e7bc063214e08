"""Pictures with boxes: the common part of Pascal VOC and COCO, and the checks of what annotations say."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, BinaryIO, Literal, NamedTuple, TypeVar

import numpy as np

from research.config.checks import check_counts
from research.data.images import ImageShape, decode, read_image
from research.data.letterbox import letterbox
from research.data.source import Source
from research.data.spec import Data, check_amount
from research.errors import RequestError, nearest, require

Kind = TypeVar("Kind", bound="BoxImages")


class Object(NamedTuple):
    """An annotated object: the class by name, its box xyxy in pixels of the picture as it is shown, and its kind.

    `area` is the object's, if it is not the box's; `kind` is 0, 1 for a crowd, 2 for a difficult object.
    """

    name: str
    box: tuple[float, float, float, float]
    kind: int = 0
    area: float | None = None


@dataclasses.dataclass(frozen=True)
class Annotated:
    """A picture and its objects.

    Attributes:
      open: opens the picture.
      where: the picture in an error.
      said: the annotation in an error.
      size: (height, width) as the annotation says; None if it does not.
    """

    open: Callable[[], BinaryIO]
    where: str
    said: str
    size: tuple[int, int] | None
    objects: tuple[Object, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class BoxImages(Data):
    """The base of data sets of pictures with boxes; a subclass reads the annotations.

    Every example has `image` uint8 [*size, channels], `boxes` float32 [box, 4] (left, top, right, bottom in pixels of
    the image), `labels` int32 [box] and `kinds` uint8 [box], filled up with label -1, `areas` float32 [box] in pixels
    of the picture, `scale` and `content` (`research.data.letterbox`).

    Boxes that reach beyond the picture are clipped.  A box outside of it, without area or with inverted corners is an
    error that names file and object, or is left out.  Pictures are turned as their EXIF data say before anything else,
    and grey or palette ones become `channels`; boxes are of the picture as it is shown.

    Attributes:
      size: (height, width) that pictures are fitted into, in pixels.
      channels: 1 (grey) or 3 (RGB).
      most_boxes: boxes per example; None means as many as the picture with most has, at least 1.
      bad_boxes: "refuse" boxes that cannot be learned, or "drop" them.
      fill: the value of padding pixels.
      test: the fraction or number of pictures to hold out, if the data have no test split.
      class_names: the names of the classes; `fit` fills them in.
    """

    size: tuple[int, int] = (416, 416)
    channels: Literal[1, 3] = 3
    most_boxes: int | None = None
    bad_boxes: Literal["refuse", "drop"] = "refuse"
    fill: int = 114
    test: float | int = 0.2
    class_names: tuple[str, ...] | None = None

    def check(self) -> None:
        super().check()
        check_counts(self, "size", "most_boxes")
        check_amount("test", self.test)
        require(0 <= self.fill <= 255, f"fill={self.fill}: expected 0 to 255")

    def source(self, pictures: Sequence[Annotated], names: tuple[str, ...], most: int) -> Pictures:
        return Pictures(tuple(pictures), names, most, self)

    def encode(self, raw: Any) -> dict[str, np.ndarray]:
        """Fits pictures of any sizes: a list of paths, Pillow images and uint8 arrays, or one array of them all."""
        given = raw.get("image") if isinstance(raw, Mapping) else raw
        listed = isinstance(given, Sequence | np.ndarray) and not isinstance(given, str | bytes)
        require(listed and len(given) > 0, "expected a list of images or paths, at least one")
        shape = ImageShape(None, self.channels, convert=True)
        fitted = [
            letterbox(read_image(image, shape, f"image {i}"), self.size, self.fill) for i, image in enumerate(given)
        ]
        return {name: np.stack([getattr(one, name) for one in fitted]) for name in ("image", "scale", "content")}


class Pictures:
    """A source that decodes pictures on access."""

    def __init__(self, pictures: tuple[Annotated, ...], names: tuple[str, ...], most: int, data: BoxImages):
        self.pictures, self.names, self.most, self.data = pictures, names, most, data
        require(len(pictures) > 0, "there are no pictures; expected at least one")
        self.objects = [tuple(self._good(picture)) for picture in pictures]
        dropped = sum(len(p.objects) for p in pictures) - sum(map(len, self.objects))
        self.note = f"{dropped:,} boxes left out, which cannot be learned" if dropped else ""

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, i: int) -> dict[str, np.ndarray]:
        picture, objects, data = self.pictures[i], self.objects[i], self.data
        with picture.open() as file:
            shown = decode(file, ImageShape(None, data.channels, convert=True), picture.where)
        height, width = shown.shape[:2]
        if picture.size not in (None, (height, width)):
            tall, wide = picture.size
            raise RequestError(
                f"{picture.said}: it says {wide}×{tall} pixels, but {picture.where} is shown at {width}×{height}; "
                "expected the size and the boxes of the picture as it is shown"
            )
        corners = np.zeros((self.most, 4), np.float32)
        for row, one in enumerate(objects):
            corners[row] = self._clipped(picture, row, one, height, width)
        count = len(objects)
        fitted = letterbox(shown, data.size, data.fill)
        labels = np.full(self.most, -1, np.int32)
        labels[:count] = [self.names.index(one.name) for one in objects]
        kinds, areas = np.zeros(self.most, np.uint8), (corners[:, 2:] - corners[:, :2]).prod(1)
        kinds[:count] = [one.kind for one in objects]
        areas[:count] = [own if one.area is None else one.area for own, one in zip(areas, objects, strict=False)]
        boxes = corners * fitted.scale
        return {"boxes": boxes, "labels": labels, "kinds": kinds, "areas": areas, **fitted._asdict()}

    def where(self, i: int) -> str:
        return self.pictures[i].where

    def _good(self, picture: Annotated) -> list[Object]:
        """The objects that can be learned, checked as far as the annotation tells."""
        require(
            len(picture.objects) <= self.most,
            f"{picture.said}: {len(picture.objects)} objects; expected at most most_boxes={self.most}",
        )
        good = []
        for i, one in enumerate(picture.objects):
            if one.name not in self.names:
                raise RequestError(f"{_of(picture, i, one)}: no such class; {nearest(one.name, self.names)}")
            problem = _problem(one.box, picture.size)
            if problem is None:
                good.append(one)
            elif self.data.bad_boxes == "refuse":
                raise RequestError(f"{_of(picture, i, one)}: {problem}; bad_boxes='drop' leaves such boxes out")
        return good

    def _clipped(self, picture: Annotated, i: int, one: Object, height: int, width: int) -> np.ndarray:
        problem = _problem(one.box, (height, width))  # again, if the annotation does not say the size
        require(problem is None, f"{_of(picture, i, one)}: {problem}")
        return np.clip(one.box, 0, [width, height, width, height])


def _of(picture: Annotated, i: int, one: Object) -> str:
    return f"{picture.said}: object {i + 1}, {one.name!r}"


def _problem(box: tuple[float, ...], size: tuple[int, int] | None) -> str | None:
    """The reason why a box cannot be learned; None if there is none."""
    left, top, right, bottom = box
    said = "box " + ", ".join(f"{x:g}" for x in box)
    if not all(math.isfinite(x) for x in box):
        return f"{said}: expected finite numbers"
    if right < left or bottom < top:
        return f"{said} has inverted corners; expected left, top, right, bottom"
    if right == left or bottom == top:
        return f"{said} has no area"
    if size is not None and (left >= size[1] or top >= size[0] or right <= 0 or bottom <= 0):
        return f"{said} is outside of the picture, {size[1]}×{size[0]} pixels"
    return None


def most_of(splits: Mapping[str, Sequence[Annotated]], most: int | None) -> int:
    """The number of boxes per example."""
    return most or max([1, *(len(picture.objects) for pictures in splits.values() for picture in pictures)])


def names_in(splits: Mapping[str, Sequence[Annotated]], stated: tuple[str, ...] | None) -> tuple[str, ...]:
    """The class names that are stated, or those in the training split, sorted."""
    return stated or tuple(sorted({one.name for picture in splits["train"] for one in picture.objects}))


def named(data: Kind, train: Source) -> Kind:
    """The data with the names of classes that its training split was read with."""
    while not hasattr(train, "names"):
        train = train.source
    return dataclasses.replace(data, class_names=train.names)
