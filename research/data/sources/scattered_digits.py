"""Handwritten digits scattered over canvases: detection without any file."""

from __future__ import annotations

import dataclasses
from typing import Self

import numpy as np

from research.config.checks import check_counts
from research.data.source import Columns, Source
from research.data.spec import Data, Splits
from research.errors import require


@dataclasses.dataclass(frozen=True)
class ScatteredDigits(Data):
    """Canvases with digits of scikit-learn at random places and in random sizes, made from a seed.

    >>> splits = ScatteredDigits(examples=20, test=5, validation=4).load()
    >>> {name: x.shape for name, x in splits.train[0].items()}
    {'image': (64, 64, 1), 'boxes': (5, 4), 'labels': (5,)}

    image uint8 [*size, 1], boxes float32 [most, 4] around the inked pixels, labels int32 [most], -1 on padding.  The
    digits of the test canvases, a fifth of all, are in no training canvas.  A canvas has 0 to `most` digits, which
    overlap by at most a tenth of the smaller one.

    Attributes:
      examples: the number of canvases to train and validate on.
      test: the number of canvases to test on.
      size: (height, width) of a canvas, in pixels.
      most: the largest number of digits.
      sides: the smallest and largest side of a digit, in pixels.
      noise: the standard deviation of the noise, of 255.
      class_names: the names of the classes; `fit` fills them in.
    """

    examples: int = 2000
    test: int = 300
    size: tuple[int, int] = (64, 64)
    most: int = 5
    sides: tuple[int, int] = (12, 28)
    noise: float = 12.0
    class_names: tuple[str, ...] | None = None

    def read(self) -> Splits:
        from sklearn.datasets import load_digits

        digits, labels = load_digits(return_X_y=True)
        digits = (digits.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
        order = np.random.default_rng(0).permutation(len(digits))
        held, rest = np.split(order, [len(order) // 5])
        train = self._canvases(digits[rest], labels[rest], self.examples, 1)
        return Splits(train=train, test=self._canvases(digits[held], labels[held], self.test, 2))

    def _canvases(self, digits: np.ndarray, labels: np.ndarray, count: int, stream: int) -> Columns:
        generator = np.random.default_rng((self.split_seed, stream))
        made = [self._canvas(digits, labels, generator) for _ in range(count)]
        return Columns({name: np.stack([one[name] for one in made]) for name in made[0]})

    def _canvas(self, digits: np.ndarray, labels: np.ndarray, generator: np.random.Generator) -> dict[str, np.ndarray]:
        from PIL import Image

        height, width = self.size
        canvas, boxes, found = np.zeros(self.size), [], []
        for _ in range(generator.integers(0, self.most + 1)):
            for _ in range(20):  # until it finds a free place
                side = int(generator.integers(self.sides[0], self.sides[1] + 1))
                chosen = int(generator.integers(len(digits)))
                ink = np.asarray(Image.fromarray(digits[chosen]).resize((side, side), Image.Resampling.BILINEAR))
                top, left = int(generator.integers(height - side + 1)), int(generator.integers(width - side + 1))
                rows, columns = (np.flatnonzero((ink > 40).any(axis)) for axis in (1, 0))
                box = (left + columns[0], top + rows[0], left + columns[-1] + 1, top + rows[-1] + 1)
                if all(_shared(box, other) <= 0.1 for other in boxes):
                    boxes.append(box)
                    found.append(int(labels[chosen]))
                    part = canvas[top : top + side, left : left + side]
                    np.maximum(part, ink, out=part)
                    break
        canvas = canvas + generator.normal(0, self.noise, self.size)
        padded = np.zeros((self.most, 4), np.float32)
        padded[: len(boxes)] = np.reshape(boxes, (-1, 4))
        return {
            "image": np.clip(canvas, 0, 255).astype(np.uint8)[..., None],
            "boxes": padded,
            "labels": np.array(found + [-1] * (self.most - len(found)), np.int32),
        }

    def fit(self, train: Source) -> Self:
        """Fills in `class_names`."""
        return dataclasses.replace(self, class_names=tuple("0123456789"))

    def check(self) -> None:
        super().check()
        check_counts(self, "examples", "test", "size", "most", "sides")
        rising = len(self.sides) == 2 and 8 <= self.sides[0] <= self.sides[1] <= min(self.size)
        require(rising, f"sides={self.sides}: expected two rising numbers from 8 to the canvas's {min(self.size)}")
        require(self.noise >= 0, f"noise={self.noise}: expected at least 0")


def _shared(a: tuple[int, ...], b: tuple[int, ...]) -> float:
    """The share of the smaller of two boxes that lies in the other."""
    wide, tall = (min(a[i + 2], b[i + 2]) - max(a[i], b[i]) for i in (0, 1))
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return max(wide, 0) * max(tall, 0) / min(areas)
