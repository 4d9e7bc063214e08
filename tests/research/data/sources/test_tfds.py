"""Prepared TFDS data sets without TensorFlow: reading, preparing, and the command to type if one is missing."""

import dataclasses
import gzip
import io
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tarfile

import numpy as np
import pytest

from research.data.feed import make_feed
from research.data.source import materialize
from research.data.sources.tfds import TFDS, main
from research.data.sources.tfds_names import parse_name
from research.data.sources.tfds_prepare import prepare
from research.errors import RequestError

tfds = pytest.importorskip("tensorflow_datasets")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A folder with two small data sets: `shapes` (images, a class, text), and `rows` in two configs."""
    root = str(tmp_path_factory.mktemp("tfds"))

    def png(value):
        import PIL.Image

        file = io.BytesIO()
        PIL.Image.new("L", (4, 4), value).save(file, "png")
        return file.getvalue()

    class Shapes(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("1.2.0")
        SUPPORTED_VERSIONS = [tfds.core.Version("1.10.0")]
        name = "shapes"

        def _info(self):
            features = {
                "image": tfds.features.Image(shape=(4, 4, 1)),
                "label": tfds.features.ClassLabel(names=["round", "square"]),
                "id": tfds.features.Text(),
                "size": np.float32,
            }
            return self.dataset_info_from_configs(features=tfds.features.FeaturesDict(features))

        def _split_generators(self, dl_manager):
            return {"train": self._examples(0, 40), "test": self._examples(40, 50)}

        def _generate_examples(self):
            return iter(())

        def _examples(self, start, stop):
            for i in range(start, stop):
                yield i, {"image": png(i), "label": i % 2, "id": f"shape {i}", "size": i / 2}

    class Rows(Shapes, skip_registration=True):
        name = "rows"
        BUILDER_CONFIGS = [
            tfds.core.BuilderConfig(name=n, version=tfds.core.Version("1.2.0")) for n in ("big", "small")
        ]

    builders = [Shapes(data_dir=root, version=v, file_format="array_record") for v in ("1.2.0", "1.10.0")]
    builders += [Rows(data_dir=root, config=c, file_format="array_record") for c in ("big", "small")]
    for builder in builders:
        builder.download_and_prepare()
    return root


def test_splits_as_prepared(root):
    data = TFDS("shapes", root, validation=0.2)
    data.check()
    splits = data.load()
    assert [len(split) for split in splits] == [32, 8, 10]
    columns = materialize(splits.test)
    assert sorted(columns["image"][:, 0, 0, 0]) == list(range(40, 50))
    assert columns["image"].shape == (10, 4, 4, 1) and columns["image"].dtype == np.uint8
    assert columns["label"].dtype == np.int32 and columns["size"].dtype == np.float32
    assert columns.keys() == {"image", "label", "size"}  # text makes no batch
    assert np.array_equal(columns["image"][:, 0, 0, 0] / 2, columns["size"])
    assert np.bincount(materialize(splits.validation)["label"]).tolist() == [4, 4]
    assert data.fit(splits.train).class_names == ("round", "square")


def test_features_by_other_names(root):
    features = (("image", "x"), ("size", "target"))
    splits = TFDS("shapes", root, test=0.25, features=features).load()
    assert [len(split) for split in splits] == [27, 3, 10]
    assert materialize(splits.train).keys() == {"x", "target"}
    assert TFDS("shapes", root, features=features).fit(splits.train).class_names is None


def test_images_are_brought_to_a_size(root):
    whole, small = (materialize(TFDS("shapes", root, size=size).read().test) for size in (None, (2, 3)))
    assert small["image"].shape == (10, 2, 3, 1) and small["image"].dtype == np.uint8
    assert np.array_equal(small["image"][:, 1, 2, 0], whole["image"][:, 0, 0, 0])  # each image has one grey value
    assert np.array_equal(small["label"], whole["label"])


def image_file(mode="RGB", kind="png"):
    import PIL.Image

    file = io.BytesIO()
    noise = PIL.Image.fromarray(np.random.default_rng(0).integers(0, 256, (4, 4, 3), np.uint8))
    noise.convert(mode).save(file, kind)
    return file.getvalue()


def pictures(folder, content, image=None):
    """A prepared data set of one image, of 4 × 4 pixels and 3 channels unless declared otherwise."""

    class Pictures(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("1.0.0")
        name = "pictures"

        def _info(self):
            features = tfds.features.FeaturesDict({"image": image or tfds.features.Image(shape=(4, 4, 3))})
            return self.dataset_info_from_configs(features=features)

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples()}

        def _generate_examples(self):
            yield 0, {"image": content}

    Pictures(data_dir=str(folder), file_format="array_record").download_and_prepare()
    return TFDS("pictures", str(folder), test=None)


DAMAGED = {"no image": b"no image", "empty": b"", "truncated": image_file(kind="jpeg")[:500]}


@pytest.mark.parametrize("size", [None, (2, 2)])
@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_image_is_named(tmp_path, content, size):
    source = dataclasses.replace(pictures(tmp_path, content), size=size).read().train
    with pytest.raises(RequestError) as error:
        materialize(source)
    place = f"{tmp_path}/pictures/1.0.0, train, example 0 is not an image that can be read"
    assert str(error.value).startswith(place)
    assert "<" not in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("size", [None, (2, 2)])
def test_other_channels_than_declared_are_named_or_converted(tmp_path, size):
    data = dataclasses.replace(pictures(tmp_path, image_file("L")), size=size)
    message = r"^\S+, train, example 0 has 1 channels \(mode 'L'\), expected channels=3; convert=True converts"
    with pytest.raises(RequestError, match=message):
        materialize(data.read().train)
    image = dataclasses.replace(data, convert=True).read().train[0]["image"]
    assert image.shape == (*(size or (4, 4)), 3) and np.ptp(image, axis=-1).max() == 0


def test_images_of_floats_are_left_to_tfds(tmp_path):
    """TFDS writes a float32 as the four channels of a pixel, so there is nothing to resize or convert."""
    import PIL.Image

    values = np.random.default_rng(0).random((4, 4), np.float32)
    file = io.BytesIO()
    PIL.Image.fromarray(values[..., None].view(np.uint8)).save(file, "png")
    image = tfds.features.Image(shape=(4, 4, 1), dtype=np.float32)
    image._image_encoder.encode_image_or_path = bytes  # TFDS's own uses TensorFlow
    data = dataclasses.replace(pictures(tmp_path, file.getvalue(), image), size=(8, 8))
    found = data.read().train[0]["image"]
    assert found.shape == data.example()["image"].shape
    np.testing.assert_array_equal(found[..., 0], values)


def test_shapes_are_known_without_examples(root, tmp_path):
    assert {name: (x.shape, x.dtype) for name, x in TFDS("shapes", root).example().items()} == {
        "image": ((4, 4, 1), np.uint8),
        "label": ((), np.int32),
        "size": ((), np.float32),
    }
    absent = TFDS("imagenet2012", str(tmp_path), size=(256, 256)).example()
    assert absent["image"].shape == (256, 256, 3) and absent.keys() == {"image", "label"}
    assert TFDS("imagenet2012", str(tmp_path)).example() is None  # of all sizes
    with pytest.raises(RequestError, match="^TFDS has no data set 'imagenet2021'; did you mean 'imagenet2012'"):
        TFDS("imagenet2021", str(tmp_path)).example()


def test_slices_and_own_validation(root):
    data = TFDS("shapes", root, train="train[:10]", validation_split="train[10:14]", test=None)
    splits = data.load()
    assert [split and len(split) for split in splits] == [10, 4, None]
    assert splits.validation.where(1).endswith(", train, example 11")  # by the index in the split
    both = TFDS("shapes", root, train="train[:10]+test[5:]", test=None, validation=0).load().train
    assert len(both) == 15 and both.where(12).endswith(", test, example 7")
    assert both[12]["size"] == TFDS("shapes", root).read().test[7]["size"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"test": "train[80%:]"}, r"test='train\[80%:\]' and train='train' share 8 examples of 'train'; expected"),
        ({"test": "train"}, "test='train' and train='train' share 40 examples of 'train'"),
        ({"validation_split": "train"}, "validation_split='train' and train='train' share 40"),
        ({"validation_split": "test[:3]"}, r"test='test' and validation_split='test\[:3\]' share 3 examples of 'test'"),
        ({"train": "train[:200]"}, r"train='train\[:200\]': expected a slice of the 40 examples of 'train', such as"),
        ({"test": "test[0:0]"}, r"test='test\[0:0\]': expected a slice of the 10 examples of 'test'"),
        ({"test": "test[5:2]"}, r"test='test\[5:2\]': expected a slice"),
        ({"validation_split": "train[:x]"}, r"validation_split='train\[:x\]': expected a slice"),
        ({"train": "train["}, r"train='train\[': expected a slice"),
    ],
)
def test_splits_that_overlap_and_slices_that_are_none(root, fields, message):
    with pytest.raises(RequestError, match=f"^{message}[^\n]*$"):
        TFDS(**{"name": "shapes", "data_dir": root} | fields).load()


def test_encode_takes_columns_and_images(root, tmp_path):
    import PIL.Image

    data = TFDS("shapes", root)
    images = data.load().test[0]["image"][None]
    assert np.array_equal(data.encode({"image": images})["image"], images)
    large = PIL.Image.new("L", (8, 8), 7)
    large.save(tmp_path / "7.png")
    encoded = data.encode([large, str(tmp_path / "7.png"), np.full((4, 4), 7, np.uint8)])["image"]
    assert encoded.shape == (3, 4, 4, 1) and (encoded == 7).all()
    with pytest.raises(RequestError, match="^image 0 has 3 channels"):
        data.encode([PIL.Image.new("RGB", (4, 4))])
    with pytest.raises(RequestError, match="^expected a dict of arrays"):
        TFDS("shapes", root, features=(("size", "x"),)).encode([large])
    with pytest.raises(RequestError, match="^size=None: images of any size; expected an array"):
        TFDS("imagenet2012", str(tmp_path)).encode([large])


def test_versions_and_configs(root):
    assert TFDS("shapes", root)._directory().name == "1.10.0"  # the newest, not the last in alphabetical order
    assert TFDS("shapes:1.2.0", root)._directory().name == "1.2.0"
    assert TFDS("rows/small", root)._directory().parts[-2:] == ("small", "1.2.0")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": "mnist"}, "'mnist' is not in .*python -m research.data.sources.tfds prepare mnist --data-dir "),
        ({"name": "shapes:2.0.0"}, r"'shapes:2.0.0' is not in .* \(there: 1.2.0, 1.10.0\); to prepare it: python -m"),
        ({"name": "rows"}, "'rows' has several configs; expected rows/big or rows/small"),
        ({"name": "rows/tiny"}, "'rows/tiny' is not in .*prepare rows/tiny"),
        ({"features": (("imag", "x"),)}, "features: 'shapes' has no feature 'imag'; did you mean 'image'"),
        ({"train": "training"}, "train='training': 'shapes' has no such split; did you mean 'train'"),
        ({"test": "validation"}, "test='validation': .*one of: test, train.*test=0.2 to hold some out"),
    ],
)
def test_what_is_not_there(root, fields, message):
    with pytest.raises(RequestError, match=f"^{message}"):
        TFDS(**{"name": "shapes", "data_dir": root} | fields).load()


def test_tfrecord_is_refused_with_the_command(root, tmp_path):
    shutil.copytree(pathlib.Path(root) / "shapes" / "1.2.0", tmp_path / "shapes" / "1.2.0")
    info = tmp_path / "shapes" / "1.2.0" / "dataset_info.json"
    info.write_text(info.read_text().replace("array_record", "tfrecord"))
    with pytest.raises(
        RequestError, match="is prepared as tfrecord; expected array_record.*research.data.sources.tfds prepare"
    ):
        TFDS("shapes", str(tmp_path)).load()


FOREIGN = {
    "as written": {"pythonClassName": "my_features.Mine", "tensor": {"shape": {}, "dtype": "float32"}},
    "in older files": {"type": "my_features.Mine", "content": {}},
    "in text": {
        "pythonClassName": "tensorflow_datasets.core.features.features_dict.FeaturesDict",
        "jsonFeature": {"json": '{"x": {"type": "my_features.Mine", "content": {}}}'},
    },
    "in text of older files": {
        "type": "tensorflow_datasets.core.features.features_dict.FeaturesDict",
        "proto_cls": "tensorflow_datasets.FeaturesDict",
        "content": '{"features": {"x": {"python_class_name": "my_features.Mine"}}}',
    },
}


@pytest.mark.parametrize("feature", FOREIGN.values(), ids=FOREIGN)
def test_classes_that_features_name_are_not_imported(root, tmp_path, monkeypatch, feature):
    (tmp_path / "my_features.py").write_text("import pathlib; pathlib.Path(__file__).with_name('ran').touch()")
    monkeypatch.syspath_prepend(str(tmp_path))
    shutil.copytree(pathlib.Path(root) / "shapes" / "1.2.0", tmp_path / "shapes" / "1.2.0")
    file = tmp_path / "shapes" / "1.2.0" / "features.json"
    record = json.loads(file.read_text())
    record["featuresDict"]["features"]["size"] = feature
    file.write_text(json.dumps(record))
    with pytest.raises(RequestError, match="features.json: a feature is of the class 'my_features.Mine'; expected a"):
        TFDS("shapes", str(tmp_path)).load()
    assert not (tmp_path / "ran").exists()


def test_unreadable_features_are_named(root, tmp_path):
    shutil.copytree(pathlib.Path(root) / "shapes" / "1.2.0", tmp_path / "shapes" / "1.2.0")
    (tmp_path / "shapes" / "1.2.0" / "features.json").write_text('{"pythonClassName": ')
    with pytest.raises(RequestError, match="features.json: expected the features of a data set"):
        TFDS("shapes", str(tmp_path)).load()


def test_the_default_folder(monkeypatch, root):
    monkeypatch.setenv("TFDS_DATA_DIR", root)
    assert len(TFDS("shapes").read().train) == 40
    monkeypatch.delenv("TFDS_DATA_DIR")
    assert TFDS("shapes")._root() == pathlib.Path("~/tensorflow_datasets").expanduser()


def test_names():
    assert parse_name("penguins/simple:1.0.0") == ("penguins", "simple", "1.0.0")
    assert parse_name("mnist") == ("mnist", None, None)
    for name in ("", "a b", "mnist:3", "mnist/", "../mnist"):
        with pytest.raises(RequestError, match="expected NAME"):
            TFDS(name).check()


def test_a_data_set_that_is_text(tmp_path):
    text = "".join(f"line {i}\n" for i in range(100))
    (tmp_path / "input.txt").write_text(text)
    assert split_lengths(prepare_with("tiny_shakespeare", tmp_path, ["input.txt"])) == {
        "train": int(len(text) * 0.9),
        "validation": int(len(text) * 0.05),
        "test": len(text) - int(len(text) * 0.9) - int(len(text) * 0.05),
    }
    with pytest.raises(RequestError, match="'tiny_shakespeare' holds only text"):
        TFDS("tiny_shakespeare", str(tmp_path)).load()


def split_lengths(folder):
    builder = tfds.builder_from_directory(folder)
    return {s: len(builder.as_data_source(split=s)[0]["text"]) for s in builder.info.splits}


def prepare_with(name, folder, files):
    """Prepares from small generated files with the official names, and replaces TFDS's checksums by theirs."""
    import hashlib

    from tensorflow_datasets.core.download import checksums

    cls = tfds.builder_cls(name)
    infos = {}
    for url, info in cls.url_infos.items():
        if info.filename in files:
            content = (folder / info.filename).read_bytes()
            sha = hashlib.sha256(content).hexdigest()
            infos[url] = checksums.UrlInfo(size=len(content), checksum=sha, filename=info.filename)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cls, "url_infos", infos)
        return prepare(name, str(folder), str(folder))


def test_preparing_idx_files(tmp_path):
    rng = np.random.default_rng(0)
    images = {"train": rng.integers(0, 256, (7, 28, 28), np.uint8), "t10k": rng.integers(0, 256, (3, 28, 28), np.uint8)}
    files = []
    for prefix, x in images.items():
        for kind, header, content in (("images-idx3", 16, x), ("labels-idx1", 8, np.arange(len(x), dtype=np.uint8))):
            files.append(f"{prefix}-{kind}-ubyte.gz")
            (tmp_path / files[-1]).write_bytes(gzip.compress(bytes(header) + content.tobytes()))
    prepare_with("kmnist", tmp_path, files)
    columns = materialize(TFDS("kmnist", str(tmp_path)).read().train)
    assert np.array_equal(columns["image"][np.argsort(columns["label"])][..., 0], images["train"])
    assert TFDS("kmnist", str(tmp_path)).fit(None).class_names[:2] == ("o", "ki")


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_preparing_cifar_archives(tmp_path, name):
    info = tfds.builder_cls(name)(data_dir=str(tmp_path))._cifar_info
    rng = np.random.default_rng(0)
    file = f"cifar-{name.removeprefix('cifar')}-binary.tar.gz"
    written = []
    with tarfile.open(tmp_path / file, "w:gz") as tar:

        def add(name, content):
            member = tarfile.TarInfo(info.prefix + name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))

        for label_file in info.label_files:
            count = 20 if "coarse" in label_file else int(name.removeprefix("cifar"))
            add(label_file, "".join(f"class{i}\n" for i in range(count)).encode())
        for part in (*info.train_files, *info.test_files):
            labels = rng.integers(0, 10, (4, len(info.label_keys)), np.uint8)
            pixels = rng.integers(0, 256, (4, 3, 32, 32), np.uint8)
            written.append((labels, pixels))
            add(part, np.concatenate([labels, pixels.reshape(4, -1)], axis=1).tobytes())
    prepare_with(name, tmp_path, [file])
    columns = materialize(TFDS(name, str(tmp_path)).read().test)
    labels, pixels = written[-1]
    ours = {image.tobytes(): int(label) for image, label in zip(columns["image"], columns["label"], strict=True)}
    theirs = {x.transpose(1, 2, 0).tobytes(): int(y[-1]) for x, y in zip(pixels, labels, strict=True)}
    assert ours == theirs and ("coarse_label" in columns) == (name == "cifar100")
    assert TFDS(name, str(tmp_path)).fit(None).class_names[1] == "class1"


def test_preparing_what_cannot_be(tmp_path, capsys):
    def said(*argv):
        assert main(["prepare", *argv, "--data-dir", str(tmp_path)]) == 2
        lines = capsys.readouterr().err.strip().splitlines()
        return lines[-1]

    assert said("fashionmnist") == "TFDS has no data set 'fashionmnist'; did you mean 'fashion_mnist'?"
    assert "only: 3.0.1" in said("fashion_mnist:9.0.0")
    assert "'penguins' has no config 'simpel'; did you mean 'simple'?" in said("penguins/simpel")
    assert "no such folder" in said("mnist", "--manual-dir", str(tmp_path / "missing"))
    (tmp_path / "input.txt").write_text("another text")
    assert "wrong checksum" in said("tiny_shakespeare", "--manual-dir", str(tmp_path))


def test_upstreams_builders_that_need_tensorflow_say_how(tmp_path, monkeypatch):
    """If TFDS's builder needs TensorFlow, the error shows the command for an environment that has it."""
    assert "tensorflow" not in sys.modules
    penguins = tfds.builder_cls("penguins")

    def needs_tensorflow(self, dl_manager):
        import tensorflow  # noqa: F401

    monkeypatch.setattr(penguins, "_split_generators", needs_tensorflow)
    with pytest.raises(
        RequestError, match="needs TensorFlow.*uv run --no-project .*--with tensorflow-cpu.*penguins/simple"
    ):
        prepare("penguins/simple", str(tmp_path))


def real_data():
    folder = os.environ.get("ESPALIER_DATA")
    if not folder:
        pytest.skip("ESPALIER_DATA names no folder of real data")
    return pathlib.Path(folder)


def test_prepared_penguins():
    folder = real_data().parent / "tfds"
    features = (("species", "label"), ("island", "island"))
    data = TFDS("penguins/simple", str(folder), test=0.2, features=features)
    splits = data.load()
    assert [len(split) for split in splits] == [247, 28, 69]
    assert data.fit(splits.train).class_names == ("Adelie", "Chinstrap", "Gentoo")


@pytest.mark.slow
def test_penguins_by_upstreams_builder_and_without_tensorflow(tmp_path):
    folder = real_data() / "penguins"
    command = [sys.executable, "-m", "research.data.sources.tfds", "prepare", "penguins/simple"]
    command += ["--data-dir", str(tmp_path), "--manual-dir", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip().splitlines()[-1] == str(tmp_path / "penguins" / "simple" / "1.0.0")
    script = (
        "import sys; from research.data.sources.tfds import TFDS\n"
        f"data = TFDS('penguins/simple', {str(tmp_path)!r}, test=0.2, features=(('species', 'label'),))\n"
        "print(len(data.load().train), data.load().train[0], 'tensorflow' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("247 ") and done.stdout.strip().endswith("False")


@pytest.mark.slow
def test_fashion_mnist_from_its_files_to_a_batch(tmp_path):
    prepare("fashion_mnist", str(tmp_path), str(real_data() / "fashion_mnist"))
    assert "tensorflow" not in sys.modules
    data = TFDS("fashion_mnist", str(tmp_path))
    splits = data.load()
    assert [len(split) for split in splits] == [54_000, 6_000, 10_000]
    assert data.fit(splits.train).class_names[9] == "Ankle boot"
    feed = make_feed(splits.test, "host")
    columns = feed.source.arrays()
    assert np.bincount(columns["label"]).tolist() == [1000] * 10
    assert columns["image"].shape == (10_000, 28, 28, 1)
    np.testing.assert_allclose(columns["image"].mean(), 73.1466, atol=1e-3)
    expected = feed.batches(0, 128)[3]
    with make_feed(splits.test, "workers", workers=2).batches(0, 128) as batches:
        for name, x in batches.sent(3).items():
            assert np.array_equal(x, expected[name])
