"""Exhibits as files of a trial: exhibits/EVALUATION/NAME/STEP.npz, without pickle; written whole or not at all."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import urllib.parse
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from etils import epath

from research.errors import RequestError, one_line, require
from research.evaluation import tensorboard
from research.evaluation.exhibits import KINDS, Boxes, ConfusionMatrix, Exhibit

LIMIT = 64 * 2**20
"""Bytes of arrays in one file: an exhibit is a few examples, no data set."""

KEPT = 24
"""Steps of one exhibit whose files stay; between the first and the newest they are thinned evenly."""


class Saved(NamedTuple):
    """The file of one exhibit at one step."""

    evaluation: str
    name: str
    step: int
    path: epath.Path

    def read(self) -> Exhibit:
        """The exhibit.

        Raises:
          RequestError: the file is not whole, or holds no exhibit.
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
    events: Any = None,
) -> list[str]:
    """Writes the exhibits of one evaluation of a trial.

    Args:
      folder: of the trial.
      evaluation: its name, such as "validation".
      step: of training.
      exhibits: by name.
      class_names: those of the data, for exhibits of as many classes that have none of their own.
      events: tensorboardX's writer, which is to show them too.

    Returns a line for each exhibit that was cut or left out because it is larger than `LIMIT`.

    Raises:
      RequestError: something is no exhibit, or its name cannot be a file's.
    """
    said = []
    for name, exhibit in exhibits.items():
        require(
            isinstance(exhibit, Exhibit),
            f"exhibit {name!r}: a {type(exhibit).__name__}; expected one of {', '.join(KINDS)}",
        )
        fitting = _fitting(exhibit)
        if fitting is not exhibit:
            kept = "left out" if fitting is None else f"cut to {len(getattr(fitting, fitting.examples[0]))} examples"
            said.append(f"{evaluation} exhibit {name!r}: over {LIMIT >> 20} MiB, {kept}; give fewer examples")
        if fitting is not None:
            where = epath.Path(folder) / "exhibits" / _file_name(evaluation) / _file_name(name)
            fitting = _named(fitting, class_names)
            _write(where / f"{step}.npz", {"kind": np.asarray(type(fitting).__name__), **fitting.arrays()})
            _thin(where)
            if events is not None:
                tensorboard.add(events, f"{evaluation}/{name}", fitting, step)
    return said


def read_exhibits(folder: epath.PathLike) -> list[Saved]:
    """The files of a trial's exhibits, by evaluation and name, steps ascending; none where there are none."""
    found = []
    for evaluation in _children(epath.Path(folder) / "exhibits"):
        for exhibit in _children(evaluation):
            names = urllib.parse.unquote(evaluation.name), urllib.parse.unquote(exhibit.name)
            found += [Saved(*names, step, path) for step, path in _steps(exhibit).items()]
    return found


def _fitting(exhibit: Exhibit) -> Exhibit | None:
    """As many of its examples as fit into a file; None where it has no examples to cut."""
    size = sum(x.nbytes for x in exhibit.arrays().values())
    if size <= LIMIT:
        return exhibit
    each = sum(x[:1].nbytes for name, x in exhibit.arrays().items() if name in exhibit.examples)
    shared = sum(x.nbytes for name, x in exhibit.arrays().items() if name not in exhibit.examples)
    count = (LIMIT - shared) // each if each else 0
    return exhibit.first(count) if count > 0 else None


def _named(exhibit: Exhibit, class_names: Sequence[str] | None) -> Exhibit:
    """The exhibit with the names of its classes, where they fit and it has none."""
    if class_names is not None and isinstance(exhibit, Boxes | ConfusionMatrix) and exhibit.class_names is None:
        with contextlib.suppress(RequestError):  # of other classes than the data's
            return dataclasses.replace(exhibit, class_names=class_names)
    return exhibit


def _write(path: epath.Path, arrays: Mapping[str, np.ndarray]) -> None:
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    path.parent.mkdir(parents=True, exist_ok=True)
    if "://" in os.fspath(path):
        path.write_bytes(file.getvalue())  # an object store puts whole objects
        return
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(file.getvalue())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _thin(folder: epath.Path) -> None:
    """Deletes steps until `KEPT` are left, those nearest their neighbours; never the first or the newest."""
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
    """A name as a file's: what a path would understand is written as %XX."""
    quoted = urllib.parse.quote(name, safe=" +,=@()[]")
    quoted = f"%2E{quoted[1:]}" if quoted.startswith(".") else quoted
    require(0 < len(quoted) <= 200, f"exhibit name {name!r:.80}: expected 1 to 200 characters of a file's name")
    return quoted
