"""Transparency counts as a channel wherever a file declares it."""

import io

import numpy as np
import PIL.Image
import pytest

from research.data.images import ImageShape, decode, read_image
from research.errors import RequestError

PINK = (255, 0, 255)


def palette():
    image = PIL.Image.new("P", (8, 8), 0)
    image.putpalette([*PINK, 0, 128, 0])
    return image


CASES = {
    "palette, one colour": (palette(), 0, "P", 4),
    "palette, alpha of every colour": (palette(), b"\0\xff", "P", 4),
    "RGB, one colour": (PIL.Image.new("RGB", (8, 8), PINK), PINK, "RGB", 4),
    "grey, one shade": (PIL.Image.new("L", (8, 8), 7), 7, "L", 2),
    "black and white, one of them": (PIL.Image.new("1", (8, 8), 1), 255, "1", 2),
}


def png(image, **kwargs):
    file = io.BytesIO()
    image.save(file, "PNG", **kwargs)
    return io.BytesIO(file.getvalue())


@pytest.mark.parametrize("case", CASES)
def test_transparency_that_the_mode_does_not_say(case):
    """A file is refused, converted and read as the same picture with an alpha channel is."""
    image, transparency, mode, channels = CASES[case]
    says = rf"x has {channels} channels \(mode '{mode} with transparency'\), expected channels={channels - 1}; convert="
    with pytest.raises(RequestError, match=says):
        decode(png(image, transparency=transparency), ImageShape(None, channels - 1), "x")
    with pytest.raises(RequestError, match=says):  # as `predict` takes it
        read_image(PIL.Image.open(png(image, transparency=transparency)), ImageShape(None, channels - 1), "x")
    read = decode(png(image, transparency=transparency), ImageShape(None, channels), "x")
    assert read.shape == (8, 8, channels) and not read[..., -1].any()
    decode(png(image, transparency=transparency), ImageShape((4, 4), 3, convert=True), "x")


@pytest.mark.parametrize("case", CASES)
def test_without_transparency_nothing_changes(case):
    image, _, _, channels = CASES[case]
    expected = np.asarray(image.convert("L" if channels == 2 else "RGB")).reshape(8, 8, channels - 1)
    assert np.array_equal(decode(png(image), ImageShape(None, channels - 1), "x"), expected)


def test_a_gif_with_transparency():
    file = io.BytesIO()
    palette().save(file, "GIF", transparency=0)
    with pytest.raises(RequestError, match="x has 4 channels"):
        decode(io.BytesIO(file.getvalue()), ImageShape(None, 3), "x")
