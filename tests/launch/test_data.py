"""Data sets of the experiments: which are there, how to get the others, and what commands do without them."""

import dataclasses
import hashlib
import json

import pytest
from command_line import files, launch, refused

import launch.data as commands
from experiments import data_sets
from experiments.data_sets import DATA_SETS, DataSet, File
from launch.list import entries
from launch.request import read_request
from research.config.serialization import to_json
from research.data import TFDS, Classes


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    """Folders of data without any."""
    monkeypatch.setenv("ESPALIER_DATA", str(tmp_path / "files"))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    return tmp_path


@pytest.mark.parametrize("name", [entry.name for entry in entries()])
def test_every_experiment_has_a_data_set_that_it_names(name, nowhere):
    (data_set,) = [found for found in DATA_SETS if name in found.experiments]
    data = read_request(name).experiment.data
    own = data.of if isinstance(data, Classes) else data
    assert (own.name if isinstance(own, TFDS) else None) == data_set.tfds
    assert (data_sets.missing(to_json(data)) is data_set) == bool(data_set.files)
    text = json.dumps(to_json(data))
    assert all(json.dumps(str(file.place)) in text for file in data_set.files)


def test_every_data_set_is_used_by_experiments_that_exist():
    known = {entry.name for entry in entries()}
    assert {name for data_set in DATA_SETS for name in data_set.experiments} == known
    assert all(len(file.sha256) == 64 for data_set in DATA_SETS for file in data_set.files)


def test_the_files_of_the_results_are_those_listed(data_root, monkeypatch):
    monkeypatch.setenv("ESPALIER_DATA", str(data_root))
    for data_set in DATA_SETS:
        for file in data_set.files:
            assert hashlib.sha256(file.place.read_bytes()).hexdigest() == file.sha256, file
        assert not data_set.files or data_set.size == sum(file.place.stat().st_size for file in data_set.files)


def test_data_lists_what_is_there_and_how_to_get_the_rest(nowhere):
    told = launch("data").out
    assert "cifar10            not there    170 MB" in told and "python -m launch data prepare cifar10" in told
    assert f"put cora.npz into {nowhere}/files/planetoid: " in told
    assert "digits             there             –  CC BY 4.0" in told
    assert told.endswith(f"{sum(data_set.is_there for data_set in DATA_SETS)} of them there\n")
    assert "data: multi30k, not there: python -m launch data prepare multi30k\n" in launch("list").out


def test_a_command_whose_data_are_missing_says_how_to_get_them(nowhere):
    line = f"put cora.npz into {nowhere}/files/planetoid: gcn/data of"
    for command in ("run", "plan"):
        told = refused([command, "cora_gnn", *(["--out", nowhere / "run"] if command == "run" else [])])
        assert told.startswith("error: the data set cora is not there; ") and line in told
    assert "python -m launch data prepare esol" in refused(["plan", "esol_gnn"])
    assert files(nowhere) == {}
    own = refused(["run", "cora_gnn", "--set", f"data.path={nowhere}/mine.npz"])
    assert "does not exist" in own and "the data set" not in own


def test_show_works_without_the_data(nowhere):
    shown = launch("show", "cora_gnn", "--set", "steps=7")
    assert shown.status == 0 and shown.err == ""
    assert shown.out.startswith("Cora: ") and "--sweep dropout: 4 variants: dropout 0.5; " in shown.out
    assert '"steps": 7' in shown.out and "cora is not there, which parameters and FLOPs depend on; put" in shown.out


def test_show_names_sweeps_and_their_variants():
    shown = launch("show", "digits_mlp").out
    assert "--sweep activation: 5 variants: relu; gelu; " in shown
    assert "--sweep claim: 2 variants in 20 trials per seed: relu; identity\n" in shown
    assert "--sweep lr_wd: 16 variants: " in shown and "; … 4 more\n" in shown
    assert shown.index("--sweep activation") < shown.index('"_type"') < shown.index("FLOPs per step")


@pytest.fixture
def served(tmp_path, monkeypatch):
    """A data set of two files that can be downloaded, from a folder."""
    monkeypatch.setenv("ESPALIER_DATA", str(tmp_path / "here"))
    there = []
    for name in ("a.csv", "b.csv"):
        content = name.encode() * 1000
        (tmp_path / name).write_bytes(content)
        there.append(File(f"own/{name}", hashlib.sha256(content).hexdigest(), f"file://{tmp_path}/{name}"))
    own = DataSet("own", (), "CC0", 10_000, "here", tuple(there))
    monkeypatch.setattr(commands, "DATA_SETS", (own,))
    return own


def test_prepare_verifies_what_is_there(served, tmp_path):
    served.files[0].place.parent.mkdir(parents=True)
    served.files[0].place.write_text("of another version")
    found = launch("data", "prepare", "own")
    assert found.status == 2 and "a.csv: not the file that the results here were measured with" in found.err


def test_prepare_downloads_what_is_not_there(served, tmp_path):
    done = launch("data", "prepare", "own")
    assert done.status == 0 and done.out == f"{tmp_path}/here/own/a.csv\n{tmp_path}/here/own/b.csv\n"
    assert files(tmp_path / "here" / "own").keys() == {"a.csv", "b.csv"} and served.is_there
    (tmp_path / "a.csv").unlink()
    assert launch("data", "prepare", "own").status == 0


def test_another_file_is_not_taken(served, tmp_path):
    (tmp_path / "b.csv").write_text("changed")
    told = launch("data", "prepare", "own")
    assert told.status == 2 and "b.csv: not the file that the results here were measured with" in told.err
    assert files(tmp_path / "here").keys() == {"own/a.csv"} and not served.is_there
    (tmp_path / "b.csv").unlink()
    assert "b.csv: cannot be downloaded (" in launch("data", "prepare", "own").err


def test_what_cannot_be_prepared_is_said(served, monkeypatch):
    by_hand = dataclasses.replace(served, name="cora", files=(File("own/c.npz", "0" * 64),))
    monkeypatch.setattr(commands, "DATA_SETS", (served, by_hand))
    assert "cora: no command gets it; put c.npz into" in refused(["data", "prepare", "cora"])
    assert "own, which" not in refused(["data", "prepare", "onw"]) and "'own'" in refused(["data", "prepare", "onw"])
    assert "--manual-dir x: for data sets of TensorFlow" in refused(["data", "prepare", "own", "--manual-dir", "x"])
    assert "which data set?" in refused(["data", "prepare"])
