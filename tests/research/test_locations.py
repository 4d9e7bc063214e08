"""Folders that a person names: what no file system takes, and stores that are not there, in one line."""

import os
import sys

import pytest

from research.errors import RequestError
from research.locations import location

ODD = {
    "NUL": ("a\0b", "a path cannot hold the character NUL"),
    "too long": ("x" * 300, "File name too long"),
    "too deep": ("x/" * 5000, "File name too long"),
    "another kind of store": ("foo://bucket/run", "no such kind of store; expected a folder, gs://… or s3://…"),
    "a store without its library": ("gs://bucket/run", r"needs gcsfs, which is not installed: pip .* '.\[gcs\]'"),
    "another store without its library": ("s3://bucket/run", r"pip install -e '.\[s3\]'"),
}


@pytest.fixture
def without_stores(monkeypatch):
    for name in ("gcsfs", "s3fs"):
        monkeypatch.setitem(sys.modules, name, None)


@pytest.mark.parametrize("name", ODD)
def test_what_cannot_be_a_folder_is_one_line(name, without_stores):
    path, says = ODD[name]
    with pytest.raises(RequestError, match=f"^--out [^\n]*{says}") as error:
        location(path, "--out ")
    assert len(str(error.value)) < 400


def test_a_link_to_itself_is_one_line(tmp_path):
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(RequestError, match="Too many levels of symbolic links"):
        location(tmp_path / "loop" / "run")


@pytest.mark.parametrize("path", ["runs/new", "file/inside", "file", ".", "dangling"])
def test_other_paths_are_left_to_their_readers(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    (tmp_path / "dangling").symlink_to("nowhere")
    assert os.fspath(location(path)) == path
