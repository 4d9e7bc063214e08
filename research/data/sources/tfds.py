"""Data sets prepared by TensorFlow Datasets (array_record), read and partly also prepared without TensorFlow.

    python -m research.data.sources.tfds prepare fashion_mnist --data-dir ~/tensorflow_datasets [--manual-dir FILES]

`--manual-dir` is a folder with files that were already downloaded, under their original names; TFDS verifies their
checksums.  Names are TFDS's: `mnist`, `penguins/simple` (a config), `cifar10:3.0.2` (a version).
"""

from __future__ import annotations

import argparse
import dataclasses
import io
import itertools
import os
import re
import sys
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from etils import epath

from research.config.checks import check_counts
from research.data.images import ImageShape, Resize, decode, stack_images
from research.data.source import Source, canonical
from research.data.sources.tfds_names import check_known, data_dir, open_prepared, parse_name, versions
from research.data.sources.tfds_prepare import prepare
from research.data.spec import Data, Splits, check_amount
from research.errors import RequestError, nearest, require
from research.listing import visible

Range = tuple[str, int, int]
"""A prepared split, its first example, and the example after its last."""


@dataclasses.dataclass(frozen=True)
class TFDS(Data):
    """A data set that TFDS has prepared as array_record.

    >>> data = TFDS("fashion_mnist")
    >>> data = TFDS("penguins/simple", test=0.2, features=(("body_mass_g", "target"), ("species", "label")))

    Attributes:
      name: the name in TFDS: NAME, NAME/CONFIG, NAME:VERSION.
      data_dir: the folder of prepared data sets; None means $TFDS_DATA_DIR, or else ~/tensorflow_datasets.
      train: the training split, or a slice of it, such as "train[:80%]".
      validation_split: the validation split; None holds `validation` out of train.
      test: the test split, or a fraction or number of examples to hold out of train; None for none.  The three splits
        may not share examples.
      features: (feature, name in the batch) pairs to read; None takes all but text, with unchanged names.
      size: (height, width) to resize images to; None keeps them, and then all must have the same size.
      resize: how images are resized (see `ImageShape`).
      convert: convert images whose channels differ from the declared ones, instead of raising an error.
      class_names: the names of the classes; None takes those of TFDS.
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
        """Fills in `class_names` if `label` is a class."""
        features = self._builder().info.features
        label = {field: feature for feature, field in self._fields(features).items()}.get("label")
        names = getattr(features[label], "names", None) if label else None
        return dataclasses.replace(self, class_names=tuple(names)) if names and self.class_names is None else self

    def example(self) -> dict[str, np.ndarray] | None:
        """Zeros for one example, from TFDS's description of the data set, prepared or not; None if `size` is None and
        image sizes differ.
        """
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
        """Encodes inputs for prediction: arrays [example, ...] by name, or a list of images.

        A list is possible if an example has one image.  It holds paths, Pillow images or uint8 arrays [height, width,
        channels], which are resized as in training.  The data set does not need to be prepared.
        """
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

        builder = open_prepared(self._directory())
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
        except RequestError:  # not prepared, but perhaps known to TFDS
            import tensorflow_datasets as tfds

            name, config, version = parse_name(self.name)
            check_known(name)
            make = tfds.builder_cls(name)
            return make(config=config, version=version, data_dir=os.fspath(self._root())).info.features

    def _root(self) -> epath.Path:
        return data_dir(self.data_dir)

    def _command(self) -> str:
        return f"python -m research.data.sources.tfds prepare {self.name} --data-dir {self._root()}"

    def _directory(self) -> epath.Path:
        """The folder of the requested version, or else of the newest prepared one."""
        name, config, version = parse_name(self.name)
        folder = self._root() / name
        if config:
            folder = folder / config
        found = versions(folder)
        if not config and not found and folder.exists():
            configs = [p.name for p in visible(folder) if p.is_dir() and versions(p)]
            if len(configs) == 1:
                found = versions(folder / configs[0])
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
        """Returns {feature: name in the batch} of the features to read."""
        if self.features is not None:
            for name, _ in self.features:
                if name not in features:
                    raise RequestError(f"features: {self.name!r} has no feature {name!r}; {nearest(name, features)}")
            return dict(self.features)
        fields = {name: name for name, feature in features.items() if getattr(feature, "np_dtype", None) != np.object_}
        require(bool(fields), f"{self.name!r} holds only text ({', '.join(features)}), which cannot form batches")
        return fields

    def _check_apart(self, ranges: dict[str, list[Range]]) -> None:
        """Raises RequestError if two splits share examples."""
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
    """A split of a prepared data set, opened on first access, so that each worker process opens its own."""

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
        """Returns a column of numbers without decoding images."""
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
        """Names the example by its index in the original split, for any slice."""
        for base, start, stop in self.ranges:
            if i < stop - start:
                return f"{self._directory}, {base}, example {start + i}"
            i -= stop - start
        raise IndexError(i)

    def _open(self) -> tuple[Any, Any, Any]:
        """Returns (the serialized records, the features that decode them, {image feature: its encoded form})."""
        if self._opened is None:
            import tensorflow_datasets as tfds

            builder = open_prepared(epath.Path(self._directory))
            source = builder.as_data_source(split=self._split)
            features = builder.info.features
            encoded = dict.fromkeys(self._shapes, tfds.decode.SkipDecoding())
            self._opened = source.data_source, features, encoded
        return self._opened


def _ranges(builder: Any, field: str, split: str, base: str) -> list[Range]:
    """The examples of a split or slice."""
    import tensorflow_datasets as tfds

    splits = builder.info.splits
    try:
        asked = tfds.core.ReadInstruction.from_spec(split).to_absolute(splits)
    except Exception:  # TFDS raises errors of several types for an invalid slice
        asked = []
    stops = [splits[part.splitname].num_examples if part.to is None else part.to for part in asked]
    found = [(part.splitname, part.from_ or 0, stop) for part, stop in zip(asked, stops, strict=True)]
    if not found or any(start >= stop for _, start, stop in found):
        there = f"the {splits[base].num_examples:,} examples of {base!r}"
        raise RequestError(f"{field}={split!r}: expected a slice of {there}, such as '{base}[:80%]', that is not empty")
    return found


def _images(features: Any) -> dict[str, int]:
    """Returns {feature: channels} of images with 8 bits per channel; TFDS decodes the others."""
    import tensorflow_datasets as tfds

    found = {name: x for name, x in features.items() if isinstance(x, tfds.features.Image)}
    return {name: image.shape[-1] for name, image in found.items() if image.np_dtype == np.uint8}


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m research.data.sources.tfds", description="Prepares TFDS data sets."
    )
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser(
        "prepare", help="download (or read from --manual-dir), verify and write as array_record"
    )
    command.add_argument("name", help="the name in TFDS: NAME, NAME/CONFIG or NAME:VERSION")
    command.add_argument(
        "--data-dir", help="the output folder (default: $TFDS_DATA_DIR, or else ~/tensorflow_datasets)"
    )
    command.add_argument("--manual-dir", help="a folder with files that were already downloaded")
    request = parser.parse_args(argv)
    try:
        print(prepare(request.name, request.data_dir, request.manual_dir))
    except RequestError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
