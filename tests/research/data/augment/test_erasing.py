"""Erasing: rectangles of the right size in the right places."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.data.augment.augmentation import augment
from research.data.augment.erasing import Cutout, RandomErasing
from research.errors import RequestError

IMAGES = {"image": jnp.ones((300, 12, 10, 2), jnp.uint8)}


def erased(augmentation, images=IMAGES):
    """[example, height, width], True for erased pixels; all channels agree."""
    found = np.asarray(augment((augmentation,), jax.random.key(0), images)["image"])
    assert found.dtype == np.uint8 and np.array_equal(found[..., 0], found[..., 1])
    return found[..., 0] != 1


def is_rectangle(mask):
    rows, columns = mask.any(1), mask.any(0)
    return np.array_equal(mask, rows[:, None] & columns) and np.ptp(np.flatnonzero(rows)) + 1 == rows.sum()


def test_cutout_is_a_square_around_any_pixel_cut_off_at_the_border():
    masks = erased(Cutout(4))
    assert all(is_rectangle(mask) for mask in masks)
    sizes = {(int(mask.any(1).sum()), int(mask.any(0).sum())) for mask in masks}
    assert (4, 4) in sizes and (2, 2) in sizes and max(max(size) for size in sizes) == 4
    assert (masks.mean(0) > 0).all()
    filled = augment((Cutout(4, fill=7.0),), jax.random.key(0), IMAGES)["image"]
    assert set(np.unique(filled)) == {1, 7}


def test_random_erasing_keeps_to_its_bounds():
    masks = erased(RandomErasing(0.5, area=(0.1, 0.3), aspect=(0.5, 2.0)))
    hit = masks.any((1, 2))
    assert 110 < hit.sum() < 190
    for mask in masks[hit]:
        assert is_rectangle(mask)
        height, width = mask.any(1).sum(), mask.any(0).sum()
        assert 0.07 * 120 <= height * width <= 0.34 * 120 and 0.35 <= height / width <= 2.8  # whole pixels
    assert (masks.mean(0) > 0).all()


@pytest.mark.parametrize(
    ("augmentation", "message"),
    [
        (Cutout(0), "size=0"),
        (RandomErasing(1.5), "probability=1.5"),
        (RandomErasing(area=(0.5, 0.1)), "area="),
        (RandomErasing(aspect=(0.0, 1.0)), "aspect="),
        (RandomErasing(fill=256.0), "fill=256.0: expected 0 to 255"),
        (Cutout(fill=-1.0), "fill=-1.0: expected 0 to 255"),
    ],
)
def test_check(augmentation, message):
    with pytest.raises(RequestError, match=f"^{message}"):
        augmentation.check()


def test_cutout_leaves_something_of_some_image():
    assert not erased(Cutout(22)).all()  # of 12 by 10 pixels
    with pytest.raises(RequestError, match=r"^Cutout: size=23, 'image' is \[12, 10, 2\] per example, erased whole"):
        erased(Cutout(23))


@pytest.mark.parametrize("augmentation", [Cutout(4, field="label"), RandomErasing(field="label")])
def test_a_field_that_is_no_image(augmentation):
    with pytest.raises(
        RequestError, match=rf"^{type(augmentation).__name__}: 'label' is \[\] per example; expected an"
    ):
        augment((augmentation,), jax.random.key(0), IMAGES | {"label": jnp.arange(300)})
