import numpy as np
import pytest
from PIL import Image

from research.pretrained.preprocessing import HALF, IMAGENET_MEAN, IMAGENET_STD, Preprocessing, from_hf


def test_the_centre_is_kept_at_its_aspect_ratio():
    """A white square in the middle of a wide image stays a square, and what stands left and right is cropped away."""
    image = np.zeros((100, 200, 3), np.uint8)
    image[40:60, 90:110] = 255
    out = Preprocessing(image_size=64, crop=1.0, interpolation="nearest", mean=(0, 0, 0), std=(1, 1, 1))(image)
    assert out.shape == (64, 64, 3)
    assert out.dtype == np.float32
    rows, columns = np.where(out[..., 0] > 0.5)
    assert 11 <= np.ptp(rows) <= 14
    assert abs(np.ptp(rows) - np.ptp(columns)) <= 1
    assert abs(rows.mean() - 31.5) <= 1
    assert abs(columns.mean() - 31.5) <= 1


def test_without_a_crop_the_image_is_squeezed_into_the_square():
    image = np.zeros((10, 20, 3), np.uint8)
    image[:, :10] = 255
    out = Preprocessing(image_size=8, crop=None, interpolation="nearest", mean=(0, 0, 0), std=(1, 1, 1))(image)
    assert (out[:, :4] == 1).all()
    assert (out[:, 4:] == 0).all()


def test_a_crop_keeps_its_share_of_the_short_side():
    image = Image.fromarray(np.tile(np.arange(256, dtype=np.uint8)[:, None, None], (1, 256, 3)))
    out = Preprocessing(image_size=128, crop=0.5, interpolation="nearest", mean=(0, 0, 0), std=(1, 1, 1))(image)
    assert 62 <= out[0, 0, 0] * 255 <= 66  # the middle half of 256 rows
    assert 189 <= out[-1, 0, 0] * 255 <= 193


def test_normalising():
    images = np.full((1, 2, 2, 3), 255, np.uint8)
    np.testing.assert_allclose(Preprocessing(mean=HALF, std=HALF).normalize(images), 1.0)
    np.testing.assert_allclose(
        Preprocessing().normalize(images)[0, 0, 0], (1 - np.array(IMAGENET_MEAN)) / IMAGENET_STD, rtol=1e-6
    )


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"size": 224, "resample": 2, "image_mean": HALF, "image_std": HALF}, (224, None, "bilinear", HALF)),
        ({"size": {"height": 384, "width": 384}, "resample": 3}, (384, None, "bicubic", IMAGENET_STD)),
        ({"size": {"shortest_edge": 224}, "crop_pct": 0.9}, (224, 0.9, "bicubic", IMAGENET_STD)),
        ({"size": {"shortest_edge": 384}, "crop_pct": 0.875}, (384, None, "bicubic", IMAGENET_STD)),
        (
            {"size": {"shortest_edge": 256}, "do_center_crop": True, "crop_size": {"height": 224, "width": 224}},
            (224, 0.875, "bicubic", IMAGENET_STD),
        ),
        (
            {"size": {"height": 240}, "resample": 0, "include_top": True, "image_std": [0.5, 0.5, 0.5]},
            (240, None, "nearest", (0.25, 0.25, 0.25)),
        ),
    ],
)
def test_hugging_faces_configs(config, expected):
    read = from_hf(config, Preprocessing())
    assert (read.image_size, read.crop, read.interpolation, read.std) == expected
