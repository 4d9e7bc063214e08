"""The installed command, and a user's own folder called experiments/."""

import json
import os
import pathlib
import shlex
import subprocess
import sys
import tomllib

import pytest
from command_line import launch, refused, write_module

from launch.cli import COMMANDS, EXAMPLES, parser
from launch.list import EXPERIMENTS, module_name
from launch.request import read_request
from research.errors import RequestError

ROOT = EXPERIMENTS.parent

MINE = """
    import dataclasses

    from experiments.digits_mlp import experiment as digits
    from research.models import MLP


    class Mine(MLP):
        pass


    def experiment():
        small = dataclasses.replace(digits(), steps=2, batch_size=8, model=Mine(widths=(), classes=10))
        return dataclasses.replace(small, data=dataclasses.replace(small.data, train_examples=64))
    """


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A working directory with experiments/mine.py."""
    (tmp_path / "experiments").mkdir()
    write_module(tmp_path / "experiments" / "mine.py", MINE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def installed(folder, *arguments):
    """Runs `espalier ARGUMENTS` in a folder, as pip installs it: a script that calls the function in pyproject.toml."""
    module, function = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]["espalier"].split(":")
    script = folder / "bin" / "espalier"
    script.parent.mkdir(exist_ok=True)
    script.write_text(f"import sys\nfrom {module} import {function}\nsys.exit({function}())\n")
    environment = os.environ | {"PYTHONPATH": str(ROOT), "JAX_NUM_CPU_DEVICES": "1"}
    return subprocess.run(
        [sys.executable, script, *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )


def test_the_installed_command_runs_experiments_of_the_working_directory(own):
    done = installed(own, "run", "experiments.mine", "--stack", "off")
    assert done.returncode == 0, done.stderr
    run = own / "runs" / "mine" / "base"
    asked = json.loads((run / "sweep.json").read_text())
    assert asked["command"] == "espalier run experiments.mine --stack off"
    assert asked["experiment"] == f"file:{own}/experiments/mine.py" and asked["commit"] is None
    assert "espalier run experiments.mine" in (run / "report" / "table.md").read_text()
    config = json.loads((run / "trials" / "base-s0" / "config.json").read_text())
    assert config["experiment"]["model"]["_type"] == f"file:{own}/experiments/mine.py:Mine"


def test_help_names_the_command_as_it_was_typed(own):
    assert installed(own, "--help").stdout.startswith("usage: espalier ")
    wrong = installed(own, "run")
    assert wrong.returncode == 2 and "see espalier run --help" in wrong.stderr


@pytest.mark.parametrize("example", [example for examples in EXAMPLES.values() for example in examples])
def test_examples_of_the_help_can_be_typed(example):
    asked = parser().parse_args(shlex.split(example))
    assert asked.command == example.split()[0]
    if hasattr(asked, "experiment") and asked.experiment != "mine.py":
        read_request(asked.experiment, sweep=getattr(asked, "sweep", None), settings=asked.settings)


def test_every_command_has_an_example(capsys):
    assert tuple(EXAMPLES) == COMMANDS
    with pytest.raises(SystemExit):
        parser().parse_args(["eval", "--help"])
    said = capsys.readouterr().out
    assert "examples:\n  python -m launch eval runs/digits_mlp/activation --split validation\n" in said


def test_an_experiment_of_the_working_directory_is_a_file_and_ours_stay_ours(own):
    assert module_name("experiments.mine") == f"file:{own}/experiments/mine.py"
    assert module_name("digits_mlp") == module_name("experiments.digits_mlp") == "experiments.digits_mlp"
    assert "did you mean 'experiments.mine'?" in refused(["show", "experiments.mien"])
    with pytest.raises(RequestError, match="no experiment 'mine'; did you mean 'experiments.mine'"):
        module_name("mine")
    assert f"\nyour own ({own}/experiments):\nexperiments.mine " in launch("list").out
    (own / "experiments" / "broken.py").write_text("def experiment(:")
    assert "broken" not in launch("list").out
    assert launch("show", "experiments.mine", "--set", "model.widths=3").status == 0


def test_a_package_called_experiments_does_not_hide_ours(own):
    (own / "experiments" / "__init__.py").write_text("")
    done = subprocess.run(
        [sys.executable, "-m", "launch", "list"],
        cwd=own,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "digits_mlp" in done.stdout and "experiments.mine" in done.stdout


def test_the_distribution_has_a_name_of_its_own():
    """`espalier` is another project on the package index."""
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["name"] == "espalier-jax"
    assert "`espalier-jax`" in pathlib.Path(ROOT, "README.md").read_text()
