"""The pages for newcomers are correct: every block of docs/your_own.md runs, in order, in an empty folder."""

import json
import os
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent
BLOCK = re.compile(r"^```(python|sh)(?: file=(\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: str) -> list[tuple[str, str, str]]:
    """(language, file, text) of each block of a page."""
    return BLOCK.findall((ROOT / page).read_text())


def run_page(page: str, folder: pathlib.Path) -> None:
    """Runs the blocks of a page in a folder: files are written, and Python blocks follow those before them."""
    environment = {key: value for key, value in os.environ.items() if key != "JAX_NUM_CPU_DEVICES"}
    environment["PATH"] = f"{pathlib.Path(sys.executable).parent}:{environment['PATH']}"
    said = ""
    for language, file, text in blocks(page):
        if file:
            (folder / file).write_text(text)
            continue
        said += text if language == "python" else ""
        command = [sys.executable, "-c", said] if language == "python" else ["sh", "-ec", text]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_the_pages_on_experiments_and_reports_run_one_after_the_other(tmp_path):
    for page in ("docs/experiments.md", "docs/evaluation.md"):
        run_page(page, tmp_path)
    assert json.loads((tmp_path / "numbers.json").read_text())["rows"][1]["variant"] == "no activation"
    assert json.loads((tmp_path / "scores.json").read_text())["variants"]["relu"]["accuracy"]["n"] == 2


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path):
    pytest.importorskip("mkdocs", reason="needs the extra [docs]")
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", tmp_path]
    built = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert built.returncode == 0, built.stderr[-3000:]
    assert "schedule_free" in (tmp_path / "api" / "optimizers" / "index.html").read_text()


@pytest.mark.slow
def test_your_own_page_runs_from_top_to_bottom(tmp_path):
    run_page("docs/your_own.md", tmp_path)
    results = {
        f"{path.parts[-5]}/{path.parent.name}": json.loads(path.read_text())["metrics"]
        for path in tmp_path.glob("runs/*/*/trials/*/result.json")
    }
    linear = results["circle/linear-s0"]["test/accuracy"]
    assert results["circle/one-hidden-layer-s0"]["test/accuracy"] > linear + 0.1
    assert results["messages/base-s0"]["test/accuracy"] > 0.9
    assert results["fourier/base-s0"]["test/accuracy"] > 0.9
    explained = [results[f"autoencoder/width={width}-s0"]["test/explained"] for width in (1, 2, 4, 8)]
    assert explained == sorted(explained) and explained[-1] > 0.85
    assert (tmp_path / "both" / "report.html").exists()


def test_the_readme_shows_a_module_that_is_one(tmp_path):
    from launch.request import read_request

    (module,) = [text for language, _, text in blocks("README.md") if "def experiment" in text]
    assert len([line for line in module.splitlines() if line]) <= 20
    (tmp_path / "mine.py").write_text(module)
    for sweep in (None, "activation", "lr_wd"):
        assert read_request(str(tmp_path / "mine.py"), sweep=sweep).trials


def test_the_readme_sets_up_in_two_commands():
    commands = re.findall(r"^pip install -e.*$", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert commands == [
        "pip install -e . && python -m launch run experiments.digits_mlp --sweep activation --seeds 3",
        "pip install -e '.[test]' && pytest",
    ]
