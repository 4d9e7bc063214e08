"""Colour jitter: each adjustment against Pillow or the definition of HSV, and the distribution of factors."""

import colorsys

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
import pytest
from PIL import ImageEnhance

from research.data.augment import color_jitter
from research.data.augment.augmentation import augment
from research.data.augment.color_jitter import ColorJitter
from research.errors import RequestError

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 7, 3), dtype=np.uint8)
IMAGE = jnp.asarray(PIXELS / 255, jnp.float32)


@pytest.mark.parametrize("factor", [0.0, 0.6, 1.7])
@pytest.mark.parametrize("kind", ["Brightness", "Contrast", "Color"])
def test_adjustments_are_pillows_up_to_its_rounding(kind, factor):
    name = {"Color": "saturation"}.get(kind, kind.lower())
    ours = getattr(color_jitter, f"adjust_{name}")(IMAGE, factor)
    theirs = getattr(ImageEnhance, kind)(PIL.Image.fromarray(PIXELS)).enhance(factor)
    np.testing.assert_allclose(255 * ours, np.asarray(theirs), atol=1.6)


@pytest.mark.parametrize("turn", [-0.5, -0.2, 0.0, 0.3])
def test_hue_is_that_of_hsv(turn):
    found = np.asarray(jax.jit(color_jitter.adjust_hue)(IMAGE, turn)).reshape(-1, 3)
    for ours, pixel in zip(found, np.asarray(IMAGE).reshape(-1, 3), strict=True):
        h, s, v = colorsys.rgb_to_hsv(*(float(x) for x in pixel))
        np.testing.assert_allclose(ours, colorsys.hsv_to_rgb((h + turn) % 1.0, s, v), atol=2e-6)
    grey = jnp.full((2, 2, 3), 0.4)
    np.testing.assert_array_equal(color_jitter.adjust_hue(grey, turn), grey)


def test_what_is_drawn():
    images = {"image": jnp.tile(jnp.asarray(PIXELS), (64, 1, 1, 1))}
    key = jax.random.key(0)
    none = ColorJitter(0.0, 0.0, 0.0, 0.0)
    np.testing.assert_allclose(augment((none,), key, images)["image"], images["image"], atol=1e-3)
    bright = augment((ColorJitter(0.5, 0.0, 0.0, 0.0),), key, {"image": jnp.full((400, 1, 1, 3), 100, jnp.uint8)})
    factors = np.asarray(bright["image"])[:, 0, 0, 0] / 100
    assert 0.5 <= factors.min() < 0.53 and 1.47 < factors.max() <= 1.5 and abs(factors.mean() - 1) < 0.05
    found = np.asarray(augment((ColorJitter(hue=0.1),), key, images)["image"])
    assert found.dtype == np.float32 and found.min() >= 0 and found.max() <= 255
    assert len({x.tobytes() for x in found}) == 64
    grey = augment((ColorJitter(hue=0.5),), key, {"image": images["image"][..., :1]})["image"]
    assert grey.shape == (64, 6, 7, 1)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"brightness": -0.1}, "brightness=-0.1"),
        ({"hue": 0.6}, "hue=0.6: expected 0 to 0.5"),
        ({"white": 0.0}, "white"),
    ],
)
def test_check(fields, message):
    with pytest.raises(RequestError, match=f"^{message}"):
        ColorJitter(**fields).check()


def test_four_channels_are_no_colours():
    with pytest.raises(RequestError, match=r"^ColorJitter: 'image' is \[2, 2, 4\] per example; expected an image"):
        augment((ColorJitter(),), jax.random.key(0), {"image": jnp.zeros((1, 2, 2, 4))})
