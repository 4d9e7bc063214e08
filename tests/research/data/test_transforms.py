"""Preprocessing: fields are fitted to the training split, and the program computes the same as NumPy."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from research.data.source import Columns
from research.data.transforms import Cast, CenterCrop, OneHot, Scale, Standardize, fit_transforms, preprocess
from research.errors import RequestError

IMAGES = np.random.default_rng(0).integers(0, 256, (3000, 5, 4, 3), np.uint8)
COLUMNS = {"image": IMAGES, "label": np.arange(3000) % 7}


def test_scale():
    batch = preprocess((Scale("image", 1 / 255),), {"image": IMAGES[:4], "label": 1})
    np.testing.assert_allclose(batch["image"], IMAGES[:4] / 255, rtol=1e-6)
    assert batch["image"].dtype == np.float32 and batch["label"] == 1


def test_standardize_per_channel_after_scale():
    transforms = fit_transforms((Scale("image"), Standardize("image")), Columns(COLUMNS))
    scaled = IMAGES.astype(np.float32) / 255
    np.testing.assert_allclose(transforms[1].mean, scaled.mean((0, 1, 2), np.float64), rtol=1e-6)
    np.testing.assert_allclose(transforms[1].std, scaled.std((0, 1, 2), np.float64), rtol=1e-6)
    assert all(type(v) is float for v in transforms[1].mean)
    image = np.asarray(jax.jit(lambda batch: preprocess(transforms, batch))({"image": IMAGES})["image"], np.float64)
    np.testing.assert_allclose(image.mean((0, 1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(image.std((0, 1, 2)), 1, atol=1e-5)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 3000), st.integers(1, 3), st.floats(-1e4, 1e4), st.integers(0, 5))
def test_standardize_is_numpys_mean_and_std(n, d, offset, seed):
    x = np.random.default_rng(seed).normal(offset, 1, (n, d)).astype(np.float32)
    x[:, 0] = offset
    fitted = fit_transforms((Standardize("x"),), {"x": x})[0]
    assert fitted.std[0] == 1.0  # a constant column
    np.testing.assert_allclose(fitted.mean, x.astype(np.float64).mean(0), rtol=1e-9, atol=1e-9)
    if n > 1:
        np.testing.assert_allclose(fitted.std[1:], x.astype(np.float64).std(0)[1:], rtol=1e-7)


def test_standardize_a_scalar_field():
    fitted = fit_transforms((Standardize("y"),), {"y": np.arange(10.0)})[0]
    assert (fitted.mean, round(fitted.std**2, 6)) == (4.5, 8.25)
    assert hash(fitted) == hash(Standardize("y", fitted.mean, fitted.std))


def test_what_is_given_is_kept():
    given = Standardize("image", mean=0.5, std=(1.0, 2.0, 3.0))
    assert fit_transforms((given, OneHot("label", 9)), COLUMNS) == (given, OneHot("label", 9))
    assert fit_transforms((Standardize("image", mean=0.0),), COLUMNS)[0].mean == 0.0


def test_one_hot_and_cast():
    transforms = fit_transforms((OneHot("label"), Cast("image", "bfloat16")), COLUMNS)
    assert transforms[0].classes == 7
    batch = preprocess(transforms, {"label": np.array([0, 6, 7, -1]), "image": IMAGES[:2]})
    np.testing.assert_array_equal(batch["label"].sum(-1), [1, 1, 0, 0])
    assert batch["label"][1, 6] == 1 and batch["image"].dtype == "bfloat16"


def test_a_prediction_brings_no_label():
    transforms = (Scale("image"), OneHot("label", 7))
    assert preprocess(transforms, {"image": IMAGES[:1]}, partial=True).keys() == {"image"}
    with pytest.raises(RequestError, match="^OneHot: the batch has no field 'label'; one of: image"):
        preprocess(transforms, {"image": IMAGES[:1]})


@pytest.mark.parametrize(
    ("transform", "message"),
    [
        (Standardize("x", std=0.0), "std=0.0: expected more than 0"),
        (Standardize("x", std=(1.0, -1.0)), "std="),
        (Cast("x", "float31"), "dtype='float31': did you mean 'float32'"),
        (CenterCrop("x", (0, 4)), "size="),
        (OneHot("x", 0), "classes=0"),
        (Scale(""), "field=''"),
    ],
)
def test_check(transform, message):
    with pytest.raises(RequestError, match=f"^{message}"):
        transform.check()
    for good in (Standardize("x"), Cast("x"), OneHot("x"), Scale("x")):
        good.check()


@pytest.mark.parametrize("transform", [Standardize("image"), OneHot("label")])
def test_before_fit(transform):
    with pytest.raises(RequestError, match="fit it to the training split"):
        transform(COLUMNS)


def test_the_middle_of_an_image():
    x = np.arange(2 * 6 * 5).reshape(2, 6, 5, 1)
    np.testing.assert_array_equal(CenterCrop("x", (2, 3)).apply(x), x[:, 2:4, 1:4])
    np.testing.assert_array_equal(CenterCrop("x", (6, 9)).apply(x), x)
