"""Decodes images with Pillow into uint8 arrays of a fixed shape; errors name the image that cannot be read."""

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
    """The shape that images are converted to: uint8 [height, width, channels].

    Attributes:
      size: (height, width) in pixels; None keeps the size of each image.
      channels: 1 (grey), 2 (grey with alpha), 3 (RGB) or 4 (RGBA).
      resize: "crop" scales the image to cover the size and crops the centre, "pad" scales it to fit and pads with
        black, "stretch" changes its aspect ratio.
      convert: convert images with another number of channels instead of refusing them.
    """

    size: tuple[int, int] | None
    channels: int
    resize: Resize = "crop"
    convert: bool = False


def decode(file: BinaryIO, shape: ImageShape, name: str) -> np.ndarray:
    """Decodes the image in an open file with `to_shape`.

    Raises:
      RequestError: the file is damaged or not an image; begins with `name`.
    """
    import PIL.Image

    with _readable(name):
        image = PIL.Image.open(file)
    with image:
        return to_shape(image, shape, name)


def load_image(path: epath.Path, shape: ImageShape) -> np.ndarray:
    """Loads an image file as uint8 [height, width, channels] of the given shape.

    Raises:
      RequestError: the file is missing, damaged or has another number of channels; names the file.
    """
    try:
        with path.open("rb") as file:
            return decode(file, shape, str(path))
    except FileNotFoundError:
        raise RequestError(f"{path} does not exist; expected an image") from None
    except OSError as error:
        raise RequestError(f"{path} cannot be read: {error.strerror or error}") from None


def stack_images(raw: Any, shape: ImageShape) -> np.ndarray:
    """Loads several images as uint8 [image, height, width, channels] of the given shape.

    `raw` is a list of paths, Pillow images and uint8 arrays [height, width, channels], or one array of them all.

    Raises:
      RequestError: an image cannot be used; gives its file name or its index.
    """
    if hasattr(raw, "shape") and np.asarray(raw).dtype.kind in "biuf":
        raw = np.asarray(raw)
        # A single image would pass for a stack of grey images.
        given = f"{raw.dtype} {list(raw.shape)}"
        require(raw.ndim == 4, f"expected uint8 [image, height, width, {shape.channels}], got {given}")
    good = isinstance(raw, Sequence | np.ndarray) and not isinstance(raw, str | bytes)
    require(good, "expected a list of images or paths")
    require(len(raw) > 0, "expected at least one image, got none")
    return np.stack([read_image(image, shape, f"image {i}") for i, image in enumerate(raw)])


def read_image(image: Any, shape: ImageShape, name: str) -> np.ndarray:
    """Loads one image in any supported form as uint8 [height, width, channels] of the given shape.

    Args:
      image: a path, a Pillow image, or a uint8 array [height, width] or [height, width, channels].
      name: what error messages call the image if it is not a path.

    Raises:
      RequestError: the type is unsupported, the file does not exist, or the image does not have that shape.
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
    """Converts a Pillow image to uint8 [height, width, channels] of the given shape, after applying its EXIF
    orientation.

    Palettes and CMYK count as 3 channels.  Transparency counts as one more, also in a palette or as one colour that is
    declared transparent.

    Raises:
      RequestError: the image is damaged, has another number of channels, or has more than 8 bits per channel (not
        detected if the image was already loaded and Pillow has reduced it to 8); begins with `name`.
    """
    from PIL import ExifTags, Image, ImageOps

    mode = (image.mode in CHANNELS and _deep(image)) or image.mode
    require(mode in CHANNELS, f"{name}: pixels of mode {mode!r}; expected 8 bits a channel")
    channels = CHANNELS[image.mode]
    if _has_hidden_alpha(image):
        mode, channels = f"{mode} with transparency", channels + 1
    if channels != shape.channels and not shape.convert:
        raise RequestError(
            f"{name} has {channels} channels (mode {mode!r}), expected channels={shape.channels}; "
            "convert=True converts such images"
        )
    with _readable(name):
        image.load()  # Pillow reads only the header on opening, and the pixels here
        if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:  # exif_transpose copies even upright images
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


def _has_hidden_alpha(image: Any) -> bool:
    """True if the file makes colours transparent that `image.mode` gives no channel for, as of a palette."""
    palette = image.palette.mode if image.mode == "P" and image.palette else ""
    return "A" not in image.mode and ("transparency" in image.info or palette.endswith("A"))


def _deep(image: Any) -> str | None:
    """The file's raw mode if it has 16 bits per channel and Pillow reduces them to 8; otherwise None."""
    for _, _, _, args in getattr(image, "tile", ()):
        raw, *rest = args if isinstance(args, tuple) else (args,)
        if isinstance(raw, str) and re.search(r";16[BLN]$", raw):  # not BMP's "BGR;16", which has 16 bits per pixel
            return raw
        if image.format == "PPM" and rest and isinstance(rest[0], int) and rest[0] > 255:
            return f"{raw};16"
    return None


@contextlib.contextmanager
def _readable(name: str) -> Iterator[None]:
    """Turns any exception that Pillow raises while reading an image into one line that begins with `name`.

    Damaged headers raise ValueError, struct.error, IndexError and others.
    """
    import PIL

    try:
        yield
    except Exception as error:
        # Pillow's message for an unidentified file describes the open file object; the name is clearer.
        known = not isinstance(error, PIL.UnidentifiedImageError)
        reason = f": {' '.join(str(error).split()) or type(error).__name__}" if known else ""
        raise RequestError(f"{name} is not an image that can be read{reason}") from None
