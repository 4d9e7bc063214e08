"""Writes and reads a trial's exhibits, exhibits/EVALUATION/NAME/STEP.npz, atomically and without pickle."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import urllib.parse
import zipfile
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from etils import epath

from research.console import counted
from research.errors import RequestError, one_line, require
from research.evaluation.exhibits import KINDS, Boxes, ConfusionMatrix, Exhibit
from research.whole_files import write_whole

LIMIT = 64 * 2**20
"""Maximum bytes of arrays in one file: an exhibit holds a few examples, not a data set."""

KEPT = 24
"""Maximum number of files of one exhibit; files between the first and the newest step are thinned evenly."""


class Saved(NamedTuple):
    """The file of one exhibit at one step."""

    evaluation: str
    name: str
    step: int
    path: epath.Path

    def read(self) -> Exhibit:
        """Reads the exhibit.

        Raises:
          RequestError: the file is damaged or holds no exhibit.
        """
        try:
            with np.load(io.BytesIO(self.path.read_bytes()), allow_pickle=False) as held:
                arrays = dict(held)
            return KINDS[str(arrays.pop("kind"))](**arrays)
        except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
            raise RequestError(f"{self.path}: no exhibit ({one_line(error)})") from None


def write_exhibits(
    folder: epath.PathLike,
    evaluation: str,
    step: int,
    exhibits: Mapping[str, Exhibit],
    *,
    class_names: Sequence[str] | None = None,
    show: Callable[[str, Exhibit], None] | None = None,
) -> list[str]:
    """Writes the exhibits of one evaluation of a trial.

    Args:
      folder: the trial's folder.
      evaluation: the name of the evaluation, such as "validation".
      step: the step of training.
      exhibits: the exhibits by name.
      class_names: class names of the data, added to exhibits of as many classes that have no class names.
      show: called with the name of each exhibit and the exhibit as it was written.

    Returns:
      A line for each exhibit that was cut or left out because it is larger than `LIMIT`.

    Raises:
      RequestError: a value is not an exhibit, or its name cannot be used as a file name.
    """
    said = []
    for name, exhibit in exhibits.items():
        require(
            isinstance(exhibit, Exhibit),
            f"exhibit {name!r}: a {type(exhibit).__name__}; expected one of {', '.join(KINDS)}",
        )
        fitting = _fitting(exhibit)
        if fitting is not exhibit:
            fit = 0 if fitting is None else len(getattr(fitting, fitting.examples[0]))
            kept = f"cut to {counted(fit, 'example')}" if fit else "left out"
            said.append(f"{evaluation} exhibit {name!r}: over {LIMIT >> 20} MiB, {kept}; give fewer examples")
        if fitting is not None:
            where = epath.Path(folder) / "exhibits" / _file_name(evaluation) / _file_name(name)
            fitting = _named(fitting, class_names)
            _write(where / f"{step}.npz", {"kind": np.asarray(type(fitting).__name__), **fitting.arrays()})
            _thin(where)
            if show is not None:
                show(name, fitting)
    return said


def read_exhibits(folder: epath.PathLike) -> list[Saved]:
    """Lists the files of a trial's exhibits, sorted by evaluation, name and step; [] if there are none."""
    found = []
    for evaluation in _children(epath.Path(folder) / "exhibits"):
        for exhibit in _children(evaluation):
            names = urllib.parse.unquote(evaluation.name), urllib.parse.unquote(exhibit.name)
            found += [Saved(*names, step, path) for step, path in _steps(exhibit).items()]
    return found


def _fitting(exhibit: Exhibit) -> Exhibit | None:
    """The exhibit cut to as many examples as fit into a file; None if cutting examples is not enough."""
    size = sum(x.nbytes for x in exhibit.arrays().values())
    if size <= LIMIT:
        return exhibit
    each = sum(x[:1].nbytes for name, x in exhibit.arrays().items() if name in exhibit.examples)
    shared = sum(x.nbytes for name, x in exhibit.arrays().items() if name not in exhibit.examples)
    count = (LIMIT - shared) // each if each else 0
    return exhibit.first(count) if count > 0 else None


def _named(exhibit: Exhibit, class_names: Sequence[str] | None) -> Exhibit:
    """Adds class names to an exhibit that has none, if their number fits."""
    if class_names is not None and isinstance(exhibit, Boxes | ConfusionMatrix) and exhibit.class_names is None:
        with contextlib.suppress(RequestError):  # the exhibit has other classes than the data
            return dataclasses.replace(exhibit, class_names=class_names)
    return exhibit


def _write(path: epath.Path, arrays: Mapping[str, np.ndarray]) -> None:
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, file.getvalue())


def _thin(folder: epath.Path) -> None:
    """Deletes files until `KEPT` are left, each time the one nearest its neighbours, never the first or the newest."""
    paths = _steps(folder)
    while len(paths) > KEPT:
        steps = list(paths)
        gaps = {steps[i]: steps[i + 1] - steps[i - 1] for i in range(1, len(steps) - 1)}
        paths.pop(min(gaps, key=gaps.__getitem__)).unlink(missing_ok=True)


def _steps(folder: epath.Path) -> dict[int, epath.Path]:
    """{step: its file}, ascending."""
    paths = {int(path.stem): path for path in _children(folder) if path.suffix == ".npz" and path.stem.isdecimal()}
    return dict(sorted(paths.items()))


def _children(folder: epath.Path) -> list[epath.Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _file_name(name: str) -> str:
    """Turns a name into a file name: characters with a meaning in paths are written as %XX."""
    quoted = urllib.parse.quote(name, safe=" +,=@()[]")
    quoted = f"%2E{quoted[1:]}" if quoted.startswith(".") else quoted
    require(0 < len(quoted) <= 200, f"exhibit name {name!r:.80}: expected 1 to 200 characters of a file's name")
    return quoted
