"""Values to JSON and back, and values that JSON cannot hold."""

import dataclasses
import json
import pathlib
import py_compile
import subprocess
import sys
from typing import ClassVar

import pytest

from research.config.modules import file_hash, load_module
from research.config.serialization import from_json, stable_hash, to_json
from research.errors import RequestError
from research.models.mlp import MLP
from research.optimizers import AdamW
from research.schedules import Cosine


@dataclasses.dataclass(frozen=True)
class Renamed:
    width: int = 3
    renamed_fields: ClassVar[dict[str, str]] = {"size": "width"}


def test_round_trip_through_text():
    value = (AdamW(schedule=Cosine(warmup_steps=3), rates=(("a/*", 0.5),)), MLP(widths=(3,), classes=2), None, True)
    assert from_json(json.loads(json.dumps(to_json(value)))) == value


def test_the_hash_is_the_same_in_another_process():
    code = "from research.models.mlp import MLP; from research.config.serialization import stable_hash;"
    code += "print(stable_hash(MLP(widths=(3, 4), classes=2)))"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert other == stable_hash(MLP(widths=(3, 4), classes=2)) != stable_hash(MLP(widths=(3, 5), classes=2))


def test_a_renamed_field_still_loads():
    record = to_json(Renamed()) | {"size": 7}
    del record["width"]
    assert from_json(record) == Renamed(width=7)


@pytest.mark.parametrize(
    ("record", "says"),
    [
        ({"_type": "research.models.mlp:MLP", "width": 3}, "did you mean 'widths'"),
        ({"_type": "research.models.mlp:MPL"}, "did you mean 'MLP'"),
        ({"_type": "research.models.mlp:activation"}, "no dataclass"),
        ({"_type": "os:system"}, "no dataclass 'system'"),
        ({"_type": "research.no_such_module:X"}, "no module"),
        ({"_type": "research.models.mlp:MLP", "_sha256": "0", "widths": [3], "width": 3}, "no field 'width'"),
        ({"_type": "no_such_module_here:X"}, "no_such_module_here: not of this project"),
        ({"_type": "launch.__main__:X"}, "not of this project"),
        ({"_type": "experiments.analysis.__main__:X"}, "not of this project"),
        ({"_type": "experiments..analysis:X"}, "not of this project"),
        ({"_type": "research.models.mlp:MLP", "widths": [3]}, "classes"),
        ({"_type": "file:/no/such/file.py:X"}, "/no/such/file.py: not of this project"),
    ],
)
def test_a_record_that_cannot_be_a_value_is_one_line(record, says):
    with pytest.raises(RequestError, match="^[^\n]+$") as error:
        from_json(record)
    assert says in str(error.value)


@pytest.mark.parametrize("value", [lambda x: x, object(), float("nan"), {1, 2}])
def test_what_is_no_value_is_refused(value):
    with pytest.raises(RequestError):
        to_json((value,))


MINE = "import dataclasses, pathlib\n\n@dataclasses.dataclass(frozen=True)\nclass Mine:\n    x: int = 1\n"


def bomb(path):
    """Writes a file that leaves a mark when its code runs; returns a record of its class, and the mark."""
    mark = path.with_name("executed")
    path.write_text(f"{MINE}\npathlib.Path({str(mark)!r}).touch()\n")
    return {"_type": f"file:{path}:Mine", "_sha256": file_hash(path), "x": 4}, mark


def test_a_file_runs_only_if_it_is_trusted_and_has_the_hash_of_the_record(tmp_path):
    record, mark = bomb(tmp_path / "theirs.py")
    with pytest.raises(RequestError, match=r"theirs.py: not of this project.*trust=True or --trust$"):
        from_json({"model": [record]})
    without = {key: value for key, value in record.items() if key != "_sha256"}
    with pytest.raises(RequestError, match="theirs.py: this record lacks the file's hash, so its code is not run"):
        from_json(without, trust=True)
    for wrong in ("0" * 64, 3, ["x"]):
        with pytest.raises(RequestError, match="theirs.py has changed since this record was written"):
            from_json(record | {"_sha256": wrong}, trust=True)
    assert not mark.exists()
    assert from_json(record, trust=True).x == 4 and mark.exists()
    mark.unlink()
    assert from_json(record).x == 4 and not mark.exists()  # the user has executed the file already


def test_the_bytes_that_run_are_those_of_the_hash(tmp_path):
    """A compiled file beside the source, or a file that changes later, is not what a record is of."""
    record, mark = bomb(tmp_path / "compiled.py")
    py_compile.compile(str(tmp_path / "compiled.py"), invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
    (tmp_path / "compiled.py").write_text(MINE)
    harmless = record | {"_sha256": file_hash(tmp_path / "compiled.py")}
    value = from_json(harmless, trust=True)
    assert value.x == 4 and not mark.exists()
    (tmp_path / "compiled.py").write_text("import nonsense")
    assert to_json(value) == harmless


def test_modules_outside_of_the_project_are_imported_only_if_they_are_trusted(tmp_path, monkeypatch):
    _, mark = bomb(tmp_path / "installed_by_somebody.py")
    monkeypatch.syspath_prepend(tmp_path)
    record = {"_type": "installed_by_somebody:Mine", "x": 4}
    with pytest.raises(RequestError, match="^installed_by_somebody: not of this project.*--trust$"):
        from_json(record)
    assert not mark.exists() and "installed_by_somebody" not in sys.modules
    assert from_json(record, trust=True).x == 4 and mark.exists()


@pytest.mark.parametrize("imported", [False, True])
def test_a_folder_called_like_the_project_is_not_of_it(tmp_path, imported):
    """In a folder with an `experiments` package of its own, found first, nothing below it is imported.

    The project's own package is taken instead, unless theirs has been imported already.
    """
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "__init__.py").write_text("")
    _, mark = bomb(tmp_path / "experiments" / "theirs.py")
    code = "import sys; sys.path.insert(0, '.'); from research.config.modules import load_module, of_project\n"
    code += "import experiments\n" if imported else ""
    code += "print(of_project('experiments.digits_mlp'), of_project('research.models.mlp'))\n"
    code += "try:\n    load_module('experiments.theirs') if of_project('experiments.theirs') else None\n"
    code += "except ValueError as error:\n    print(error)"
    root = str(pathlib.Path(__file__).parents[3])
    found = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.append({root!r})\n{code}"],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    theirs = "False True\n" if imported else "True True\nno module 'experiments.theirs'\n"
    assert found == theirs and not mark.exists()


def test_a_class_from_a_file_records_the_file_and_notices_a_change(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("import dataclasses\n\n@dataclasses.dataclass(frozen=True)\nclass Mine:\n    x: int = 1\n")
    record = to_json(load_module(f"file:{path}").Mine(x=4))
    assert record["_type"] == f"file:{path}:Mine" and from_json(record).x == 4
    path.write_text(path.read_text() + "# changed\n")
    del sys.modules[f"file:{path}"]
    load_module(f"file:{path}")  # as when the user gives the changed file again
    with pytest.raises(RequestError, match="has changed since"):
        from_json(record)


def test_a_file_that_cannot_be_imported_is_one_line(tmp_path):
    path = tmp_path / "broken.py"
    path.write_text("x = (\n")
    with pytest.raises(RequestError, match="broken.py, line 1: SyntaxError"):
        load_module(f"file:{path}")


def test_a_class_is_found_by_the_face_of_its_package():
    """In a new process, where nothing has imported it yet."""
    code = """if True:
        from research.config.serialization import from_json
        print(type(from_json({"_type": "research.optimizers:SGD", "learning_rate": 0.1})).__name__)
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "SGD\n"
