"""Random resized crops: rectangles within bounds, resampled as a crop and a resize would."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.data.augment.augmentation import augment
from research.data.augment.resized_crop import RandomResizedCrop
from research.errors import RequestError

IMAGE = jax.random.uniform(jax.random.key(1), (20, 30, 3)) * 255


def test_windows_lie_inside_and_within_bounds():
    crop = RandomResizedCrop((8, 8), area=(0.1, 0.6))
    top, left, height, width = jax.vmap(lambda key: jnp.stack(crop.window(key, 20, 30)))(
        jax.random.split(jax.random.key(0), 500)
    ).T
    assert top.min() >= 0 and left.min() >= 0 and (top + height).max() <= 20 and (left + width).max() <= 30
    area, aspect = height * width / 600, width / height
    assert 0.08 < area.min() < 0.15 and 0.5 < area.max() < 0.64 and aspect.min() > 0.65 and aspect.max() < 1.5
    assert (top == 0).any() and (top + height == 20).any() and (left + width == 30).any()


def test_it_is_a_crop_and_a_resize():
    crop = RandomResizedCrop((8, 6))
    for seed in range(3):
        key = jax.random.key(seed)
        top, left, height, width = (int(x) for x in crop.window(key, 20, 30))
        part = IMAGE[top : top + height, left : left + width]
        found = crop.apply(key, IMAGE)
        # Near the border of the rectangle, sampling uses pixels outside it; inside, both agree.
        expected = jax.image.resize(part, (8, 6, 3), "linear")
        np.testing.assert_allclose(found[2:-2, 2:-2], expected[2:-2, 2:-2], atol=0.5)


def test_where_none_of_ten_fits_the_centre_is_taken():
    crop = RandomResizedCrop((4, 4), area=(1.0, 1.0), aspect=(1.0, 1.0))
    assert [int(x) for x in crop.window(jax.random.key(0), 20, 30)] == [0, 5, 20, 20]


def test_a_batch_gets_the_size():
    images = jnp.tile(IMAGE.astype(jnp.uint8), (4, 1, 1, 1))
    found = augment((RandomResizedCrop((8, 8)),), jax.random.key(0), {"image": images})["image"]
    assert found.shape == (4, 8, 8, 3) and found.dtype == jnp.float32
    assert found.min() >= 0 and found.max() <= 255 and not np.array_equal(found[0], found[1])


def test_a_field_that_is_no_image():
    with pytest.raises(RequestError, match=r"^RandomResizedCrop: 'label' is \[\] per example; expected an image"):
        augment((RandomResizedCrop(field="label"),), jax.random.key(0), {"label": jnp.arange(4)})


@pytest.mark.parametrize(
    ("fields", "message"),
    [({"size": (0, 4)}, "size="), ({"area": (0.0, 1.0)}, "area="), ({"aspect": (2.0, 1.0)}, "aspect=")],
)
def test_check(fields, message):
    with pytest.raises(RequestError, match=f"^{message}"):
        RandomResizedCrop(**fields).check()
