"""Names that terminals and file systems take badly, and files that systems leave in a run's folders."""

import contextlib
import io
import shutil

import pytest
from command_line import files, launch, quickly, read, write_module

from launch.cli import main
from research.errors import RequestError
from research.inference import load
from research.training.folder import trial_folder

MODULE = """
    import toys
    from research.sweep import ablation


    def experiment():
        return toys.experiment(steps=8, eval_every=8)


    def sweeps():
        names = {"β": {"model.widths": (8,)}, "\\x1b[31mred": {"model.widths": (4,)}}
        return {"greek": ablation({}, names, name="α"), "\\x1b]0;x": []}
    """


def launch_on(encoding, *arguments):
    """Runs a command on a terminal of this encoding; returns (status, standard output, standard error)."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding=encoding) for _ in range(2))
    err.reconfigure(errors="backslashreplace")  # as Python opens it
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main([str(argument) for argument in arguments])
    out.flush(), err.flush()
    return status, out.buffer.getvalue().decode(encoding), err.buffer.getvalue().decode(encoding)


@pytest.fixture(scope="module")
def module(tmp_path_factory):
    return write_module(tmp_path_factory.mktemp("module") / "mine.py", MODULE)


@pytest.fixture(scope="module", autouse=True)
def quick(tmp_path_factory):
    with quickly(tmp_path_factory.mktemp("compiled")):
        yield


@pytest.fixture(scope="module")
def trained(quick, module, tmp_path_factory):
    """(folder, outcome) of a run on a terminal without UTF-8."""
    folder = tmp_path_factory.mktemp("run") / "run"
    return folder, launch_on("ascii", "run", module, "--sweep", "greek", "--seeds", 2, "--out", folder)


def test_a_terminal_without_utf8_shows_the_table_and_has_the_report(trained):
    folder, (status, out, err) = trained
    assert status == 0, err
    assert out.splitlines()[-1] == str(folder / "report" / "report.html") and " ? " in out
    assert {"table.md", "table.tex", "table.csv", "report.html"} <= {p.name for p in (folder / "report").iterdir()}
    assert "α" in (folder / "report" / "table.md").read_text(encoding="utf-8")


def test_names_that_are_not_ascii_have_folders_of_their_own(trained):
    folder, _ = trained
    named = {trial["variant"]: trial["name"] for trial in read(folder / "sweep.json")["trials"]}
    widths = {v: read(folder / "trials" / n / "config.json")["experiment"]["model"]["widths"] for v, n in named.items()}
    assert widths["α"] == [16, 8] and widths["β"] == [8]
    assert len(list((folder / "trials").iterdir())) == 6 and all(name.isascii() for name in named.values())


def test_escape_codes_do_not_reach_the_terminal(trained, module):
    folder, (_, out, err) = trained
    said = [out, err, *launch_on("latin-1", "eval", folder)[1:]]
    said += launch_on("utf-8", "run", module, "--sweep", "\x1b]0;x")[1:]
    said += launch_on("utf-8", "run", "\x1b[31m.py")[1:]
    said += launch_on("utf-8", "eval", folder, "--split", "\x1b[31m")[1:]
    said += [path.read_text(encoding="utf-8") for path in (folder / "report").glob("table.*")]
    assert "?[31mred: test/loss" in said[2] and not any("\x1b" in text for text in said)


def test_what_systems_leave_in_a_run_changes_nothing(trained, module, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(trained[0], run)
    for trial in list((run / "trials").iterdir())[1:]:
        shutil.rmtree(trial)
    (left,) = (run / "trials").iterdir()
    for folder in (run, run / "trials", left, left / "checkpoints", left / "exhibits"):
        folder.mkdir(exist_ok=True)
        for name in (".DS_Store", "Thumbs.db", "desktop.ini", "._base-s0"):
            (folder / name).write_bytes(b"\x00\xff")
    assert trial_folder(run).name == left.name
    load(run)
    assert launch("eval", run).status == 0
    before = files(run)
    assert launch("report", run).status == 0
    assert {name: x for name, x in files(run).items() if not name.startswith("report/")}.keys() >= {
        name for name in before if not name.startswith("report/")
    }


def test_what_systems_leave_in_a_new_folder_is_no_run(module, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    for name in (".DS_Store", "Thumbs.db", "lost+found"):
        (out / name).touch()
    outcome = launch("run", module, "--out", out)
    assert outcome.status == 0, outcome.err


def test_a_folder_of_hidden_files_alone_holds_no_trial(tmp_path):
    (tmp_path / "trials").mkdir()
    (tmp_path / "trials" / ".DS_Store").touch()
    with pytest.raises(RequestError, match="no run there"):
        trial_folder(tmp_path)
