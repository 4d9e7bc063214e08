"""Encoded images as arrays of one shape, decoded by Pillow; one that cannot be read is told by its name."""

from __future__ import annotations

from typing import Any, BinaryIO, Literal, NamedTuple

import numpy as np

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

    try:
        with PIL.Image.open(file) as image:
            return to_shape(image, shape, name)
    except (OSError, SyntaxError, EOFError, PIL.Image.DecompressionBombError) as error:
        # Pillow's message for a file it cannot identify is about the open file; the name says it better.
        reason = "" if isinstance(error, PIL.UnidentifiedImageError) else f": {error}"
        raise RequestError(f"{name} is not an image that can be read{reason}") from None


def to_shape(image: Any, shape: ImageShape, name: str) -> np.ndarray:
    """A Pillow image as uint8 [height, width, channels] of that shape, EXIF orientation applied.

    Palettes and CMYK count as 3 channels.

    Raises:
      RequestError: it has another number of channels, or more than 8 bits a channel.
    """
    from PIL import ExifTags, Image, ImageOps

    channels = CHANNELS.get(image.mode)
    require(channels is not None, f"{name}: pixels of mode {image.mode!r}; expected 8 bits a channel")
    if channels != shape.channels and not shape.convert:
        raise RequestError(
            f"{name} has {channels} channels (mode {image.mode!r}), expected channels={shape.channels}; "
            "convert=True converts such images"
        )
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
