"""Encoded images as arrays of one shape, decoded by Pillow; one that cannot be read is told by its name."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO, Literal, NamedTuple

import numpy as np
from etils import epath

from research.errors import RequestError, require

Resize = Literal["crop", "stretch", "pad"]

CHANNELS = {"1": 1, "L": 1, "LA": 2, "P": 3, "RGB": 3, "YCbCr": 3, "CMYK": 3, "RGBA": 4}  # of Pillow's 8-bit modes
MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}


class ImageShape(NamedTuple):
    """What images are brought to: uint8 [height, width, channels].

    Attributes:
      size: (height, width) in pixels; None leaves every image its own.
      resize: how: "crop" scales an image to cover the size and crops the centre, "pad" fits it in and pads with black,
        "stretch" changes its aspect.
      convert: whether an image of another number of channels is converted rather than refused.
    """

    size: tuple[int, int] | None
    channels: int
    resize: Resize = "crop"
    convert: bool = False


def decode(file: BinaryIO, shape: ImageShape, name: str) -> np.ndarray:
    """The image in an open file, as `to_shape` gives it.

    Raises:
      RequestError: it is damaged or no image; the line begins with `name`.
    """
    import PIL.Image

    with _readable(name):
        image = PIL.Image.open(file)
    with image:
        return to_shape(image, shape, name)


def load_image(path: epath.Path, shape: ImageShape) -> np.ndarray:
    """The image in a file, uint8 [height, width, channels] of that shape.

    Raises:
      RequestError: the line names the file, which is missing, damaged or of other channels.
    """
    try:
        with path.open("rb") as file:
            return decode(file, shape, str(path))
    except FileNotFoundError:
        raise RequestError(f"{path} does not exist; expected an image") from None
    except OSError as error:
        raise RequestError(f"{path} cannot be read: {error.strerror or error}") from None


def stack_images(raw: Any, shape: ImageShape) -> np.ndarray:
    """A list of paths, Pillow images and uint8 arrays [height, width, channels], or one array of them all, as uint8
    [image, height, width, channels] of that shape.

    Raises:
      RequestError: the line names the file, or says which of the images it is.
    """
    if hasattr(raw, "shape") and np.asarray(raw).dtype.kind in "biuf":
        raw = np.asarray(raw)
        # One image alone would pass for a stack of grey ones.
        given = f"{raw.dtype} {list(raw.shape)}"
        require(raw.ndim == 4, f"expected uint8 [image, height, width, {shape.channels}], got {given}")
    good = isinstance(raw, Sequence | np.ndarray) and not isinstance(raw, str | bytes)
    require(good, "expected a list of images or paths")
    require(len(raw) > 0, "expected at least one image, got none")
    return np.stack([read_image(image, shape, f"image {i}") for i, image in enumerate(raw)])


def read_image(image: Any, shape: ImageShape, name: str) -> np.ndarray:
    """What a person may give as an image, as uint8 [height, width, channels] of that shape.

    Args:
      image: a path, a Pillow image, or a uint8 array [height, width] or [height, width, channels].
      name: what an error calls it, unless it is a path.

    Raises:
      RequestError: it is something else, there is no such file, or it is no image of that shape.
    """
    import PIL.Image

    if isinstance(image, str | os.PathLike):
        return load_image(epath.Path(image).expanduser(), shape)
    if isinstance(image, PIL.Image.Image):
        return to_shape(image, shape, name)
    given = type(image).__name__
    require(hasattr(image, "__array__"), f"{name}: expected a path, a Pillow image or a uint8 array, got {given}")
    x = np.asarray(image)
    good = x.dtype == np.uint8 and (x.ndim == 2 or (x.ndim == 3 and x.shape[-1] in MODES)) and x.size > 0
    require(good, f"{name}: expected uint8 [height, width, {shape.channels}], got {x.dtype} {list(x.shape)}")
    return to_shape(PIL.Image.fromarray(x[..., 0] if x.shape[2:] == (1,) else x), shape, name)


def to_shape(image: Any, shape: ImageShape, name: str) -> np.ndarray:
    """A Pillow image as uint8 [height, width, channels] of that shape, EXIF orientation applied.

    Palettes and CMYK count as 3 channels.

    Raises:
      RequestError: it is damaged, has another number of channels, or more than 8 bits a channel (which one that is
        loaded already no longer tells, where Pillow has made them 8); the line begins with `name`.
    """
    from PIL import ExifTags, Image, ImageOps

    channels = CHANNELS.get(image.mode)
    mode = (image.mode in CHANNELS and _deep(image)) or image.mode
    require(mode in CHANNELS, f"{name}: pixels of mode {mode!r}; expected 8 bits a channel")
    if channels != shape.channels and not shape.convert:
        raise RequestError(
            f"{name} has {channels} channels (mode {image.mode!r}), expected channels={shape.channels}; "
            "convert=True converts such images"
        )
    with _readable(name):
        image.load()  # Pillow opens a file by its header, and reads the pixels only now
        if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:  # exif_transpose copies what needs no turning
            image = ImageOps.exif_transpose(image)
    mode = MODES[shape.channels]
    if image.mode != mode:
        image = image.convert(mode)
    height, width = shape.size or image.size[::-1]
    if image.size != (width, height):
        if shape.resize == "crop":
            image = ImageOps.fit(image, (width, height), Image.Resampling.BICUBIC)
        elif shape.resize == "pad":
            image = ImageOps.pad(image, (width, height), Image.Resampling.BICUBIC)
        else:
            image = image.resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(image).reshape(height, width, shape.channels)


def _deep(image: Any) -> str | None:
    """What pixels of 16 bits a channel are in the file, where Pillow reads them as 8; None where they are not."""
    for _, _, _, args in getattr(image, "tile", ()):
        raw, *rest = args if isinstance(args, tuple) else (args,)
        if isinstance(raw, str) and re.search(r";16[BLN]$", raw):  # not BMP's "BGR;16", which is 16 bits a pixel
            return raw
        if image.format == "PPM" and rest and isinstance(rest[0], int) and rest[0] > 255:
            return f"{raw};16"
    return None


@contextlib.contextmanager
def _readable(name: str) -> Iterator[None]:
    """Makes whatever Pillow raises while it reads an image one line that begins with `name`.

    Damaged headers end in a ValueError, struct.error, IndexError and more, as it happens.
    """
    import PIL

    try:
        yield
    except Exception as error:
        # Pillow's message for a file it cannot identify is about the open file; the name says it better.
        known = not isinstance(error, PIL.UnidentifiedImageError)
        reason = f": {' '.join(str(error).split()) or type(error).__name__}" if known else ""
        raise RequestError(f"{name} is not an image that can be read{reason}") from None
