"""Input preprocessing of published detectors: the whole picture, resized and normalised."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from research.data.images import ImageShape, read_image
from research.data.letterbox import letterbox
from research.errors import prefixed, require
from research.pretrained.config_values import numbers
from research.pretrained.preprocessing import IMAGENET_MEAN, IMAGENET_STD

FILE = "preprocessor_config.json"


@dataclasses.dataclass(frozen=True)
class FitWithin:
    """Resizes a picture and normalises it; the whole picture stays visible.

    >>> FitWithin(shortest=6, longest=20)(np.zeros((30, 40, 3), np.uint8)).shape
    (6, 8, 3)
    >>> FitWithin(letterbox=(32, 32))(np.zeros((30, 40, 3), np.uint8)).shape
    (32, 32, 3)

    Attributes:
      shortest, longest: the shorter side becomes `shortest`, unless the longer one would be beyond `longest`.
      multiple: sides are rounded down to a multiple of it.
      letterbox: (height, width) to fit into instead, with padding at the end of rows and columns.
      mean, std: per channel, of scaled values.
      scale: the factor applied to values of 0…255 before mean and std.
      reverse: blue, green, red instead of red, green, blue.
    """

    shortest: int = 800
    longest: int = 1333
    multiple: int = 1
    letterbox: tuple[int, int] | None = None
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    scale: float = 1 / 255
    reverse: bool = False

    def check(self) -> None:
        sides = self.letterbox or (self.shortest, self.longest)
        require(min(sides) > 0, f"size={sides}: expected at least 1 pixel")
        require(self.shortest <= self.longest, f"shortest={self.shortest}: expected at most longest={self.longest}")
        require(all(std > 0 for std in self.std), f"std={self.std}: expected numbers above 0")

    def size(self, height: int, width: int) -> tuple[int, int]:
        """The (height, width) that a picture is resized to, rounded as in the publishers' code."""
        low, high = sorted((height, width))
        short = float(self.shortest)
        if high / low * short > self.longest:
            short = self.longest * low / high
        new = round(short), int(short * high / low)
        tall, wide = new if height <= width else new[::-1]
        return max(tall - tall % self.multiple, self.multiple), max(wide - wide % self.multiple, self.multiple)

    def __call__(self, image: Any, name: str = "image") -> np.ndarray:
        """Prepares a picture for the model: float32 [height, width, channels]; arguments as of `Preprocessing`."""
        from PIL import Image

        read = read_image(image, ImageShape(None, len(self.mean), convert=True), name)
        if self.letterbox is not None:
            pixels = letterbox(read, self.letterbox).image
        else:
            tall, wide = self.size(*read.shape[:2])
            picture = Image.fromarray(read[..., 0] if read.shape[-1] == 1 else read)
            pixels = np.asarray(picture.resize((wide, tall), Image.Resampling.BILINEAR)).reshape(tall, wide, -1)
        pixels = pixels[..., ::-1] if self.reverse else pixels
        normal = (pixels * self.scale - np.asarray(self.mean)) / np.asarray(self.std)
        return normal.astype(np.float32)

    def factors(self, height: int, width: int) -> tuple[float, float]:
        """Pixels of the picture, of that size, per pixel of the model's input: of rows and of columns."""
        if self.letterbox is not None:
            return (max(height / self.letterbox[0], width / self.letterbox[1]),) * 2
        tall, wide = self.size(height, width)
        return height / tall, width / wide

    def for_channels(self, channels: int) -> FitWithin:
        """A copy for another number of channels, each with the average of the current constants."""
        if channels == len(self.mean):
            return self
        spread = {name: (float(np.mean(getattr(self, name))),) * channels for name in ("mean", "std")}
        return dataclasses.replace(self, **spread)

    def resized(self, image_size: int | tuple[int, int]) -> FitWithin:
        """A copy for another size: of the letterbox, or the shortest (and longest) side."""
        pair = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
        if self.letterbox is not None:
            return dataclasses.replace(self, letterbox=pair)
        longest = self.longest if isinstance(image_size, int) else max(pair)
        return dataclasses.replace(self, shortest=min(pair), longest=max(longest, min(pair)))

    def from_hf(self, config: Mapping[str, Any]) -> FitWithin:
        """Reads a `preprocessor_config.json`; missing values stay.

        Raises:
          RequestError: a value is invalid, or it asks for an unsupported operation.
        """
        require(config.get("do_resize", True) is not False, f"do_resize=false in {FILE}: pictures are always resized")
        size = config.get("size")
        size = {"shortest_edge": size} if isinstance(size, int) else size or {}
        sides = [size.get(key, own) for key, own in (("shortest_edge", self.shortest), ("longest_edge", self.longest))]
        if isinstance(config.get("max_size"), int):  # of older files
            sides[1] = config["max_size"]
        known = isinstance(size, Mapping) and all(type(side) is int for side in sides)
        require(known, f"size={config.get('size')!r} in {FILE}: expected shortest_edge and longest_edge in pixels")
        rescales, normalizes = (config.get(key, True) is not False for key in ("do_rescale", "do_normalize"))
        scale = (numbers(config, "rescale_factor", FILE) or (self.scale,))[0]
        read = dataclasses.replace(
            self,
            shortest=sides[0],
            longest=sides[1],
            mean=(numbers(config, "image_mean", FILE) or self.mean) if normalizes else (0.0,) * len(self.mean),
            std=(numbers(config, "image_std", FILE) or self.std) if normalizes else (1.0,) * len(self.std),
            scale=scale if rescales else 1.0,
        )
        with prefixed(f"{FILE}: "):
            read.check()
        return read

    def to_hf(self) -> dict[str, Any]:
        """A `preprocessor_config.json` from which `from_hf` restores the same values."""
        return {
            "do_resize": True,
            "size": {"shortest_edge": self.shortest, "longest_edge": self.longest},
            "resample": 2,
            "do_rescale": True,
            "rescale_factor": self.scale,
            "do_normalize": True,
            "image_mean": list(self.mean),
            "image_std": list(self.std),
            "do_pad": True,
        }
