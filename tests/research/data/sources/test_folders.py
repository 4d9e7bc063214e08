"""Image folders: layouts, resizing, and errors that name the unusable file."""

import copy
import io
import struct
import zlib

import numpy as np
import PIL.features
import PIL.Image
import pytest
import toys

from research.data.feed import make_feed
from research.data.feeds import make_feeds
from research.data.source import materialize
from research.data.sources.folders import ImageFolder
from research.errors import RequestError
from research.tasks.classification import Classification


def write(path, size=(8, 6), mode="RGB", colour=None, **kwargs):
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.new(mode, size, colour).save(path, **kwargs)


@pytest.fixture
def folder(tmp_path):
    for i in range(10):
        write(tmp_path / "dog" / f"{i}.png", colour=(200, i, 0))
        write(tmp_path / "cat" / f"{i}.jpg", colour=(0, 0, 250))
    return tmp_path


def test_classes_are_folders(folder):
    data = ImageFolder(str(folder), size=(6, 8), validation=4)
    data.check()
    splits = data.load()
    assert [len(split) for split in splits] == [12, 4, 4]
    columns = materialize(splits.train)
    assert columns["image"].shape == (12, 6, 8, 3) and columns["image"].dtype == np.uint8
    assert columns["label"].dtype == np.int32 and np.bincount(columns["label"]).tolist() == [6, 6]
    assert np.array_equal(
        columns["image"][..., 0] > 100, (columns["label"] == 1)[:, None, None] & np.ones((6, 8), bool)
    )
    assert data.fit(splits.train).class_names == ("cat", "dog")
    assert np.bincount(materialize(splits.test)["label"]).tolist() == [2, 2]


def test_split_folders_are_kept(tmp_path):
    for split, n in (("train", 3), ("val", 2), ("test", 1)):
        for name in ("a", "b"):
            for i in range(n):
                write(tmp_path / split / name / f"{i}.png")
    assert [len(split) for split in ImageFolder(str(tmp_path)).load()] == [6, 4, 2]


@pytest.mark.parametrize(
    ("train", "validation", "test"),
    [
        ("Train", "Val", "Test"),
        ("training_set", "validation_set", "test_set"),
        ("training", "valid", "testing"),
        ("TRAIN", "dev", "TEST"),
        ("train data", "validation data", "test data"),
    ],
)
def test_other_spellings_of_splits(tmp_path, train, validation, test):
    for split, n in ((train, 3), (validation, 2), (test, 1)):
        for name in ("cat", "dog"):
            for i in range(n):
                write(tmp_path / split / name / f"{i}.png")
    write(tmp_path / "__MACOSX" / train / "cat" / "0.png")
    data = ImageFolder(str(tmp_path))
    splits = data.load()
    assert [len(split) for split in splits] == [6, 4, 2]
    assert data.fit(splits.train).class_names == ("cat", "dog")


def test_splits_that_are_not_clear_are_refused(tmp_path):
    def refused(*names):
        root = tmp_path / str(len(list(tmp_path.iterdir())))
        for name in names:
            write(root / name / "1.png")
        with pytest.raises(RequestError) as error:
            ImageFolder(str(root)).load()
        return str(error.value).removeprefix(f"path={str(root)!r}")

    assert refused("val/cat", "val/dog", "test/cat") == (
        ": test and val without train; expected a folder train beside it"
    )
    assert refused("Train/cat", "training_set/cat") == ": Train and training_set are folders of one split; expected one"
    assert refused("Test/cat", "Test/dog", "more/cat") == ": more beside Test; expected validation or test"
    assert refused("pets/train/cat", "pets/test/cat").startswith(" holds only the folder pets; did you mean ")
    assert refused("pets/cat", "pets/dog").endswith("pets'?")
    assert refused("cat") == " holds one class, cat; expected a folder per class, at least two"
    assert refused("train/cat", "test/cat").startswith(" holds one class, cat")
    assert "/cat holds test and train; expected test/cat in " in refused("cat/train", "cat/test", "dog/train")


def test_classes_may_be_called_like_splits(tmp_path):
    for name in ("valid", "invalid", "train"):
        write(tmp_path / name / "1.png")
    assert len(ImageFolder(str(tmp_path), test=0).read().train) == 3


def test_images_of_a_type_that_is_not_read_are_told(folder):
    for name in ("1.heic", "2.HEIC", "3.svg", "notes.txt"):
        (folder / "cat" / name).write_bytes(b"")
    with pytest.raises(RequestError, match=r"cat holds images that cannot be read \(2 .heic, 1 .svg\) beside 10 that"):
        ImageFolder(str(folder)).load()


@pytest.mark.parametrize(("suffix", "kind"), [("jfif", "jpeg"), ("jpe", "jpeg"), ("avif", "avif"), ("apng", "png")])
def test_other_suffixes_of_images_are_read(folder, suffix, kind):
    if kind == "avif" and not PIL.features.check(kind):
        pytest.skip("this Pillow reads no AVIF")
    write(folder / "cat" / f"more.{suffix}", format=kind)
    assert len(materialize(ImageFolder(str(folder), test=0).read().train)["label"]) == 21


def test_what_is_no_image_is_left_out(folder):
    for name in ("notes.txt", ".hidden.png", "._1.jpg"):
        (folder / "cat" / name).write_bytes(b"no image")
    write(folder / ".cache" / "1.png")
    (folder / "cat" / ".thumbs").mkdir()
    (folder / "cat" / ".thumbs" / "1.png").write_bytes(b"no image")
    write(folder / "cat" / "more" / "11.PNG")
    assert len(ImageFolder(str(folder), test=0).read().train) == 21


@pytest.mark.parametrize("resize", ["crop", "pad", "stretch"])
def test_every_image_gets_the_size(tmp_path, resize):
    for i, size in enumerate([(4, 9), (30, 20), (16, 16)]):
        write(tmp_path / "a" / f"{i}.png", size, colour=(255, 255, 255))
    image = materialize(ImageFolder(str(tmp_path), size=(12, 16), resize=resize, test=0).read().train)["image"]
    assert image.shape == (3, 12, 16, 3)
    assert (image.min() == 0) == (resize == "pad")


def test_crop_takes_the_centre(tmp_path):
    pixels = np.zeros((4, 12), np.uint8)
    pixels[:, 4:8] = 255
    (tmp_path / "a").mkdir()
    PIL.Image.fromarray(pixels).save(tmp_path / "a" / "1.png")
    image = ImageFolder(str(tmp_path), size=(4, 4), channels=1, test=0).read().train[0]["image"]
    assert image.shape == (4, 4, 1) and image.min() == 255


def test_exif_orientation_is_applied(tmp_path):
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    write(tmp_path / "a" / "1.jpg", (4, 8), exif=exif)
    data = ImageFolder(str(tmp_path), size=(4, 8), resize="pad", test=0)
    assert data.encode([str(tmp_path / "a" / "1.jpg")])["image"].shape == (1, 4, 8, 3)
    white = tmp_path / "a" / "1.jpg"
    write(white, (4, 8), colour=(255, 255, 255), exif=exif)
    assert data.encode([white])["image"].min() == 255  # unturned, it would be padded


@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("RGBA", 4), ("LA", 2), ("1", 1)])
def test_other_channels_are_named_or_converted(folder, mode, channels):
    write(folder / "cat" / "x.png", mode=mode)
    path = str(folder)
    message = rf"cat/x.png has {channels} channels \(mode '{mode}'\), expected channels=3; convert=True converts"
    with pytest.raises(RequestError, match=message):
        materialize(ImageFolder(path, test=0).read().train)
    assert materialize(ImageFolder(path, test=0, convert=True).read().train)["image"].shape[-1] == 3


def test_palettes_are_colour_and_16_bits_are_refused(tmp_path):
    write(tmp_path / "a" / "1.gif", mode="P")
    assert ImageFolder(str(tmp_path), test=0).read().train[0]["image"].shape == (32, 32, 3)
    write(tmp_path / "a" / "2.png", mode="I;16")
    with pytest.raises(RequestError, match=r"2.png: pixels of mode 'I;16'; expected 8 bits a channel"):
        materialize(ImageFolder(str(tmp_path), channels=1, convert=True, test=0).read().train)


def deep_png(colour_type, bands):
    """A PNG of 4 × 4 pixels with 16 bits per channel, which Pillow writes only in grey."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 4, 4, 16, colour_type, 0, 0, 0)
    rows = zlib.compress((b"\0" + bytes(range(4 * 2 * bands))) * 4)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("name", "content", "mode"),
    [
        ("rgb.png", deep_png(2, 3), "RGB;16B"),
        ("la.png", deep_png(4, 2), "LA;16B"),
        ("rgba.png", deep_png(6, 4), "RGBA;16B"),
        ("rgb.ppm", b"P6\n2 2\n65535\n" + bytes(24), "RGB;16"),
    ],
)
def test_16_bits_that_pillow_would_cut_to_8_are_refused(tmp_path, name, content, mode):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / name).write_bytes(content)
    with pytest.raises(RequestError, match=rf"^\S*a/{name}: pixels of mode '{mode}'; expected 8 bits a channel$"):
        materialize(ImageFolder(str(tmp_path), convert=True, test=0).read().train)


def encoded(kind, mode="RGB", **kwargs):
    """The bytes of an image file of noise."""
    buffer = io.BytesIO()
    noise = PIL.Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 48, 3), np.uint8))
    noise.convert(mode).save(buffer, kind, **kwargs)
    return buffer.getvalue()


DAMAGED = {
    "empty": ("png", b""),
    "text": ("png", b"no image"),
    "truncated PNG": ("png", encoded("png")[:3000]),
    "truncated JPEG": ("jpg", encoded("jpeg")[:800]),
    "only a JPEG's first bytes": ("jpg", encoded("jpeg")[:20]),
    "PNG with a wrong byte": ("png", encoded("png")[:200] + b"\0\0\0\0" + encoded("png")[204:]),
    "PNG cut in its header": ("png", encoded("png")[:20]),
    "PNG without a size": ("png", encoded("png")[:8] + struct.pack(">I", 4) + encoded("png")[12:]),
    "PPM cut in its header": ("ppm", b"P6\n4 "),
    "PPM without a number": ("ppm", b"P6\nfour 4\n255\n" + bytes(48)),
    "web page": ("jpg", b"<!DOCTYPE html><title>404</title>"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_image_is_named(folder, case):
    suffix, content = DAMAGED[case]
    (folder / "dog" / f"damaged.{suffix}").write_bytes(content)
    with pytest.raises(RequestError, match=rf"^\S*dog/damaged.{suffix} is not an image that can be read[^\n]*$"):
        materialize(ImageFolder(str(folder), test=0).read().train)


def test_a_damaged_image_that_was_opened_is_named():
    opened = PIL.Image.open(io.BytesIO(encoded("png")[:3000]))
    with pytest.raises(RequestError, match=r"^image 1 is not an image that can be read: [^\n]+$"):
        ImageFolder("").encode([PIL.Image.new("RGB", (4, 4)), opened])


@pytest.mark.parametrize("storage", ["host", "workers"])
def test_a_label_outside_the_classes_names_the_file(folder, storage):
    write(folder / "fox" / "1.png")
    data = ImageFolder(str(folder), size=(4, 4), test=0, validation=0, storage=storage)
    experiment = toys.experiment(data=data, task=Classification(classes=2), batch_size=4)
    splits = data.load()
    says = r"^train split, \S*fox/1.png: label 2 is outside 0 to 1 \(task.classes=2\), as is 1 of 21 examples$"
    with pytest.raises(RequestError, match=says):
        experiment.fit(splits, make_feeds(splits, data).decoded)


@pytest.mark.parametrize(
    ("kind", "mode"),
    [("jpeg", "RGB"), ("jpeg", "CMYK"), ("png", "P"), ("gif", "P"), ("webp", "RGB"), ("bmp", "RGB"), ("tiff", "RGB")],
)
def test_colour_of_any_kind_is_three_channels(tmp_path, kind, mode):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / f"1.{kind}").write_bytes(encoded(kind, mode))
    image = ImageFolder(str(tmp_path), size=(16, 16), test=0).read().train[0]["image"]
    assert image.shape == (16, 16, 3) and image.dtype == np.uint8 and image.std() > 5


@pytest.mark.slow
def test_workers_decode_a_folder_of_mixed_sizes_and_name_what_is_damaged(tmp_path):
    for i in range(12):
        write(tmp_path / "ab"[i % 2] / f"{i}.png", (20 + i, 30 - i), colour=(10 * i, 0, 0))
    splits = ImageFolder(str(tmp_path), size=(8, 8), test=0, validation=0, storage="workers").load()
    expected = make_feed(splits.train, "host").batches(0, 4)
    with make_feed(splits.train, "workers", workers=1).batches(0, 4) as batches:
        for step in range(3):
            for name, x in batches.sent(step).items():
                assert np.array_equal(x, expected[step][name])
    for i in range(2, 12):  # the first image, which gives the shape of all, is read before workers start
        (tmp_path / "ab"[i % 2] / f"{i}.png").write_bytes(b"no image")
    with (
        make_feed(splits.train, "workers", workers=1).batches(0, 12) as batches,
        pytest.raises(RequestError, match=r"[ab]/\d+.png is not an image that can be read"),
    ):
        batches.sent(0)


def test_folders_that_make_no_data_set(folder, tmp_path_factory):
    empty = tmp_path_factory.mktemp("empty")
    with pytest.raises(RequestError, match="holds no class folders; expected"):
        ImageFolder(str(empty)).load()
    with pytest.raises(RequestError, match="does not exist; expected a folder"):
        ImageFolder(str(empty / "missing")).load()
    with pytest.raises(RequestError, match="this is a file"):
        ImageFolder(str(folder / "cat" / "1.jpg")).load()
    (folder / "bird").mkdir()
    with pytest.raises(RequestError, match=r"bird holds no image \(.png"):
        ImageFolder(str(folder)).load()


def test_a_class_that_training_does_not_know(tmp_path):
    for name in ("train/cat", "train/dog", "test/cats"):
        write(tmp_path / name / "1.png")
    with pytest.raises(RequestError, match=r"test/cats is not a class of the training split; did you mean 'cat'"):
        ImageFolder(str(tmp_path)).load()
    write(tmp_path / "extra" / "1.png")
    with pytest.raises(RequestError, match="extra beside train; expected validation or test"):
        ImageFolder(str(tmp_path)).load()


def test_encode_takes_paths_images_and_arrays(folder):
    data = ImageFolder(str(folder), size=(6, 8))
    path = str(folder / "dog" / "3.png")
    pixels = np.asarray(PIL.Image.open(path))
    encoded = data.encode([path, PIL.Image.open(path), pixels])["image"]
    assert encoded.shape == (3, 6, 8, 3) and np.array_equal(encoded, np.stack([pixels] * 3))
    assert ImageFolder("", size=(6, 8), channels=1).encode([pixels[..., :1]])["image"].shape == (1, 6, 8, 1)


def test_encode_takes_arrays_of_images(folder):
    data = ImageFolder(str(folder), size=(6, 8))
    images = np.random.default_rng(0).integers(0, 256, (3, 6, 8, 3), np.uint8)
    assert np.array_equal(data.encode(images)["image"], images)
    columns = data.encode({"image": images, "label": np.arange(3)})
    assert np.array_equal(columns["image"], images) and columns["label"].dtype == np.int32
    assert data.encode({"image": [str(folder / "dog" / "3.png")]})["image"].shape == (1, 6, 8, 3)
    assert data.encode(np.zeros((2, 12, 16, 3), np.uint8))["image"].shape == (2, 6, 8, 3)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ([], "at least one image"),
        (np.zeros((0, 4, 4, 3), np.uint8), "at least one image"),
        (np.zeros((4, 4, 3), np.uint8), r"expected uint8 \[image, height, width, 3\], got uint8 \[4, 4, 3\]"),
        ({"image": np.zeros((2, 4, 4, 3), np.uint8), "label": np.zeros(3)}, "numbers of examples differ"),
        ("a.png", "expected a list"),
        (["missing.png"], "missing.png does not exist"),
        ([np.zeros((4, 4, 3))], r"image 0: expected uint8 \[height, width, 3\], got float64"),
        ([np.zeros((4, 4), np.uint8)], "image 0 has 1 channels"),
    ],
)
def test_encode_refuses(raw, message):
    with pytest.raises(RequestError, match=message):
        ImageFolder("").encode(raw)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"size": (0, 4)}, "size="),
        ({"size": (4,)}, "size="),
        ({"channels": 2}, "channels=2: expected one of 1, 3, 4"),
        ({"resize": "krop"}, "resize='krop': expected one of crop, stretch, pad; did you mean 'crop'"),
    ],
)
def test_check(fields, message):
    with pytest.raises(RequestError, match=f"^{message}"):
        ImageFolder("x", **fields).check()


def test_images_travel_to_workers(folder):
    source = ImageFolder(str(folder)).load().train
    assert np.array_equal(copy.deepcopy(source)[3]["image"], source[3]["image"])
