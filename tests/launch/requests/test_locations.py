"""Odd folders and files on the command line: each gives one line, before anything is loaded or written."""

import json
import shutil
import sys
import time

import pytest
from command_line import files, launch, refused

from research.config.modules import load_module
from research.errors import RequestError
from research.training.folder import read_experiment


@pytest.fixture(autouse=True)
def without_stores(monkeypatch):
    for name in ("gcsfs", "s3fs"):
        monkeypatch.setitem(sys.modules, name, None)


@pytest.fixture
def odd(tmp_path):
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    return {
        "loop": (tmp_path / "loop", "Too many levels of symbolic links"),
        "NUL": ("a\0b", "a path cannot hold the character NUL"),
        "long": (tmp_path / ("x" * 300), "File name too long"),
        "foo": ("foo://a/b", "no such kind of store"),
        "gs": ("gs://a/b", "needs gcsfs, which is not installed"),
    }


@pytest.mark.parametrize("name", ["loop", "NUL", "long", "foo", "gs"])
@pytest.mark.parametrize("command", ["run --out", "report", "report --out", "eval", "init_from"])
def test_an_odd_folder_is_one_line(command, name, odd, world, finished, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path, says = odd[name]
    before = files(tmp_path)
    arguments = {
        "run --out": ["run", world / "fine.py", "--out", path],
        "report": ["report", path],
        "report --out": ["report", finished, "--out", path],
        "eval": ["eval", path],
        "init_from": ["run", world / "fine.py", "--set", f"init_from={path}", "--out", tmp_path / "new"],
    }
    assert says in refused(arguments[command])
    assert files(tmp_path) == before


def test_a_file_that_is_no_python_file_is_one_line(world, tmp_path):
    for name in ("experiment", "experiment.txt"):
        shutil.copy(world / "fine.py", tmp_path / name)
        assert "no Python file; expected a name that ends with .py" in refused(["run", tmp_path / name])
    with pytest.raises(RequestError, match="no Python file"):
        load_module(f"file:{tmp_path / 'experiment'}")


@pytest.mark.parametrize("number", ["5000000", "9" * 18, "9" * 5000])
@pytest.mark.parametrize("command", ["run", "plan"])
def test_millions_of_seeds_are_answered_at_once(number, command, world):
    started = time.monotonic()
    line = refused([command, world / "fine.py", "--seeds", number])
    assert ("expected at most 100,000" in line or "expected a whole number" in line) and len(line) < 200
    assert time.monotonic() - started < 5


DEEP = "[" * 10_000 + "]" * 10_000
RECORDS = {
    "a list": "[]",
    "a number": "5",
    "a text": '"experiment"',
    "a list with that name": '["experiment"]',
    "nested deeply": DEEP,
    "an experiment that is a list": '{"experiment": [1, 2]}',
    "an experiment that is nested": json.dumps({"experiment": 0}).replace("0", "[" * 900 + "]" * 900),
    "an experiment that is nested deeply": '{"experiment": ' + DEEP + "}",
    "an experiment that is another value": '{"experiment": {"_type": "research.optimizers:SGD", "learning_rate": 0.1}}',
}


@pytest.mark.parametrize("name", RECORDS)
def test_a_config_that_is_no_record_is_one_line(name, finished, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    config = run / "trials" / "base-s0" / "config.json"
    config.write_text(RECORDS[name])
    assert "config.json: not readable" in refused(["eval", run]) or "nested too deeply" in refused(["eval", run])
    with pytest.raises(RequestError, match="^[^\n]+$"):
        read_experiment(config.parent)
    assert launch("report", run).status == 0


@pytest.mark.parametrize("text", ["[]", "5", DEEP])
def test_other_records_that_are_none_are_read_as_absent(text, finished, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    (run / "trials" / "base-s0" / "result.json").write_text(text)
    assert launch("eval", run).status == 0
    assert launch("report", run).status == 0
    (run / "sweep.json").write_text(text)
    assert launch("eval", run).status == 0
    assert "sweep.json: " in refused(["report", run])


def test_a_report_that_cannot_be_written_is_one_line_after_the_table(finished, tmp_path):
    (tmp_path / "file").touch()
    outcome = launch("report", finished, "--out", tmp_path / "file" / "report")
    assert outcome.status == 2 and "test/accuracy" in outcome.out
    assert outcome.err.startswith("the report cannot be written: ") and outcome.err.count("\n") == 1
