import numpy as np
import pytest

from research.data.letterbox import letterbox


@pytest.mark.parametrize(("height", "width"), [(10, 20), (20, 10), (40, 40), (7, 100), (1, 1)])
def test_a_picture_of_any_size_fits(height, width):
    picture = np.full((height, width, 3), 200, np.uint8)
    fitted = letterbox(picture, (32, 48))
    tall, wide = fitted.content
    assert fitted.image.shape == (32, 48, 3) and (tall == 32 or wide == 48)
    assert (fitted.image[:tall, :wide] == 200).all() and (fitted.image[tall:] == 114).all()
    assert (fitted.image[:, wide:] == 114).all()
    assert abs(tall - height * fitted.scale) <= 1 and abs(wide - width * fitted.scale) <= 1


def test_a_picture_of_the_size_stays():
    picture = np.random.default_rng(0).integers(0, 256, (8, 8, 1), np.uint8)
    np.testing.assert_array_equal(letterbox(picture, (8, 8)).image, picture)
