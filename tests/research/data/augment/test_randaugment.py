"""RandAugment's operations against Pillow's, and how they are drawn."""

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
import pytest
from PIL import ImageEnhance, ImageOps

from research.data.augment import randaugment
from research.data.augment.augmentation import augment
from research.data.augment.randaugment import OPERATIONS, RandAugment, affine, matrix
from research.errors import RequestError

GENERATOR = np.random.default_rng(0)
SMOOTH = np.clip(GENERATOR.normal(120, 30, (4, 5, 3)), 0, 255).astype(np.uint8)
IMAGES = {
    "photograph": np.asarray(PIL.Image.fromarray(SMOOTH).resize((23, 18), PIL.Image.Resampling.BICUBIC)),
    "constant in one channel": GENERATOR.integers(0, 256, (18, 23, 3), dtype=np.uint8) * np.uint8([1, 0, 1]),
    "grey": GENERATOR.integers(20, 200, (18, 23, 1), dtype=np.uint8),
}


def pillow(x):
    return PIL.Image.fromarray(x[..., 0] if x.shape[-1] == 1 else x)


def pixels(image):
    x = np.asarray(image).astype(int)
    return x[..., None] if x.ndim == 2 else x


COLOUR = {
    "auto_contrast": (ImageOps.autocontrast, randaugment.auto_contrast),
    "equalize": (ImageOps.equalize, randaugment.equalize),
    "solarize": (lambda im: ImageOps.solarize(im, 100), lambda x: randaugment.solarize(x, 100.0)),
    "posterize": (lambda im: ImageOps.posterize(im, 3), lambda x: randaugment.posterize(x, 3.0)),
}
for kind in ("Color", "Contrast", "Brightness", "Sharpness"):
    for factor in (0.1, 1.9):
        COLOUR[f"{kind} {factor}"] = (
            lambda im, kind=kind, factor=factor: getattr(ImageEnhance, kind)(im).enhance(factor),
            lambda x, kind=kind, factor=factor: getattr(randaugment, kind.lower())(x, factor),
        )


@pytest.mark.parametrize("name", COLOUR)
def test_colours_are_pillows_within_one_of_255(name):
    theirs, ours = COLOUR[name]
    for kind, image in IMAGES.items():
        found = np.asarray(jax.jit(ours)(jnp.asarray(image, jnp.float32))).astype(int)
        distance = np.abs(found - pixels(theirs(pillow(image))))
        assert distance.max() <= 1, kind
        assert (distance > 0).mean() < 0.05, kind


@pytest.mark.parametrize("resampling", ["nearest", "bilinear"])
@pytest.mark.parametrize("name", ["rotate", "shear_x", "shear_y", "translate_x", "translate_y", "identity"])
@pytest.mark.parametrize("signed", [0.37, -0.8])
def test_movements_are_pillows(name, signed, resampling):
    image = IMAGES["photograph"]
    height, width, _ = image.shape
    coefficients = matrix(name, jnp.asarray(signed), height, width)
    mode = getattr(PIL.Image.Resampling, resampling.upper())
    if name == "rotate":
        theirs = pillow(image).rotate(30 * -signed, mode, fillcolor=(9, 9, 9))
    else:
        flat = np.asarray(coefficients, np.float64).ravel()
        share = {"shear_x": (1, 0.3), "shear_y": (3, 0.3), "translate_x": (2, width * 150 / 331)}
        share |= {"translate_y": (5, height * 150 / 331), "identity": (0, 0)}
        entry, strongest = share[name]
        expected = np.eye(2, 3).ravel()
        expected[entry] += strongest * signed
        np.testing.assert_allclose(flat, expected, rtol=1e-6)
        transform = PIL.Image.Transform.AFFINE
        theirs = pillow(image).transform((width, height), transform, flat, mode, fillcolor=(9, 9, 9))
    ours = np.asarray(affine(jnp.asarray(image, jnp.float32), coefficients, resampling, 9.0))
    distance = np.abs(ours - pixels(theirs)).max(-1)
    assert (distance > 1).mean() < 0.01  # a pixel centre on an edge may be rounded either way


def test_every_operation_is_drawn_and_the_image_stays_one():
    images = jnp.asarray(np.tile(IMAGES["photograph"][None], (200, 1, 1, 1)))
    batch = augment((RandAugment(num_ops=1, magnitude=20.0),), jax.random.key(0), {"image": images})
    found = np.asarray(batch["image"])
    assert found.dtype == np.uint8 and found.shape == images.shape
    results = {x.tobytes() for x in found}
    assert 14 <= len(results) <= 25  # 14 operations, 9 of which have a sign; some have the same effect on this image
    unchanged = np.all(found == np.asarray(images), axis=(1, 2, 3)).mean()
    assert 0.02 < unchanged < 0.2


def test_magnitude_zero_leaves_what_has_one_alone():
    kept = tuple(name for name in OPERATIONS if name not in ("auto_contrast", "equalize", "solarize"))
    images = {"image": jnp.asarray(IMAGES["constant in one channel"][None])}
    found = augment((RandAugment(3, 0.0, kept),), jax.random.key(1), images)["image"]
    np.testing.assert_array_equal(found, images["image"])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_ops": -1}, "num_ops=-1"),
        ({"magnitude": 31.0}, "magnitude=31: expected 0 to 30"),
        ({"operations": ()}, r"operations=\(\)"),
        ({"operations": ("rotat",)}, "operations.0='rotat': expected one of .*; did you mean 'rotate'"),
        ({"resampling": "cubic"}, "resampling='cubic'"),
        ({"fill": 300.0}, "fill=300.0: expected 0 to 255"),
    ],
)
def test_check(fields, message):
    with pytest.raises(RequestError, match=f"^{message}"):
        RandAugment(**fields).check()


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (jnp.zeros((1, 4, 4, 3)), "RandAugment: 'image' is float32; expected uint8"),
        (jnp.zeros((1, 4, 4, 4), jnp.uint8), r"RandAugment: 'image' is \[4, 4, 4\] per example; expected an image"),
    ],
)
def test_what_is_no_image_of_bytes(image, message):
    with pytest.raises(RequestError, match=f"^{message}"):
        augment((RandAugment(),), jax.random.key(0), {"image": image})
