"""The data sets of the experiments here: where they come from, what may be done with them, and whether they are there.

python -m launch data                       lists them
python -m launch data prepare multi30k      downloads one, where that is possible
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Iterator
from typing import Any

from research.data.sources.tfds_names import data_dir, versions


@dataclasses.dataclass(frozen=True)
class File:
    """A file of a data set.

    Attributes:
      path: its path in $ESPALIER_DATA.
      sha256: the hash of its bytes as the results here were measured with.
      url: where it can be downloaded; None if it has to be made or found as the data set's `source` says.
    """

    path: str
    sha256: str
    url: str | None = None

    @property
    def place(self) -> pathlib.Path:
        return root() / self.path


@dataclasses.dataclass(frozen=True)
class DataSet:
    """A data set that experiments use.

    Attributes:
      experiments: the modules that use it.
      licence: its licence, or what its authors say instead.
      size: bytes to download; 0 for one that is generated or comes with a library.
      source: where it comes from.
      files: its files in $ESPALIER_DATA.
      tfds: its name in TensorFlow Datasets, if it is prepared by that.
    """

    name: str
    experiments: tuple[str, ...]
    licence: str
    size: int
    source: str
    files: tuple[File, ...] = ()
    tfds: str | None = None

    @property
    def is_there(self) -> bool:
        if self.tfds is not None:
            return bool(versions(data_dir() / self.tfds))
        return all(file.place.is_file() for file in self.files)

    @property
    def can_be_prepared(self) -> bool:
        """True if a command makes it, without an account or work by hand."""
        return self.tfds is not None or bool(self.files) and all(file.url for file in self.files)

    @property
    def how(self) -> str:
        """One line: how to get it."""
        if self.can_be_prepared:
            own = f"; {self.source}" if self.tfds == "imagenet2012" else ""
            return f"python -m launch data prepare {self.name}{own}"
        if not self.files:
            return self.source
        names = " and ".join(pathlib.PurePath(file.path).name for file in self.files)
        return f"put {names} into {self.files[0].place.parent}: {self.source}"


def root() -> pathlib.Path:
    """The folder of data sets that are files: $ESPALIER_DATA, or else data/ in the working directory."""
    return pathlib.Path(os.environ.get("ESPALIER_DATA", "data"))


def of_experiment(name: str) -> DataSet | None:
    """The data set of an experiment here, given the last word of its module."""
    return next((data_set for data_set in DATA_SETS if name in data_set.experiments), None)


def missing(record: Any) -> DataSet | None:
    """A data set whose files a data spec names, and which is not there.

    Args:
      record: the spec, or whole experiment, as `research.config.serialization.to_json` makes it.
    """
    named = set(_texts(record))
    for data_set in DATA_SETS:
        if any(os.path.normpath(file.place) in named and not file.place.is_file() for file in data_set.files):
            return data_set
    return None


def _texts(record: Any) -> Iterator[str]:
    if isinstance(record, str):
        yield os.path.normpath(record)
    elif isinstance(record, dict | list):
        for child in record.values() if isinstance(record, dict) else record:
            yield from _texts(child)


_MULTI30K = "https://raw.githubusercontent.com/multi30k/dataset/master/data/task1/raw"
_DEEPCHEM = "https://raw.githubusercontent.com/deepchem/deepchem/master/datasets"
_MOLECULE_NET = "MoleculeNet's file of that name (https://moleculenet.org/datasets-1)"
_PLANETOID = "gcn/data of https://github.com/tkipf/gcn (MIT), as an .npz file with the arrays that data.Planetoid names"

DATA_SETS = (
    DataSet(
        "adult",
        ("adult_mlp",),
        "CC BY 4.0",
        614_223,
        "adult.data and adult.test of https://archive.ics.uci.edu/dataset/2/adult, compressed by gzip",
        (
            File("adult/adult.data.gz", "c7a2b4716a97f930123e0baf879188d701e798172631a654fc703d4b082907f3"),
            File("adult/adult.test.gz", "8a2c1bffa6e7ce5abfa43881ae5e87c4311ebc2b3cd526c9c40a43f19f06f799"),
        ),
    ),
    DataSet(
        "bace",
        ("bace_gnn",),
        "no licence file",
        104_745,
        _MOLECULE_NET,
        (File("molecules/bace.csv", "d050b0c79a1b101532172ec503819633b73cca0f4d009c88ef6c6d20e5d85ef9"),),
    ),
    DataSet(
        "bbbp",
        ("bbbp_gnn",),
        "no licence file",
        113_118,
        _MOLECULE_NET,
        (File("molecules/bbbp.csv", "55d3978a6766b43462db4de2f9e787c14deb80329c99585d061150e68f7b1c37"),),
    ),
    DataSet(
        "bccd",
        ("bccd_detr", "bccd_yolox"),
        "MIT",
        7_875_205,
        "https://github.com/Shenggan/BCCD_Dataset",
        (
            File(
                "bccd/BCCD_Dataset-1.0.zip",
                "97af5cc16d14d293fcb3c82a8f66e49b0339a8d0abd8e9508e0feeb4911caa1f",
                "https://github.com/Shenggan/BCCD_Dataset/archive/v1.0.zip",
            ),
        ),
    ),
    DataSet(
        "cifar10",
        ("cifar10_convnext", "cifar10_dit", "cifar10_resnet", "cifar10_unet", "cifar10_vit", "transfer"),
        "none stated; its author asks to be cited",
        170_498_071,
        "https://www.cs.toronto.edu/~kriz/cifar.html",
        tfds="cifar10",
    ),
    DataSet(
        "citeseer",
        ("citeseer_gnn",),
        "MIT",
        174_022,
        _PLANETOID,
        (File("planetoid/citeseer.npz", "73cb4a83ad472ca6661846288c691f15b4ffab20993d64fc69891efea5992893"),),
    ),
    DataSet(
        "cora",
        ("cora_gnn",),
        "MIT",
        86_936,
        _PLANETOID,
        (File("planetoid/cora.npz", "bb28262aec98985e4b11ea7aa3f87ecd4410ac4e4d419fd682eb44cc9fc364ee"),),
    ),
    DataSet("diabetes", ("diabetes_mlp",), "BSD 3-Clause (scikit-learn)", 0, "comes with scikit-learn"),
    DataSet("digits", ("digits_diffusion", "digits_mlp"), "CC BY 4.0", 0, "comes with scikit-learn"),
    DataSet(
        "esol",
        ("esol_gnn",),
        "MIT",
        96_699,
        "https://github.com/deepchem/deepchem",
        (
            File(
                "molecules/delaney-processed.csv",
                "8c06a76f0c6487d29ab0f903e6a7a7139f189ab3c1178f159c8be8964602f189",
                f"{_DEEPCHEM}/delaney-processed.csv",
            ),
        ),
    ),
    DataSet(
        "fashion_mnist",
        ("fashion_diffusion", "fashion_mnist_cnn"),
        "MIT",
        30_878_645,
        "https://github.com/zalandoresearch/fashion-mnist",
        tfds="fashion_mnist",
    ),
    DataSet("graph_pairs", ("graph_expressiveness",), "none needed", 0, "generated"),
    DataSet(
        "imagenet2012",
        ("imagenet_resnet50",),
        "research only, by agreement",
        155_642_401_280,
        "--manual-dir FOLDER with the archives of https://image-net.org, which needs an account",
        tfds="imagenet2012",
    ),
    DataSet(
        "lipo",
        ("lipo_gnn",),
        "MIT",
        223_301,
        _MOLECULE_NET,
        (File("molecules/Lipophilicity.csv", "53f4d75dad1ff26224df1fe0523de4af1ecf867855f18c1794a1a20de44d42da"),),
    ),
    DataSet(
        "multi30k",
        ("multi30k_translation",),
        "none stated for the texts; images not for commerce",
        1_296_271,
        "https://github.com/multi30k/dataset",
        tuple(
            File(f"multi30k/{name}.gz", sha256, f"{_MULTI30K}/{name}.gz")
            for name, sha256 in (
                ("train.de", "726e39b2fa9eb9ffb6dc763fb35a179f80fae06ffc5d28b6ace5faa883de28a6"),
                ("train.en", "d79cfa999dd4c51d2cb42499b6796d5a882c3a8a961923c25a898c90f8bbd56f"),
                ("val.de", "f0cba2f995189cf5770f29a8a9a537a3ad3f51657ad873405082ff6863a5e75a"),
                ("val.en", "14f7d25ddd868909a9213e361768460edcacdd6ab9d1e77b92560dc10c10dc28"),
                ("test_2016_flickr.de", "9204244e408ccb38d2a55cfcd344df15005fc42a07a6e55ca6c52b6ababb8cc8"),
                ("test_2016_flickr.en", "611d361c6334bc7246101d48097c13cf5c4413c5befc793cc629934359d532d9"),
            )
        ),
    ),
    DataSet("python", ("python_gpt",), "PSF-2.0", 0, "the library that comes with Python"),
    DataSet("recall", ("long_memory",), "none needed", 0, "generated"),
    DataSet("shapes", ("published_sizes",), "none needed", 0, "shapes without numbers"),
    DataSet("scattered_digits", ("digits_detection",), "CC BY 4.0", 0, "generated from scikit-learn's digits"),
    DataSet(
        "spoken_digit",
        ("spoken_digits",),
        "CC BY-SA 4.0",
        11_975_353,
        "https://github.com/Jakobovski/free-spoken-digit-dataset",
        (
            File(
                "spoken_digit/free-spoken-digit-dataset-1.0.9.tar.gz",
                "8bc44cde129d505cbbb6b365c09f80c663f2aa77578afc634e6141a2f87100c0",
                "https://github.com/Jakobovski/free-spoken-digit-dataset/archive/v1.0.9.tar.gz",
            ),
        ),
    ),
    DataSet(
        "tatoeba",
        ("tatoeba_translation",),
        "CC BY 2.0",
        4_012_023,
        "the German pairs of https://www.manythings.org/anki (those of 2018; later ones have more)",
        (File("tatoeba_anki_deu_eng/deu-eng.zip", "b7688f84f99fa33c17397c14d8bd9cef1fdeb2ee0bf50074767023aee8926e28"),),
    ),
    DataSet(
        "tiny_shakespeare",
        ("shakespeare_gpt",),
        "public-domain text",
        1_115_394,
        "https://github.com/karpathy/char-rnn",
        (
            File(
                "tiny_shakespeare/input.txt",
                "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
                "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt",
            ),
        ),
    ),
    DataSet(
        "tox21",
        ("tox21_gnn",),
        "MIT",
        125_310,
        "https://github.com/deepchem/deepchem",
        (
            File(
                "molecules/tox21.csv.gz",
                "48b34e4e59a2bae6f95734cd206c1869ab355f50a5e50bb7371a21f861d5e297",
                f"{_DEEPCHEM}/tox21.csv.gz",
            ),
        ),
    ),
)
