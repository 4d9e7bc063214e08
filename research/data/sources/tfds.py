"""Data sets prepared by TensorFlow Datasets (array_record), read without TensorFlow; and preparing some of them so.

    python -m research.data.sources.tfds prepare fashion_mnist --data-dir ~/tensorflow_datasets [--manual-dir FILES]

`--manual-dir` is a folder with files downloaded already, by their own names; TFDS checks them against its checksums.
Names are TFDS's: `mnist`, `penguins/simple` (a config), `cifar10:3.0.2` (a version).
"""

from __future__ import annotations

import argparse
import dataclasses
import gzip
import io
import itertools
import os
import re
import sys
import tarfile
from collections.abc import Iterator, Sequence
from typing import Any, Self

import numpy as np
from etils import epath

from research.config.checks import check_counts
from research.data.images import ImageShape, Resize, decode, stack_images
from research.data.source import Source, canonical
from research.data.spec import Data, Splits, check_amount
from research.errors import RequestError, nearest, require

Range = tuple[str, int, int]
"""A split as it was prepared, and the first example of it and the one after the last."""


@dataclasses.dataclass(frozen=True)
class TFDS(Data):
    """A prepared TFDS data set: `TFDS("fashion_mnist")`, `TFDS("penguins/simple", test=0.2, features=...)`.

    `train`, `validation_split` and `test` name splits, slices such as "train[:80%]" included, that share no example;
    `test` may also be a fraction or a number of examples to hold out of train.  `features` are (feature, field) pairs
    to read and what to call them in the batch: (("image", "image"), ("species", "label")); None takes all under their
    own names, but text.  `size` (height, width) is what images are brought to, in the manner of `resize` (see
    `ImageShape`); None leaves them, and then all have to have one size.  One of other channels than the data set
    declares is an error, unless `convert` says to convert it.  `data_dir` is by default the environment's
    TFDS_DATA_DIR, else ~/tensorflow_datasets.
    """

    name: str
    data_dir: str | None = None
    train: str = "train"
    validation_split: str | None = None
    test: str | float | int | None = "test"
    features: tuple[tuple[str, str], ...] | None = None
    size: tuple[int, int] | None = None
    resize: Resize = "crop"
    convert: bool = False
    class_names: tuple[str, ...] | None = None

    def read(self) -> Splits:
        builder = self._builder()
        fields = self._fields(builder.info.features)
        named = ("train", self.train), ("validation_split", self.validation_split), ("test", self.test)
        found = {field: self._source(builder, fields, field, x) for field, x in named if isinstance(x, str)}
        self._check_apart({field: source.ranges for field, source in found.items()})
        train, validation = found["train"], found.get("validation_split")
        if self.test is None or "test" in found:
            return Splits(train, validation, found.get("test"))
        train, test = self.hold_out(train, "test")
        return Splits(train, validation, test)

    def fit(self, train: Source) -> Self:
        """Fills in `class_names`, where `label` is a class."""
        features = self._builder().info.features
        label = {field: feature for feature, field in self._fields(features).items()}.get("label")
        names = getattr(features[label], "names", None) if label else None
        return dataclasses.replace(self, class_names=tuple(names)) if names and self.class_names is None else self

    def example(self) -> dict[str, np.ndarray] | None:
        """From what TFDS knows of the data set, prepared or not; None where sizes differ and `size` says nothing."""
        features = self._features()
        zeros, images = {}, _images(features)
        for feature, field in self._fields(features).items():
            shape = features[feature].shape
            if self.size is not None and feature in images:
                shape = (*self.size, shape[-1])
            if None in shape:
                return None
            zeros[field] = canonical(np.zeros(shape, features[feature].np_dtype), field)
        return zeros

    def encode(self, raw: Any) -> dict[str, np.ndarray]:
        """What to predict on: arrays [example, ...] by name; or, where an example has one image, a list of paths,
        Pillow images or uint8 arrays [height, width, channels], brought to its shape (as TFDS describes the data set,
        prepared or not)."""
        if not isinstance(raw, list | tuple):
            return super().encode(raw)
        features = self._features()
        fields = [field for feature, field in self._fields(features).items() if feature in _images(features)]
        if len(fields) != 1:
            return super().encode(raw)
        example = self.example()
        require(example is not None, "size=None: images of any size; expected an array [example, height, width, ...]")
        height, width, channels = example[fields[0]].shape
        return {fields[0]: stack_images(raw, ImageShape((height, width), channels, self.resize, self.convert))}

    def check(self) -> None:
        super().check()
        parse_name(self.name)
        check_counts(self, "size")
        if isinstance(self.test, float | int):
            check_amount("test", self.test)

    def _builder(self):
        import tensorflow_datasets as tfds

        builder = tfds.builder_from_directory(self._directory())
        if builder.info.file_format is not tfds.core.FileFormat.ARRAY_RECORD:
            raise RequestError(
                f"{self.name!r} in {self._root()} is prepared as {builder.info.file_format.value}; "
                f"expected array_record, which needs no TensorFlow to read: {self._command()}"
            )
        return builder

    def _features(self) -> Any:
        """The features of the data set, prepared or not."""
        try:
            return self._builder().info.features
        except RequestError:  # not prepared, but TFDS may know it
            import tensorflow_datasets as tfds

            name, config, version = parse_name(self.name)
            _check_known(name)
            make = tfds.builder_cls(name)
            return make(config=config, version=version, data_dir=os.fspath(self._root())).info.features

    def _root(self) -> epath.Path:
        return data_dir(self.data_dir)

    def _command(self) -> str:
        return f"python -m research.data.sources.tfds prepare {self.name} --data-dir {self._root()}"

    def _directory(self) -> epath.Path:
        """The folder of the version asked for, else of the newest one that is prepared."""
        name, config, version = parse_name(self.name)
        folder = self._root() / name
        if config:
            folder = folder / config
        found = _versions(folder)
        if not config and not found and folder.exists():
            configs = sorted(p.name for p in folder.iterdir() if p.is_dir() and _versions(p))
            if len(configs) == 1:
                found = _versions(folder / configs[0])
            elif configs:
                raise RequestError(
                    f"{name!r} has several configs; expected {' or '.join(f'{name}/{c}' for c in configs)}"
                )
        if version and version not in found:
            have = f" (there: {', '.join(found)})" if found else ""
            raise RequestError(f"{self.name!r} is not in {self._root()}{have}; to prepare it: {self._command()}")
        if not found:
            raise RequestError(f"{self.name!r} is not in {self._root()}; to prepare it: {self._command()}")
        return found[version] if version else list(found.values())[-1]

    def _fields(self, features: Any) -> dict[str, str]:
        """{feature: field}, what to read of each example and what to call it."""
        if self.features is not None:
            for name, _ in self.features:
                if name not in features:
                    raise RequestError(f"features: {self.name!r} has no feature {name!r}; {nearest(name, features)}")
            return dict(self.features)
        fields = {name: name for name, feature in features.items() if getattr(feature, "np_dtype", None) != np.object_}
        require(bool(fields), f"{self.name!r} holds only text ({', '.join(features)}), which makes no batch as it is")
        return fields

    def _check_apart(self, ranges: dict[str, list[Range]]) -> None:
        """Raises RequestError where two fields name the same examples."""
        for (a, of_a), (b, of_b) in itertools.combinations(ranges.items(), 2):
            for (base, start, stop), (other, first, last) in itertools.product(of_a, of_b):
                shared = min(stop, last) - max(start, first)
                if base == other and shared > 0:
                    given = f"{b}={getattr(self, b)!r} and {a}={getattr(self, a)!r}"
                    raise RequestError(f"{given} share {shared:,} examples of {base!r}; expected splits apart")

    def _source(self, builder: Any, fields: dict[str, str], field: str, split: str) -> Records:
        base = re.split(r"[\[+]", split)[0]
        if base not in builder.info.splits:
            hint = nearest(base, builder.info.splits)
            raise RequestError(
                f"{field}={split!r}: {self.name!r} has no such split; {hint}; or test=0.2 to hold some out"
            )
        shapes = {
            name: ImageShape(self.size, channels, self.resize, self.convert)
            for name, channels in _images(builder.info.features).items()
        }
        return Records(os.fspath(builder.data_dir), split, fields, shapes, _ranges(builder, field, split, base))


class Records:
    """A split of a prepared data set, opened where it is first read: a worker process opens its own."""

    def __init__(
        self,
        directory: str,
        split: str,
        fields: dict[str, str],
        shapes: dict[str, ImageShape],
        ranges: list[Range],
    ):
        self._directory, self._split, self._fields, self._shapes = directory, split, fields, shapes
        self.ranges = ranges
        self._opened: tuple[Any, Any, Any] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_opened": None}

    def __len__(self) -> int:
        return len(self._open()[0])

    def __getitem__(self, i: int) -> dict[str, np.ndarray]:
        return self.__getitems__([i])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, np.ndarray]]:
        records, features, encoded = self._open()
        images = encoded.keys() & self._fields.keys()
        found = []
        for i, record in zip(indices, records.__getitems__(list(indices)), strict=True):
            example = features.deserialize_example_np(record, decoders=encoded)
            for name in images:
                example[name] = decode(io.BytesIO(example[name]), self._shapes[name], self.where(i))
            found.append({field: example[name] for name, field in self._fields.items()})
        return found

    def column(self, name: str) -> np.ndarray | None:
        """One column of plain numbers, without decoding images."""
        records, features, encoded = self._open()
        feature = {field: feature for feature, field in self._fields.items()}.get(name)
        if feature is None or features[feature].shape != () or features[feature].np_dtype == np.object_:
            return None
        values = []
        for start in range(0, len(records), 4096):
            some = records.__getitems__(list(range(start, min(start + 4096, len(records)))))
            values += [features.deserialize_example_np(record, decoders=encoded)[feature] for record in some]
        return np.asarray(values)

    def where(self, i: int) -> str:
        """By its number in the split it is from, whichever slice was asked for."""
        for base, start, stop in self.ranges:
            if i < stop - start:
                return f"{self._directory}, {base}, example {start + i}"
            i -= stop - start
        raise IndexError(i)

    def _open(self) -> tuple[Any, Any, Any]:
        """(the serialized records, the features that decode them, {image feature: what leaves it encoded})."""
        if self._opened is None:
            import tensorflow_datasets as tfds

            builder = tfds.builder_from_directory(self._directory)
            source = builder.as_data_source(split=self._split)
            features = builder.info.features
            encoded = dict.fromkeys(self._shapes, tfds.decode.SkipDecoding())
            self._opened = source.data_source, features, encoded
        return self._opened


def _ranges(builder: Any, field: str, split: str, base: str) -> list[Range]:
    """The examples that a split or slice names."""
    import tensorflow_datasets as tfds

    splits = builder.info.splits
    try:
        asked = tfds.core.ReadInstruction.from_spec(split).to_absolute(splits)
    except Exception:  # a slice that is none is told by TFDS in errors of several kinds, some of two lines
        asked = []
    stops = [splits[part.splitname].num_examples if part.to is None else part.to for part in asked]
    found = [(part.splitname, part.from_ or 0, stop) for part, stop in zip(asked, stops, strict=True)]
    if not found or any(start >= stop for _, start, stop in found):
        there = f"the {splits[base].num_examples:,} examples of {base!r}"
        raise RequestError(
            f"{field}={split!r}: expected a slice of {there}, such as '{base}[:80%]', and not an empty one"
        )
    return found


def _images(features: Any) -> dict[str, int]:
    """{feature: channels} of the images of 8 bits a channel; TFDS itself decodes the others."""
    import tensorflow_datasets as tfds

    found = {name: x for name, x in features.items() if isinstance(x, tfds.features.Image)}
    return {name: image.shape[-1] for name, image in found.items() if image.np_dtype == np.uint8}


def data_dir(given: str | None = None) -> epath.Path:
    """Where prepared data sets are: `given`, else the environment's TFDS_DATA_DIR, else ~/tensorflow_datasets."""
    return epath.Path(given or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()


def parse_name(name: str) -> tuple[str, str | None, str | None]:
    """(name, config, version) of TFDS's `name[/config][:version]`."""
    match = re.fullmatch(r"([A-Za-z]\w*)(?:/([\w.-]+))?(?::(\d+\.\d+\.\d+))?", name)
    if match is None:
        raise RequestError(f"name={name!r}: expected NAME, NAME/CONFIG, NAME:1.2.3 or NAME/CONFIG:1.2.3")
    return match.groups()


def _check_known(name: str) -> None:
    """Raises RequestError, with the nearest name, unless TFDS has a builder of that name."""
    import tensorflow_datasets as tfds

    known = tfds.list_builders(with_community_datasets=False)
    if name not in known:
        raise RequestError(f"TFDS has no data set {name!r}; {nearest(name, known)}")


def prepare(name: str, directory: str | None = None, manual_dir: str | None = None) -> epath.Path:
    """Prepares a data set as array_record, without TensorFlow where that can be; returns its folder.

    The builders below yield encoded bytes where upstream's ask TensorFlow to read or encode; name, version, features
    and checksums remain upstream's.  All other builders are upstream's own, and some of them need TensorFlow.
    """
    import requests
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.download.download_manager import NonMatchingChecksumError

    base, config, version = parse_name(name)
    _check_known(base)
    require(
        manual_dir is None or epath.Path(manual_dir).is_dir(), f"--manual-dir {manual_dir}: there is no such folder"
    )
    root = data_dir(directory)
    make = _builder_class(base, tfds.builder_cls(base))
    if config is not None and config not in make.builder_configs:
        raise RequestError(f"{base!r} has no config {config!r}; {nearest(config, make.builder_configs)}")
    try:
        builder = make(data_dir=os.fspath(root), file_format="array_record", config=config, version=version)
    except (AssertionError, ValueError) as error:  # an unknown version
        raise RequestError(f"{name}: {str(error).strip().splitlines()[0]}") from None
    download = tfds.download.DownloadConfig(
        manual_dir=manual_dir, try_download_gcs=False, force_checksums_validation=True
    )
    try:
        builder.download_and_prepare(download_dir=os.fspath(root / "downloads"), download_config=download)
    except ImportError as error:
        if "tensorflow" not in str(error).lower():
            raise
        raise RequestError(_with_tensorflow(name, root, manual_dir)) from None
    except NonMatchingChecksumError as error:
        raise RequestError(f"{name}: {' '.join(str(error).split())}") from None
    except (tfds.download.DownloadError, requests.RequestException) as error:
        files = ", ".join(sorted({info.filename for info in builder.url_infos.values()}))
        raise RequestError(
            f"{name}: the download failed ({str(error).splitlines()[0]:.120}); "
            f"with the files in a folder, --manual-dir FOLDER takes them from there: {files}"
        ) from None
    return epath.Path(builder.data_dir)


def _builder_class(name: str, upstream: type) -> type:
    """Upstream's builder, with what reads its files replaced where that would need TensorFlow."""
    ours = {
        "mnist": {"_split_generators": _idx_splits, "_generate_examples": _idx_examples},
        "fashion_mnist": {"_split_generators": _idx_splits, "_generate_examples": _idx_examples},
        "kmnist": {"_split_generators": _idx_splits, "_generate_examples": _idx_examples},
        "cifar10": {"_split_generators": _cifar_splits, "_generate_examples": _cifar_examples},
        "cifar100": {"_split_generators": _cifar_splits, "_generate_examples": _cifar_examples},
        "tiny_shakespeare": {"_split_generators": _shakespeare_splits},
    }.get(name)
    if ours is None:
        return upstream
    kept = {"name": name, "url_infos": upstream.url_infos, "__module__": upstream.__module__}
    return type(upstream)(upstream.__name__, (upstream,), kept | ours, skip_registration=True)


def _idx_splits(self, dl_manager):
    """MNIST's four files: images and labels, of train and of test."""
    kinds = ("images-idx3", "labels-idx1")
    files = dl_manager.download({s + k: f"{self.URL}{s}-{k}-ubyte.gz" for s in ("train", "t10k") for k in kinds})
    return {
        split: self._generate_examples(*(files[prefix + kind] for kind in kinds))
        for split, prefix in (("train", "train"), ("test", "t10k"))
    }


def _idx_examples(self, images: epath.Path, labels: epath.Path) -> Iterator[tuple[int, dict[str, Any]]]:
    classes = np.frombuffer(gzip.decompress(labels.read_bytes()), np.uint8, offset=8)
    pixels = np.frombuffer(gzip.decompress(images.read_bytes()), np.uint8, offset=16)
    for i, image in enumerate(pixels.reshape(len(classes), 28, 28)):
        yield i, {"image": _png(image), "label": int(classes[i])}


def _cifar_splits(self, dl_manager):
    """CIFAR's binary archive: the names of the classes, and a file per split or more."""
    info = self._cifar_info
    archive = dl_manager.download(info.url)
    with archive.open("rb") as f, tarfile.open(fileobj=f) as tar:
        for key, file in zip(info.label_keys, info.label_files, strict=True):
            names = tar.extractfile(info.prefix + file).read().decode().split("\n")
            self.info.features[key].names = [name for name in names if name]
    return {
        "train": self._generate_examples("train_", archive, info.train_files),
        "test": self._generate_examples("test_", archive, info.test_files),
    }


def _cifar_examples(self, prefix: str, archive: epath.Path, files: list[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """A record is a byte per label, then 3,072 of pixels: red, green, blue planes of 32 × 32."""
    info = self._cifar_info
    index = 0
    with archive.open("rb") as f, tarfile.open(fileobj=f) as tar:
        for file in files:
            content = np.frombuffer(tar.extractfile(info.prefix + file).read(), np.uint8)
            for record in content.reshape(-1, len(info.label_keys) + 3072):
                labels = dict(zip(info.label_keys, map(int, record), strict=False))
                image = record[len(labels) :].reshape(3, 32, 32).transpose(1, 2, 0)
                yield index, labels | {"id": f"{prefix}{index:05d}", "image": _png(image)}
                index += 1


def _shakespeare_splits(self, dl_manager):
    """90% of the characters to train on, 5% to validate, 5% to test, in this order."""
    (url,) = self.url_infos
    text = dl_manager.download(url).read_text()
    i = int(len(text) * 0.9)
    j = i + int((len(text) - i) * 0.5)
    parts = {"train": text[:i], "validation": text[i:j], "test": text[j:]}
    return {split: self._generate_examples(split, part) for split, part in parts.items()}


def _png(pixels: np.ndarray) -> bytes:
    import PIL.Image

    file = io.BytesIO()
    PIL.Image.fromarray(np.ascontiguousarray(pixels)).save(file, "png")
    return file.getvalue()


def _versions(folder: epath.Path) -> dict[str, epath.Path]:
    """{version: folder} of what is prepared there, oldest first."""
    if not folder.is_dir():
        return {}
    found = [
        p for p in folder.iterdir() if re.fullmatch(r"\d+\.\d+\.\d+", p.name) and (p / "dataset_info.json").exists()
    ]
    return {p.name: p for p in sorted(found, key=lambda p: tuple(map(int, p.name.split("."))))}


def _with_tensorflow(name: str, root: epath.Path, manual_dir: str | None) -> str:
    manual = f", manual_dir={manual_dir!r}" if manual_dir else ""
    script = (
        f"import tensorflow_datasets as t; "
        f"t.builder({name!r}, data_dir={os.fspath(root)!r}, file_format='array_record')"
        f".download_and_prepare(download_config=t.download.DownloadConfig(try_download_gcs=False{manual}))"
    )
    return (
        f"TFDS's builder of {name!r} needs TensorFlow, which this project does without; prepare it once in a "
        f"throw-away environment: uv run --no-project --python 3.11 --with tensorflow-datasets --with tensorflow-cpu "
        f'--with importlib_resources python -c "{script}"'
    )


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m research.data.sources.tfds", description="Prepares TFDS data sets."
    )
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser(
        "prepare", help="download (or take from --manual-dir), check and write as array_record"
    )
    command.add_argument("name", help="NAME, NAME/CONFIG or NAME:VERSION, as TFDS calls it")
    command.add_argument("--data-dir", help="where to (default: $TFDS_DATA_DIR, else ~/tensorflow_datasets)")
    command.add_argument("--manual-dir", help="a folder with the files, if they are downloaded already")
    request = parser.parse_args(argv)
    try:
        print(prepare(request.name, request.data_dir, request.manual_dir))
    except RequestError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
