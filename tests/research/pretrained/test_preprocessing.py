import io

import numpy as np
import pytest
from PIL import Image

from research.errors import RequestError
from research.pretrained.preprocessing import (
    HALF,
    IMAGENET_MEAN,
    IMAGENET_STD,
    Preprocessing,
    from_hf,
    from_timm,
    to_hf,
)

PLAIN = {"interpolation": "nearest", "mean": (0, 0, 0), "std": (1, 1, 1)}


def test_the_centre_is_kept_at_its_aspect_ratio():
    """A white square in the middle of a wide image stays a square, and both sides are cropped away."""
    image = np.zeros((100, 200, 3), np.uint8)
    image[40:60, 90:110] = 255
    out = Preprocessing(image_size=64, crop=1.0, **PLAIN)(image)
    assert out.shape == (64, 64, 3)
    assert out.dtype == np.float32
    rows, columns = np.where(out[..., 0] > 0.5)
    assert 11 <= np.ptp(rows) <= 14
    assert abs(np.ptp(rows) - np.ptp(columns)) <= 1
    assert abs(rows.mean() - 31.5) <= 1
    assert abs(columns.mean() - 31.5) <= 1


def test_the_image_is_squeezed_into_the_square():
    image = np.zeros((10, 20, 3), np.uint8)
    image[:, :10] = 255
    out = Preprocessing(image_size=8, crop=1.0, squeeze=True, **PLAIN)(image)
    np.testing.assert_allclose(out[:, :4], 1, rtol=1e-6)
    assert (out[:, 4:] == 0).all()


def test_what_is_squeezed_may_be_cropped_after():
    image = np.zeros((10, 20, 3), np.uint8)
    image[:, :10] = 255
    out = Preprocessing(image_size=(8, 4), crop=0.5, squeeze=True, **PLAIN)(image)
    assert out.shape == (8, 4, 3)
    np.testing.assert_allclose(out[:, :2], 1, rtol=1e-6)
    assert (out[:, 2:] == 0).all()


def test_a_crop_keeps_its_share_of_the_short_side():
    image = Image.fromarray(np.tile(np.arange(256, dtype=np.uint8)[:, None, None], (1, 256, 3)))
    out = Preprocessing(image_size=128, crop=0.5, **PLAIN)(image)
    assert 62 <= out[0, 0, 0] * 255 <= 66  # the middle half of 256 rows
    assert 189 <= out[-1, 0, 0] * 255 <= 193


def test_a_tall_shape_is_covered_by_a_wide_image():
    image = np.zeros((40, 80, 3), np.uint8)
    image[:, 30:50] = 255  # the middle quarter, all that fits into a shape of two to one
    out = Preprocessing(image_size=(32, 16), crop=1.0, **PLAIN)(image)
    assert out.shape == (32, 16, 3)
    assert out.mean() > 0.99


@pytest.mark.parametrize(("size", "crop", "side"), [(224, 0.95, 235), (224, 224 / 232, 232), (240, 0.882, 272)])
def test_the_resized_side_is_rounded_as_the_publishers_round(size, crop, side):
    assert Preprocessing(image_size=size, crop=crop).before_crop == (side, side)


def test_models_of_one_channel_see_grey():
    grey = Preprocessing(image_size=4).for_channels(1)
    np.testing.assert_allclose((grey.mean, grey.std), ([np.mean(IMAGENET_MEAN)], [np.mean(IMAGENET_STD)]))
    assert grey(np.zeros((9, 9), np.uint8)).shape == (4, 4, 1)
    assert grey(np.zeros((9, 9, 3), np.uint8)).shape == (4, 4, 1)
    assert Preprocessing(image_size=4)(np.zeros((9, 9, 1), np.uint8)).shape == (4, 4, 3)


def test_normalising():
    images = np.full((1, 2, 2, 3), 255, np.uint8)
    np.testing.assert_allclose(Preprocessing(mean=HALF, std=HALF).normalize(images), 1.0, rtol=1e-6)
    np.testing.assert_allclose(
        Preprocessing().normalize(images)[0, 0, 0], (1 - np.array(IMAGENET_MEAN)) / IMAGENET_STD, rtol=1e-6
    )


def square(size, crop, interpolation="bicubic", std=IMAGENET_STD, *, squeeze=False):
    return Preprocessing(size, crop, squeeze, interpolation, std=std)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"size": 224, "resample": 2, "image_std": HALF}, square(224, 1.0, "bilinear", HALF, squeeze=True)),
        ({"size": {"height": 384, "width": 384}, "resample": 3}, square(384, 1.0, squeeze=True)),
        ({"size": {"height": 24, "width": 16}}, square((24, 16), 1.0, squeeze=True)),
        ({"size": [24, 16]}, square((24, 16), 1.0, squeeze=True)),
        ({"size": {"shortest_edge": 224}, "crop_pct": 0.9}, square(224, 0.9)),
        ({"size": {"shortest_edge": 384}, "crop_pct": 0.875}, square(384, 1.0, squeeze=True)),
        ({"size": None}, Preprocessing()),
        (
            {"size": {"shortest_edge": 256}, "do_center_crop": True, "crop_size": {"height": 224, "width": 224}},
            square(224, 0.875),
        ),
        ({"size": {"shortest_edge": 256}, "do_center_crop": True, "crop_size": 192}, square(192, 0.75)),
        ({"size": {"shortest_edge": 256}, "do_center_crop": True, "crop_size": None}, square(224, 0.875)),
        ({"size": 256, "do_center_crop": True, "crop_size": 224}, square(224, 0.875, squeeze=True)),
        (
            {"size": {"height": 240}, "resample": 0, "include_top": True, "image_std": [0.5, 0.5, 0.5]},
            square(240, 1.0, "nearest", (0.25, 0.25, 0.25), squeeze=True),
        ),
        ({"image_mean": None, "image_std": 0.5}, Preprocessing(std=HALF)),
        ({"do_normalize": False}, Preprocessing(mean=(0, 0, 0), std=(1, 1, 1))),
        ({"do_rescale": False, "rescale_factor": 0.5}, Preprocessing(scale=1.0)),
        ({"do_rescale": False, "rescale_factor": 0}, Preprocessing(scale=1.0)),
        ({"rescale_factor": 0.5, "rescale_offset": True, "image_mean": 0}, Preprocessing(mean=(1, 1, 1), scale=0.5)),
    ],
    ids=str,
)
def test_hugging_faces_configs(config, expected):
    assert from_hf(config, Preprocessing()) == expected


def test_constants_for_colours_are_averaged_for_a_model_of_grey():
    read = from_hf({"image_mean": [0.1, 0.2, 0.6], "image_std": [1, 2, 3]}, Preprocessing().for_channels(1))
    np.testing.assert_allclose((read.mean, read.std), ([0.3], [2]))


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"do_resize": False}, "do_resize=false in preprocessor_config.json: images are always resized here"),
        ({"size": {"longest_edge": 224}}, "size={'longest_edge': 224} in preprocessor_config.json: expected a number"),
        ({"size": [1, 2, 3]}, "size=[1, 2, 3] in preprocessor_config.json: expected a number of pixels"),
        ({"size": "224"}, "size='224' in preprocessor_config.json"),
        ({"do_center_crop": True, "crop_size": {}}, "crop_size={} in preprocessor_config.json"),
        ({"size": 224, "do_center_crop": True, "crop_size": 256}, "preprocessor_config.json: crop=1.14"),
        ({"image_mean": "imagenet"}, "image_mean='imagenet' in preprocessor_config.json: expected a number"),
        ({"image_std": [0, 0, 0]}, "preprocessor_config.json: std=(0, 0, 0): expected numbers above 0"),
        ({"resample": [3]}, "resample=[3] in preprocessor_config.json: expected 0 (nearest)"),
        ({"resample": True}, "resample=True in preprocessor_config.json: expected 0 (nearest)"),
        ({"rescale_factor": 0}, "rescale_factor=0 in preprocessor_config.json: expected a number above 0"),
        ({"resample": 9}, "resample=9 in preprocessor_config.json: expected 0 (nearest)"),
        ({"crop_pct": 0}, "preprocessor_config.json: crop=0.0: expected 0 < crop <= 1"),
    ],
    ids=str,
)
def test_hugging_faces_configs_that_are_refused(config, said):
    with pytest.raises(RequestError) as error:
        from_hf(config, Preprocessing())
    assert str(error.value).startswith(said)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "preprocessing",
    [
        Preprocessing(),
        Preprocessing(224, 0.95, interpolation="bilinear", mean=HALF, std=HALF),
        Preprocessing((24, 16), 1.0, squeeze=True, interpolation="lanczos"),
        Preprocessing(32, 0.9, squeeze=True, scale=1.0, mean=(0.5,), std=(0.25,)),
    ],
)
def test_what_is_written_for_hugging_face_is_read_again(preprocessing):
    default = Preprocessing().for_channels(len(preprocessing.mean))
    assert from_hf(to_hf(preprocessing), default) == preprocessing


def test_what_hugging_face_cannot_say_is_not_written():
    with pytest.raises(RequestError, match=r"^image_size=\(24, 16\): no preprocessor_config.json can express this"):
        to_hf(Preprocessing((24, 16), 0.9))


TIMM = {"input_size": [3, 288, 288], "crop_pct": 0.95, "interpolation": "bilinear", "mean": HALF, "std": [0.2] * 3}


def test_timms_constants():
    expected = Preprocessing(288, 0.95, interpolation="bilinear", mean=HALF, std=(0.2, 0.2, 0.2), even_corner=True)
    assert from_timm(TIMM, Preprocessing()) == expected
    assert from_timm({"crop_mode": "squash"}, Preprocessing()) == Preprocessing(squeeze=True, even_corner=True)
    assert from_timm({"input_size": [3, 24, 16]}, Preprocessing()).size == (24, 16)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"crop_mode": "border"}, "crop_mode='border' in pretrained_cfg of config.json: one of: center, squash"),
        ({"crop_mode": ["center"]}, "crop_mode=['center'] in pretrained_cfg of config.json: did you mean 'center'?"),
        ({"input_size": [224, 224]}, "input_size=[224, 224] in pretrained_cfg of config.json: expected [channels, "),
        ({"interpolation": "random"}, "pretrained_cfg of config.json: interpolation='random': one of: bicubic"),
        ({"crop_pct": "0.9"}, "crop_pct='0.9' in pretrained_cfg of config.json: expected a number"),
    ],
    ids=str,
)
def test_timms_constants_that_are_refused(change, said):
    with pytest.raises(RequestError) as error:
        from_timm(TIMM | change, Preprocessing())
    assert str(error.value).startswith(said)


def test_paths_and_images_are_arrays_alike(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (12, 10, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "image.png")
    prepare = Preprocessing(image_size=8)
    expected = prepare(pixels)
    for image in (tmp_path / "image.png", str(tmp_path / "image.png"), Image.fromarray(pixels)):
        np.testing.assert_array_equal(prepare(image), expected)


@pytest.mark.parametrize(
    ("image", "said"),
    [
        ("no/such.png", "no/such.png does not exist; expected an image"),
        (np.zeros((4, 4, 3)), "image: expected uint8 [height, width, 3], got float64 [4, 4, 3]"),
        (np.zeros((4, 4, 5), np.uint8), "image: expected uint8 [height, width, 3], got uint8 [4, 4, 5]"),
        (np.zeros((2, 4, 4, 3), np.uint8), "image: expected uint8 [height, width, 3], got uint8 [2, 4, 4, 3]"),
        (np.zeros((0, 4, 3), np.uint8), "image: expected uint8 [height, width, 3], got uint8 [0, 4, 3]"),
        (Image.new("I;16", (4, 4)), "image: pixels of mode 'I;16'; expected 8 bits a channel"),
        (3, "image: expected a path, a Pillow image or a uint8 array, got int"),
        (io.BytesIO(), "image: expected a path, a Pillow image or a uint8 array, got BytesIO"),
    ],
)
def test_what_is_no_image_is_one_line(image, said):
    with pytest.raises(RequestError) as error:
        Preprocessing()(image)
    assert str(error.value).startswith(said)
    assert "\n" not in str(error.value)


def test_a_model_of_many_channels_is_not_given_images():
    with pytest.raises(RequestError, match="^image: the model sees 6 channels; images have 1 or 3$"):
        Preprocessing().for_channels(6)(np.zeros((4, 4, 3), np.uint8))


@pytest.mark.parametrize(("extent", "hugging_face", "even"), [(11, 1, 2), (9, 0, 0), (10, 1, 1)])
def test_a_corner_between_two_pixels_is_where_the_publisher_has_it(extent, hugging_face, even):
    """transformers halves an odd margin down; torchvision's CenterCrop, which timm uses, rounds it half to even."""
    rows = np.tile(np.arange(extent, dtype=np.uint8)[:, None, None], (1, extent, 3))
    for image, axis in ((rows, 0), (rows.transpose(1, 0, 2), 1)):
        for even_corner, corner in ((False, hugging_face), (True, even)):
            crop = Preprocessing(8, crop=8 / extent, even_corner=even_corner, **PLAIN)
            out = np.rint(crop(image)[..., 0] * 255)
            assert out.take(0, axis)[0] == corner


def test_the_long_side_is_rounded_down_before_the_crop():
    pixels = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    out = Preprocessing(image_size=32, crop=0.9, **PLAIN)(pixels)
    resized = Image.fromarray(pixels).resize((46, 35), Image.Resampling.NEAREST)  # 35 · 64 / 48 is 46.7
    np.testing.assert_allclose(out * 255, np.asarray(resized.crop((7, 1, 39, 33))), atol=1e-4)
