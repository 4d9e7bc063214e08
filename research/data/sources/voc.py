"""Pascal VOC: an XML file per picture, in a folder or in the zip as it is downloaded."""

from __future__ import annotations

import collections
import dataclasses
import functools
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Self
from xml.etree import ElementTree

from research.data.source import Source
from research.data.sources.archives import Files
from research.data.sources.box_images import Annotated, BoxImages, Object, most_of, named, names_in
from research.data.sources.image_files import SUFFIXES
from research.data.sources.safe_xml import parse
from research.data.spec import Splits
from research.errors import RequestError, require

MOST = 2**31  # pixels; some tools write sizes of 0

SPLITS = {"train": "train", "validation": "val", "test": "test"}
"""{our split: its list in ImageSets/Main}."""


@dataclasses.dataclass(frozen=True)
class VOC(BoxImages):
    """Pictures in JPEGImages, objects in Annotations, and splits in ImageSets/Main (Everingham et al., 2010).

    >>> cells = VOC("BCCD_Dataset-1.0.zip", size=(416, 416))
    >>> cells.size
    (416, 416)

    The three folders may lie anywhere below `path`, once.  Without lists of train, val and test, or without one of
    test, pictures are held out.  Coordinates count from 1 and include the last pixel, as in the paper.  Difficult
    objects are learned; evaluations neither ask for them nor punish finding them.

    Attributes:
      path: the folder or .zip.
      size, channels, most_boxes, bad_boxes, fill, test, class_names: as of `BoxImages`.
    """

    path: str

    def read(self) -> Splits:
        files = Files(self.path)
        root = _root(files)
        lists = _lists(files, root)
        annotations = _by_stem(files, f"{root}Annotations/", (".xml",))
        pictures = _by_stem(files, f"{root}JPEGImages/", SUFFIXES)
        if not lists:
            lone = sorted(pictures.keys() - annotations.keys())
            if lone:
                raise RequestError(
                    f"{files.where(pictures[lone[0]])} has no annotation, nor have {len(lone) - 1} others; expected an "
                    ".xml file for each picture, without objects for an empty one"
                )
            lists = {"train": sorted(annotations)}
        read = functools.partial(_annotated, files, annotations, pictures)
        found = {split: [read(stem) for stem in stems] for split, stems in lists.items()}
        require(bool(found.get("train")), f"path={self.path!r}: there is no picture to train on")
        names, most = names_in(found, self.class_names), most_of(found, self.most_boxes)
        splits = {split: self.source(own, names, most) for split, own in found.items()}
        if "test" not in splits:
            splits["train"], splits["test"] = self.hold_out(splits["train"], "test")
        return Splits(**splits)

    def fit(self, train: Source) -> Self:
        """Fills in `class_names`."""
        return named(self, train)


def _root(files: Files) -> str:
    """The folder, ending in "/", that holds Annotations; "" for `path` itself."""
    roots = sorted({name.partition("Annotations/")[0] for name in files.names if "Annotations/" in f"/{name}"})
    roots = [root for root in roots if root == "" or root.endswith("/")]
    require(bool(roots), f"path={files.path!r} holds no folder Annotations; expected one beside JPEGImages")
    require(len(roots) == 1, f"path={files.path!r} holds several data sets, in {', '.join(roots)}; expected one")
    return roots[0]


def _lists(files: Files, root: str) -> dict[str, list[str]]:
    """{split: names of its pictures without suffix} of the lists that there are."""
    found = {}
    for split, name in SPLITS.items():
        file = f"{root}ImageSets/Main/{name}.txt"
        if file in files.names:
            lines = files.read(file).decode("utf-8", "replace").splitlines()
            stems = [line.split()[0] for line in lines if line.strip()]
            twice = [stem for stem, count in collections.Counter(stems).items() if count > 1]
            require(not twice, f"{files.where(file)}: {twice[0] if twice else ''} is listed twice")
            found[split] = stems
    return found if "train" in found else {}


def _by_stem(files: Files, folder: str, suffixes: Sequence[str]) -> dict[str, str]:
    """{name without folder and suffix: name} of the files in a folder."""
    inside = (PurePosixPath(name) for name in files.names if name.startswith(folder))
    return {path.stem: str(path) for path in inside if path.suffix.lower() in suffixes}


def _annotated(files: Files, annotations: dict[str, str], pictures: dict[str, str], stem: str) -> Annotated:
    require(stem in annotations, f"{files.path}: picture {stem} has no annotation; expected Annotations/{stem}.xml")
    said = files.where(annotations[stem])
    require(stem in pictures, f"{said}: there is no picture {stem} in JPEGImages")
    document = parse(files.read(annotations[stem]), said)
    size = document.find("size")
    tall, wide = (0, 0) if size is None else (_number(size, side, said) for side in ("height", "width"))
    objects = tuple(_object(one, f"{said}: object {i + 1}") for i, one in enumerate(document.iter("object")))
    opened = functools.partial(files.open, pictures[stem])
    stated = (round(tall), round(wide)) if 0 < tall < MOST and 0 < wide < MOST else None
    return Annotated(opened, files.where(pictures[stem]), said, stated, objects)


def _object(element: ElementTree.Element, said: str) -> Object:
    name = (element.findtext("name") or "").strip()
    require(bool(name), f"{said} has no name")
    corners = element.find("bndbox")
    require(corners is not None, f"{said}, {name!r}, has no bndbox")
    left, top, right, bottom = (
        _number(corners, side, f"{said}, {name!r}") for side in ("xmin", "ymin", "xmax", "ymax")
    )
    difficult = (element.findtext("difficult") or "0").strip() not in ("0", "")
    return Object(name, (left - 1, top - 1, right, bottom), kind=2 * difficult)


def _number(element: ElementTree.Element, name: str, said: str) -> float:
    text = element.findtext(name)
    try:
        return float(text)
    except (TypeError, ValueError):
        raise RequestError(f"{said}: {name}={text!r}; expected a number") from None
