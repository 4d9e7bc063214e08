"""Augmentations: one key per example, by position, and the effect of each function."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.config.hparams import bind, hparams
from research.data.augment.augmentation import HorizontalFlip, Noise, OneOf, RandomCrop, augment
from research.errors import RequestError

KEY = jax.random.key(3)
IMAGES = jnp.asarray(np.random.default_rng(0).integers(1, 256, (16, 6, 5, 2)), jnp.uint8)
BATCH = {"image": IMAGES, "label": jnp.arange(16)}
ALL = (RandomCrop(2), HorizontalFlip(), Noise(0.5))


def test_an_example_depends_on_its_position_alone():
    whole = augment(ALL, KEY, BATCH)["image"]
    half = {name: x[8:] for name, x in BATCH.items()}
    np.testing.assert_array_equal(augment(ALL, KEY, half, jnp.arange(8, 16))["image"], whole[8:])
    np.testing.assert_allclose(jax.jit(lambda b: augment(ALL, KEY, b))(BATCH)["image"], whole, rtol=1e-6)
    assert not np.array_equal(augment(ALL, KEY, half)["image"], whole[8:])
    assert not np.array_equal(augment(ALL, jax.random.key(4), BATCH)["image"], whole)


def test_other_fields_are_left_alone():
    batch = augment(ALL, KEY, BATCH)
    np.testing.assert_array_equal(batch["label"], BATCH["label"])
    assert augment((), KEY, BATCH) is BATCH


def test_random_crop_is_a_window_of_the_padded_image():
    cropped = np.asarray(augment((RandomCrop(2),), KEY, BATCH)["image"])
    padded = np.pad(np.asarray(IMAGES), ((0, 0), (2, 2), (2, 2), (0, 0)))
    offsets = []
    for image, source in zip(cropped, padded, strict=True):
        found = [(i, j) for i in range(5) for j in range(5) if np.array_equal(image, source[i : i + 6, j : j + 5])]
        assert len(found) == 1
        offsets += found
    assert len(set(offsets)) > 5 and cropped.dtype == np.uint8
    np.testing.assert_array_equal(augment((RandomCrop(0),), KEY, BATCH)["image"], IMAGES)


@pytest.mark.parametrize(("probability", "low", "high"), [(0.0, 0, 0), (1.0, 400, 400), (0.3, 80, 160)])
def test_horizontal_flip(probability, low, high):
    images = jnp.tile(IMAGES[:1], (400, 1, 1, 1))
    flipped = np.asarray(augment((HorizontalFlip(probability),), KEY, {"image": images})["image"])
    mirrored = np.all(flipped == np.asarray(images)[:, :, ::-1], axis=(1, 2, 3))
    assert np.all(mirrored | np.all(flipped == np.asarray(images), axis=(1, 2, 3)))
    assert low <= mirrored.sum() <= high


def test_noise():
    x = jnp.zeros((50, 40, 1))
    noisy = np.asarray(augment((Noise(0.5, field="x"),), KEY, {"x": x})["x"])
    assert abs(noisy.std() - 0.5) < 0.03 and abs(noisy.mean()) < 0.05
    assert augment((Noise(0.0),), KEY, BATCH)["image"].dtype == jnp.float32


def test_several_of_a_kind_differ():
    twice = augment((Noise(1.0, field="x"), Noise(1.0, field="x")), KEY, {"x": jnp.zeros((1000, 1))})["x"]
    assert abs(float(jnp.std(twice)) - 2**0.5) < 0.15


def test_strengths_may_be_traced():
    assert hparams(ALL) == {"1.probability": 0.5, "2.std": 0.5}

    def run(std):
        return augment(bind(ALL, {"2.std": std}), KEY, BATCH)["image"]

    np.testing.assert_allclose(jax.jit(run)(0.5), augment(ALL, KEY, BATCH)["image"], rtol=1e-6)


@pytest.mark.parametrize(
    ("augmentation", "message"),
    [
        (RandomCrop(-1), "padding=-1"),
        (HorizontalFlip(1.5), "probability=1.5: expected 0 to 1"),
        (Noise(-0.1), "std=-0.1"),
        (Noise(0.1, field=""), "field=''"),
        (RandomCrop(2, mode="zero"), "mode='zero': expected one of .*; did you mean 'zeros'"),
        (OneOf(()), r"augmentations=\(\)"),
        (OneOf((Noise(), HorizontalFlip(2.0))), "augmentations.1.probability=2.0"),
        (OneOf((Noise(), Noise()), weights=(1.0,)), r"weights=\(1.0,\): expected 2"),
    ],
)
def test_check(augmentation, message):
    with pytest.raises(RequestError, match=f"^{message}"):
        augmentation.check()
    for good in ALL:
        good.check()


def test_a_field_that_is_not_there():
    with pytest.raises(RequestError, match="^RandomCrop: an example has no field 'imag'; did you mean 'image'"):
        augment((RandomCrop(2, field="imag"),), KEY, BATCH)


@pytest.mark.parametrize("augmentation", [RandomCrop(2, field="label"), HorizontalFlip(field="label")])
def test_a_field_that_is_no_image(augmentation):
    with pytest.raises(
        RequestError, match=rf"^{type(augmentation).__name__}: 'label' is \[\] per example; expected an"
    ):
        augment((augmentation,), KEY, BATCH)


@pytest.mark.parametrize("mode", ["zeros", "reflect"])
def test_random_crop_keeps_some_of_the_image(mode):
    with pytest.raises(
        RequestError, match=r"^RandomCrop: padding=5, 'image' is \[6, 5, 2\] per example; expected fewer"
    ):
        augment((RandomCrop(5, mode=mode),), KEY, BATCH)
    assert (augment((RandomCrop(4),), KEY, BATCH)["image"] > 0).any((1, 2, 3)).all()


@pytest.mark.parametrize(("mode", "padding"), [("reflect", "reflect"), ("edge", "edge")])
def test_random_crop_of_an_image_padded_with_itself(mode, padding):
    cropped = np.asarray(augment((RandomCrop(2, mode=mode),), KEY, BATCH)["image"])
    padded = np.pad(np.asarray(IMAGES), ((0, 0), (2, 2), (2, 2), (0, 0)), mode=padding)
    for image, source in zip(cropped, padded, strict=True):
        assert any(np.array_equal(image, source[i : i + 6, j : j + 5]) for i in range(5) for j in range(5))


def test_one_of_several_is_drawn_for_each_example():
    x = {"x": jnp.zeros((400, 3))}
    one_of = OneOf((Noise(1.0, field="x"), Noise(0.0, field="x")), weights=(1.0, 3.0))
    noisy = np.asarray(augment((one_of,), KEY, x)["x"])
    changed = (noisy != 0).any(1)
    assert np.array_equal(changed, (noisy != 0).all(1)) and 60 < changed.sum() < 140
    assert hparams((one_of,)) == {"0.augmentations.0.std": 1.0, "0.augmentations.1.std": 0.0}
