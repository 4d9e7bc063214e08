"""Fits pictures of any size into an array of one size, with padding at the end of rows and columns."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Fitted(NamedTuple):
    """A picture in an array of a fixed size.

    Attributes:
      image: uint8 [height, width, channels].
      scale: pixels of the array per pixel of the picture.
      content: int32 [2], the height and width of the picture in the array.
    """

    image: np.ndarray
    scale: np.float32
    content: np.ndarray


def letterbox(picture: np.ndarray, size: tuple[int, int], fill: int = 114) -> Fitted:
    """Scales a picture, uint8 [height, width, channels], as large as fits into `size`, and pads it with `fill`.

    >>> fitted = letterbox(np.zeros((10, 20, 3), np.uint8), (40, 40))
    >>> fitted.image.shape, float(fitted.scale), fitted.content.tolist(), int(fitted.image[-1, 0, 0])
    ((40, 40, 3), 2.0, [20, 40], 114)
    """
    from PIL import Image

    height, width, channels = picture.shape
    scale = min(size[0] / height, size[1] / width)
    tall, wide = max(round(height * scale), 1), max(round(width * scale), 1)
    if (tall, wide) != (height, width):
        pixels = Image.fromarray(picture[..., 0] if channels == 1 else picture)
        picture = np.asarray(pixels.resize((wide, tall), Image.Resampling.BILINEAR)).reshape(tall, wide, channels)
    image = np.full((*size, channels), fill, np.uint8)
    image[:tall, :wide] = picture
    return Fitted(image, np.float32(scale), np.array([tall, wide], np.int32))
