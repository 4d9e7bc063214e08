"""Prepares TFDS data sets as array_record, without TensorFlow where possible."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
from collections.abc import Iterator
from typing import Any

import numpy as np
from etils import epath

from research.data.sources.tfds_names import check_known, data_dir, parse_name
from research.errors import RequestError, nearest, require


def prepare(name: str, directory: str | None = None, manual_dir: str | None = None) -> epath.Path:
    """Prepares a data set as array_record, without TensorFlow where possible, and returns its folder.

    The builders below read and encode files themselves where TFDS's builders use TensorFlow; names, versions, features
    and checksums are TFDS's.  Other data sets use TFDS's own builders, some of which need TensorFlow.
    """
    import requests
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.download.download_manager import NonMatchingChecksumError

    base, config, version = parse_name(name)
    check_known(base)
    require(manual_dir is None or epath.Path(manual_dir).is_dir(), f"--manual-dir {manual_dir}: no such folder")
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
            f"to use files that you have, give their folder with --manual-dir FOLDER: {files}"
        ) from None
    return epath.Path(builder.data_dir)


def _builder_class(name: str, upstream: type) -> type:
    """TFDS's builder, with its file reading replaced where that would need TensorFlow."""
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
    """MNIST's four files: images and labels of the training and test splits."""
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
    """CIFAR's binary archive: the names of the classes, and one or more files per split."""
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
    """Reads records of one byte per label, then 3,072 bytes of pixels: red, green and blue planes of 32 × 32."""
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
    """90% of the characters for training, then 5% for validation, then 5% for testing."""
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


def _with_tensorflow(name: str, root: epath.Path, manual_dir: str | None) -> str:
    manual = f", manual_dir={manual_dir!r}" if manual_dir else ""
    script = (
        f"import tensorflow_datasets as t; "
        f"t.builder({name!r}, data_dir={os.fspath(root)!r}, file_format='array_record')"
        f".download_and_prepare(download_config=t.download.DownloadConfig(try_download_gcs=False{manual}))"
    )
    return (
        f"TFDS's builder of {name!r} needs TensorFlow, which this project does not use; prepare it once in a "
        f"temporary environment: uv run --no-project --python 3.11 --with tensorflow-datasets --with tensorflow-cpu "
        f'--with importlib_resources python -c "{script}"'
    )
