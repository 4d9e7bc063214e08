"""Exhibits show a few examples beside the metrics, such as images or text pairs, as values of NumPy arrays.

A task makes them by name from the outputs of an evaluation, on the host:

    def exhibits(self, outputs):
        return {"samples": ImageGrid(outputs["samples"][:64].reshape(8, 8, 32, 32, 3))}

They are written beside the metrics (research/evaluation/exhibit_files.py); the report draws each kind in its own way.
Images are bytes, or floats from 0 to 1, with 1 or 3 channels.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar, Self

import numpy as np

from research.errors import require

PADDING = -1
"""The label of padding boxes."""


@dataclasses.dataclass(frozen=True, eq=False)
class Exhibit:
    """Base class of exhibits: a dataclass of named arrays; fields of names or texts also take lists of str.

    A subclass lists in `examples` the fields with a leading example axis, so that an exhibit can be cut.
    """

    examples: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value is not None:
                object.__setattr__(self, field.name, _array(f"{type(self).__name__}.{field.name}", value))
        self.check()

    def arrays(self) -> dict[str, np.ndarray]:
        """The fields that are not None, by name."""
        given = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {name: x for name, x in given.items() if x is not None}

    def check(self) -> None:
        """Raises RequestError for arrays of the wrong shape or type."""

    def first(self, count: int) -> Self:
        """The exhibit cut to its first `count` examples."""
        cut = {name: getattr(self, name) for name in self.examples}
        return dataclasses.replace(self, **{name: x[:count] for name, x in cut.items() if x is not None})

    def _require(self, name: str, shape: Sequence[int | str], kinds: str = "iufb") -> dict[str, int]:
        """Checks a field and returns the sizes of its named axes; a field that is None passes.

        Args:
          name: the name of the field.
          shape: the size or the name of each axis; axes of the same name must have the same size.
          kinds: the allowed dtypes, as NumPy's letters for their kinds.

        Raises:
          RequestError: the field has another shape or type.
        """
        x, sizes = getattr(self, name), {}
        if x is None:
            return sizes
        good = x.ndim == len(shape) and x.dtype.kind in kinds
        for size, axis in zip(x.shape, shape, strict=False):
            good = good and size == (sizes.setdefault(axis, size) if isinstance(axis, str) else axis)
        wanted = {"U": "texts", "iu": "integers", "fu": "bytes or floats"}.get(kinds, "numbers")
        asked = f"{wanted} [{', '.join(map(str, shape))}]"
        require(good, f"{type(self).__name__}.{name}: {x.dtype} {list(x.shape)}; expected {asked}")
        return sizes

    def _require_images(self, name: str, axes: Sequence[str]) -> dict[str, int]:
        """Checks a field of images [*axes, height, width, 1 or 3], turns it into bytes, and returns its axes' sizes."""
        sizes = self._require(name, (*axes, "height", "width", "channels"), "fu")
        channels = sizes["channels"]
        require(channels in (1, 3), f"{type(self).__name__}.{name}: {channels} channels; expected 1 (grey) or 3 (RGB)")
        object.__setattr__(self, name, as_bytes(getattr(self, name)))
        return sizes


@dataclasses.dataclass(frozen=True, eq=False)
class Images(Exhibit):
    """Images in reading order.

    >>> Images(np.zeros((4, 8, 8, 1)), captions=["a", "b", "c", "d"]).images.dtype
    dtype('uint8')

    Attributes:
      images: [example, height, width, 1 or 3].
      captions: [example] texts.
    """

    images: np.ndarray
    captions: np.ndarray | Sequence[str] | None = None

    examples: ClassVar = ("images", "captions")

    def check(self) -> None:
        sizes = self._require_images("images", ["example"])
        self._require("captions", [sizes["example"]], "U")


@dataclasses.dataclass(frozen=True, eq=False)
class ImagePairs(Exhibit):
    """Images side by side, such as an input and its reconstruction; the sides may differ in size.

    Attributes:
      left, right: [example, height, width, 1 or 3].
      names: the two titles, left and right.
      captions: [example] texts.
    """

    left: np.ndarray
    right: np.ndarray
    names: np.ndarray | Sequence[str] = ("input", "output")
    captions: np.ndarray | Sequence[str] | None = None

    examples: ClassVar = ("left", "right", "captions")

    def check(self) -> None:
        count = self._require_images("left", ["example"])["example"]
        other = self._require_images("right", ["example"])["example"]
        require(count == other, f"ImagePairs: {count} images left, {other} right; expected as many of each")
        self._require("names", [2], "U")
        self._require("captions", [count], "U")


@dataclasses.dataclass(frozen=True, eq=False)
class ImageGrid(Exhibit):
    """Images in rows and columns with a meaning, such as one class per row and one sample per column.

    Attributes:
      images: [row, column, height, width, 1 or 3].
      row_names, column_names: [row] and [column] texts.
    """

    images: np.ndarray
    row_names: np.ndarray | Sequence[str] | None = None
    column_names: np.ndarray | Sequence[str] | None = None

    examples: ClassVar = ("images", "row_names")

    def check(self) -> None:
        sizes = self._require_images("images", ["row", "column"])
        self._require("row_names", [sizes["row"]], "U")
        self._require("column_names", [sizes["column"]], "U")


@dataclasses.dataclass(frozen=True, eq=False)
class Boxes(Exhibit):
    """Detected boxes over images, beside the true ones.

    Images have different numbers of boxes; padding boxes have the label -1 (`PADDING`).

    Attributes:
      images: [example, height, width, 1 or 3].
      boxes: [example, box, 4]: left, top, right, bottom in pixels.
      labels: int [example, box].
      scores: [example, box], from 0 to 1.
      true_boxes, true_labels: [example, true box, 4] and int [example, true box].
      class_names: [class] texts.
    """

    images: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    scores: np.ndarray | None = None
    true_boxes: np.ndarray | None = None
    true_labels: np.ndarray | None = None
    class_names: np.ndarray | Sequence[str] | None = None

    examples: ClassVar = ("images", "boxes", "labels", "scores", "true_boxes", "true_labels")

    def check(self) -> None:
        count = self._require_images("images", ["example"])["example"]
        found = self._require("boxes", [count, "box", 4])["box"]
        self._require("labels", [count, found], "iu")
        self._require("scores", [count, found])
        both = (self.true_boxes is None) == (self.true_labels is None)
        require(both, "Boxes: expected true_boxes and true_labels, or neither")
        if self.true_boxes is not None:
            self._require("true_labels", [count, self._require("true_boxes", [count, "box", 4])["box"]], "iu")
        self._require("class_names", ["class"], "U")


@dataclasses.dataclass(frozen=True, eq=False)
class TextPairs(Exhibit):
    """Texts that a model wrote, beside their references.

    >>> len(TextPairs(reference=["ein Haus"], written=["ein Baum"], source=["a house"]).written)
    1

    Attributes:
      reference, written: [example] texts.
      source: [example] texts that the model read; None if it read no texts.
    """

    reference: np.ndarray | Sequence[str]
    written: np.ndarray | Sequence[str]
    source: np.ndarray | Sequence[str] | None = None

    examples: ClassVar = ("reference", "written", "source")

    def check(self) -> None:
        count = self._require("reference", ["example"], "U")["example"]
        self._require("written", [count], "U")
        self._require("source", [count], "U")


@dataclasses.dataclass(frozen=True, eq=False)
class ConfusionMatrix(Exhibit):
    """Counts how often each class was predicted for each label.

    >>> ConfusionMatrix.of(labels=np.array([0, 1, 1]), predicted=np.array([0, 1, 0]), classes=2).counts.tolist()
    [[1, 0], [1, 1]]

    Attributes:
      counts: int [class, predicted class]: a row is the label, a column the prediction.
      class_names: [class] texts.
    """

    counts: np.ndarray
    class_names: np.ndarray | Sequence[str] | None = None

    def check(self) -> None:
        classes = self._require("counts", ["class", "class"], "iu")["class"]
        self._require("class_names", [classes], "U")

    @classmethod
    def of(cls, labels: np.ndarray, predicted: np.ndarray, classes: int) -> Self:
        """Counts the pairs of `labels` and `predicted`, both int [example], from 0 to classes - 1."""
        pairs = labels.astype(np.int64) * classes + predicted
        return cls(np.bincount(pairs, minlength=classes * classes).reshape(classes, classes))


@dataclasses.dataclass(frozen=True, eq=False)
class Curves(Exhibit):
    """Lines over two named axes, such as precision over recall for each class.

    Attributes:
      x, y: [line, point]; a shorter line ends in NaN.
      names: [line] texts.
      x_name, y_name: names of the axes.
    """

    x: np.ndarray
    y: np.ndarray
    names: np.ndarray | Sequence[str]
    x_name: np.ndarray | str = "x"
    y_name: np.ndarray | str = "y"

    def check(self) -> None:
        sizes = self._require("x", ["line", "point"])
        self._require("y", [sizes["line"], sizes["point"]])
        self._require("names", [sizes["line"]], "U")
        self._require("x_name", [], "U")
        self._require("y_name", [], "U")


@dataclasses.dataclass(frozen=True, eq=False)
class Reliability(Exhibit):
    """A reliability diagram: compares a model's confidence with its accuracy, in bins of confidence.

    Attributes:
      confidence, accuracy: [bin], means over the examples of each bin; NaN for an empty bin.
      count: int [bin], number of examples.
    """

    confidence: np.ndarray
    accuracy: np.ndarray
    count: np.ndarray

    def check(self) -> None:
        bins = self._require("confidence", ["bin"])["bin"]
        self._require("accuracy", [bins])
        self._require("count", [bins], "iu")


KINDS: dict[str, type[Exhibit]] = {kind.__name__: kind for kind in Exhibit.__subclasses__()}
"""The kinds of exhibits by name; each file stores the name of its kind."""


def as_bytes(images: np.ndarray) -> np.ndarray:
    """Converts images to bytes: floats are clipped to 0 ... 1 and rounded to 255 steps; NaN becomes 0."""
    if images.dtype == np.uint8:
        return images
    return np.uint8(np.round(255 * np.clip(np.nan_to_num(images.astype(np.float32)), 0, 1)))


def _array(name: str, value: Any) -> np.ndarray:
    """Converts `value` to an array of numbers or str; `name` begins the RequestError for anything else."""
    x = np.asarray(value)
    if x.dtype.kind == "O" and all(isinstance(text, str) for text in x.flat):
        x = x.astype(str)
    if x.size == 0 and isinstance(value, list | tuple):
        x = x.astype(str)  # no texts
    require(x.dtype.kind in "iufbU", f"{name}: {x.dtype}; expected an array of numbers or of texts")
    return x
