"""Values to JSON and back, and values that JSON cannot hold."""

import dataclasses
import json
import subprocess
import sys
from typing import ClassVar

import pytest

from research.config.modules import load_module
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
        ({"_type": "no_such_module_here:X"}, "no module"),
        ({"_type": "research.models.mlp:MLP", "widths": [3]}, "classes"),
        ({"_type": "file:/no/such/file.py:X"}, "no such file"),
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


def test_a_class_from_a_file_records_the_file_and_notices_a_change(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("import dataclasses\n\n@dataclasses.dataclass(frozen=True)\nclass Mine:\n    x: int = 1\n")
    record = to_json(load_module(f"file:{path}").Mine(x=4))
    assert record["_type"] == f"file:{path}:Mine" and from_json(record).x == 4
    path.write_text(path.read_text() + "# changed\n")
    with pytest.raises(RequestError, match="has changed since"):
        from_json(record)


def test_a_file_that_cannot_be_imported_is_one_line(tmp_path):
    path = tmp_path / "broken.py"
    path.write_text("x = (\n")
    with pytest.raises(RequestError, match="broken.py, line 1: SyntaxError"):
        load_module(f"file:{path}")
