"""COCO: one JSON file for all boxes of a split (Lin et al., 2014)."""

from __future__ import annotations

import dataclasses
import functools
import json
from typing import Any, Self

from research.data.source import Source
from research.data.sources.archives import Files
from research.data.sources.box_images import Annotated, BoxImages, Object, most_of, named
from research.data.spec import Splits
from research.errors import RequestError, require


@dataclasses.dataclass(frozen=True)
class COCO(BoxImages):
    """Pictures in a folder, objects in a JSON file, for each split.

    >>> coco = COCO("coco", train="annotations/instances_train2017.json", train_images="train2017",
    ...     val="annotations/instances_val2017.json", val_images="val2017", bad_boxes="drop")
    >>> coco.size
    (416, 416)

    Classes are numbered from 0 by their ids.  Crowds are not learned; evaluations neither ask for them nor punish
    finding them.  Sizes are judged by the areas in the file.

    Attributes:
      path: the folder or .zip that holds all of it.
      train, train_images: the JSON file and the folder of pictures, below `path`.
      val, val_images, test_split, test_images: the same for the validation and the test split; None holds some out.
      size, channels, most_boxes, bad_boxes, fill, test, class_names: as of `BoxImages`.
    """

    path: str
    train: str = "annotations.json"
    train_images: str = "images"
    val: str | None = None
    val_images: str | None = None
    test_split: str | None = None
    test_images: str | None = None

    def read(self) -> Splits:
        files = Files(self.path)
        stated = {
            "train": (self.train, self.train_images),
            "validation": (self.val, self.val_images or self.train_images),
            "test": (self.test_split, self.test_images or self.train_images),
        }
        found, names = {}, self.class_names
        for split, (file, folder) in stated.items():
            if file is not None:
                found[split], of_file = _read(files, file, folder)
                names = names or of_file
        most = most_of(found, self.most_boxes)
        splits = {split: self.source(own, names, most) for split, own in found.items()}
        if "test" not in splits:
            splits["train"], splits["test"] = self.hold_out(splits["train"], "test")
        return Splits(**splits)

    def fit(self, train: Source) -> Self:
        """Fills in `class_names`."""
        return named(self, train)


def _read(files: Files, file: str, folder: str) -> tuple[list[Annotated], tuple[str, ...]]:
    """The pictures of a split, and the names of the classes."""
    where = files.where(file)
    try:
        content = json.loads(files.read(file))
    except (ValueError, RecursionError) as error:
        raise RequestError(f"{where}: malformed JSON: {error}") from None
    good = isinstance(content, dict) and all(isinstance(content.get(key), list) for key in KEYS)
    require(good, f"{where}: expected an object with the lists {', '.join(KEYS)}")
    names: dict[Any, str] = {}
    for i, one in enumerate(content["categories"]):
        _has(one, ("id", "name"), f"{where}: category {i + 1}")
        require(one["id"] not in names, f"{where}: category id {one['id']} is given twice")
        names[one["id"]] = str(one["name"])
    require(len(set(names.values())) == len(names), f"{where}: two categories have one name")
    images: dict[Any, dict] = {}
    for i, one in enumerate(content["images"]):
        _has(one, ("id", "file_name"), f"{where}: image {i + 1}")
        require(one["id"] not in images, f"{where}: image id {one['id']} is given twice, for {one['file_name']}")
        images[one["id"]] = one
    objects: dict[Any, list[Object]] = {number: [] for number in images}
    for i, one in enumerate(content["annotations"]):
        said = f"{where}: annotation {one.get('id', i + 1) if isinstance(one, dict) else i + 1}"
        _has(one, ("image_id", "category_id", "bbox"), said)
        require(one["image_id"] in images, f"{said}: there is no image with id {one['image_id']}")
        require(one["category_id"] in names, f"{said}: there is no category with id {one['category_id']}")
        objects[one["image_id"]].append(_object(one, names[one["category_id"]], said))
    pictures = []
    for number, one in images.items():
        name = f"{folder}/{one['file_name']}" if folder else str(one["file_name"])
        require(name in files.names_set, f"{where}: image {one['file_name']}: {files.where(name)} does not exist")
        size = (one["height"], one["width"]) if one.get("height") and one.get("width") else None
        opened = functools.partial(files.open, name)
        pictures.append(
            Annotated(opened, files.where(name), f"{where}, {one['file_name']}", size, tuple(objects[number]))
        )
    return pictures, tuple(names[number] for number in sorted(names))


KEYS = ("images", "annotations", "categories")


def _object(one: dict[str, Any], name: str, said: str) -> Object:
    box, area = one["bbox"], one.get("area")
    numbers = isinstance(box, list) and len(box) == 4 and all(_is_number(x) for x in box)
    require(numbers, f"{said}: bbox={box!r:.80}; expected [left, top, width, height]")
    require(area is None or _is_number(area), f"{said}: area={area!r:.80}; expected a number")
    left, top, width, height = box
    return Object(name, (left, top, left + width, top + height), kind=int(bool(one.get("iscrowd"))), area=area)


def _is_number(x: Any) -> bool:
    return isinstance(x, int | float) and not isinstance(x, bool)


def _has(one: Any, keys: tuple[str, ...], said: str) -> None:
    there = isinstance(one, dict) and all(isinstance(one.get(key), int | str | list) for key in keys)
    require(there, f"{said}: expected an object with {', '.join(keys)}")
