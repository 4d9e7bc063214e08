"""`launch data`: lists the data sets of the experiments here, and gets those that can be downloaded."""

from __future__ import annotations

import hashlib
import http.client
import sys
import urllib.request
from typing import TYPE_CHECKING

from etils import epath

from experiments.data_sets import DATA_SETS, DataSet, File, missing
from research.console import counted, say
from research.errors import RequestError, nearest, one_line, require
from research.whole_files import written_aside

if TYPE_CHECKING:
    from research.running.request import Request


def list_data() -> int:
    """Prints every data set: whether it is there, its size and licence, who uses it, and how to get it."""
    for data_set in DATA_SETS:
        state = "there" if data_set.is_there else "not there"
        size = size_of(data_set.size) if data_set.size else "–"
        say(f"{data_set.name:18} {state:10} {size:>8}  {data_set.licence}")
        say(f"{'':18} used by {', '.join(data_set.experiments)}")
        say(f"{'':18} {data_set.source if data_set.is_there else data_set.how}")
    absent = [data_set for data_set in DATA_SETS if not data_set.is_there]
    say(f"\n{counted(len(DATA_SETS), 'data set')}, {len(DATA_SETS) - len(absent)} of them there")
    return 0


def prepare_data(name: str, data_dir: str | None = None, manual_dir: str | None = None) -> int:
    """Downloads a data set, verifies it, and prints where it is.

    Args:
      name: one of the names that `list_data` prints, or any name in TensorFlow Datasets.
      data_dir: the folder of prepared data sets of TensorFlow Datasets.
      manual_dir: a folder with files for TensorFlow Datasets that have been downloaded already.

    Raises:
      RequestError: the name is unknown, there is no way to get it by a command, or a file is not as it was.
    """
    found = next((data_set for data_set in DATA_SETS if data_set.name == name), None)
    if found is None or found.tfds is not None:
        from research.data.sources.tfds_prepare import prepare

        try:
            say(str(prepare(name if found is None else found.tfds, data_dir, manual_dir)))
        except RequestError as error:
            if found is None and "has no data set" in str(error):
                raise RequestError(f"{error}; here: {nearest(name, [known.name for known in DATA_SETS])}") from None
            raise
        return 0
    for option, value in (("--data-dir", data_dir), ("--manual-dir", manual_dir)):
        require(value is None, f"{option} {value}: for data sets of TensorFlow Datasets, which {name} is not")
    require(found.is_there or found.can_be_prepared, f"{name}: no command gets it; {found.how}")
    for file in found.files:
        if file.place.is_file():
            digest = hashlib.sha256(file.place.read_bytes()).hexdigest()
            require(digest == file.sha256, f"{file.place}: not the file that the results here were measured with")
        else:
            _download(file)
        say(str(file.place))
    if not found.files:
        say(f"{name}: nothing to do; {found.source}")
    return 0


def check_there(request: Request) -> None:
    """Raises RequestError, which says how to get them, if the data of a request are a data set that is not there."""
    absent = absent_data(request)
    require(absent is None, f"the data set {absent and absent.name} is not there; {absent and absent.how}")


def absent_data(request: Request) -> DataSet | None:
    """The data set that a request needs and that is not there."""
    from research.config.serialization import to_json

    records = {id(trial.experiment.data): trial.experiment.data for trial in request.trials}
    return next((found for data in records.values() if (found := missing(to_json(data))) is not None), None)


def size_of(size: int) -> str:
    """Bytes as people say them.

    >>> size_of(104_745), size_of(7_875_205), size_of(155_642_401_280)
    ('105 kB', '7.9 MB', '156 GB')
    """
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= factor:
            return f"{size / factor:.2g} {unit}" if size < 10 * factor else f"{size / factor:.0f} {unit}"
    return f"{size} B"


def _download(file: File) -> None:
    """Downloads a file to its place, where it is whole or not at all."""
    say(f"{file.url} …", sys.stderr)
    place = epath.Path(file.place)

    def write(aside: epath.Path) -> None:
        digest = hashlib.sha256()
        with urllib.request.urlopen(file.url, timeout=60) as source, open(aside, "wb") as out:
            while part := source.read(2**20):
                digest.update(part)
                out.write(part)
        require(
            digest.hexdigest() == file.sha256,
            f"{file.url}: not the file that the results here were measured with; put that one into {place.parent}",
        )

    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        written_aside(place, write)
    except (OSError, http.client.HTTPException) as error:
        raise RequestError(f"{file.url}: cannot be downloaded ({one_line(error)}); put it at {place}") from None
