"""The notebook runs from top to bottom in an empty folder, and shows what it is about."""

import ast
import json
import os
import pathlib
import subprocess
import sys

import pytest

NOTEBOOK = pathlib.Path(__file__).parent.parent / "docs" / "notebook.ipynb"

RUNNER = """
import ast as _ast, json as _json, sys as _sys

def _run(cell):
    # As a kernel does: all statements, then the value of the last one if it is an expression.
    *body, last = _ast.parse(cell).body
    whole = isinstance(last, _ast.Expr)
    exec(compile(_ast.Module(body if whole else [*body, last], []), "<cell>", "exec"), globals())
    return eval(compile(_ast.Expression(last.value), "<cell>", "eval"), globals()) if whole else None

def _shown(value):
    pages = [getattr(value, f"_repr_{kind}_")() for kind in ("html", "svg") if hasattr(value, f"_repr_{kind}_")]
    return [repr(value), *pages]

_json.dump([_shown(_run(cell)) for cell in _json.load(_sys.stdin)], open("shown.json", "w"))
"""


def cells() -> list[str]:
    """The texts of the code cells."""
    return ["".join(x["source"]) for x in json.loads(NOTEBOOK.read_text())["cells"] if x["cell_type"] == "code"]


def test_the_notebook_needs_few_imports_and_has_no_outputs():
    imports = [
        node for node in ast.walk(ast.parse("\n".join(cells()))) if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    assert len(imports) <= 3
    for cell in json.loads(NOTEBOOK.read_text())["cells"]:
        assert not cell.get("outputs") and cell.get("execution_count") is None


@pytest.mark.slow
def test_the_notebook_runs_from_top_to_bottom(tmp_path):
    pytest.importorskip("pandas", reason="the extra [test] installs pandas")
    environment = {key: x for key, x in os.environ.items() if key != "JAX_NUM_CPU_DEVICES"}
    environment["PYTHONPATH"] = str(NOTEBOOK.parent.parent)
    done = subprocess.run(
        [sys.executable, "-c", RUNNER],
        input=json.dumps(cells()),
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    shown = dict(zip(cells(), json.loads((tmp_path / "shown.json").read_text()), strict=True))
    assert {path.name for path in (tmp_path / "runs" / "notebook").iterdir()} == {
        "activation", "circle", "digits", "search",
    }  # fmt: skip
    said = {cell.splitlines()[0]: value[0] for cell, value in shown.items()}
    assert said["experiment = Experiment("].startswith("Experiment(\n    model=MLP(widths=(64,), classes=10),\n")
    assert "4,810" in said["experiment.summary()"]
    assert "test/accuracy difference" in said["sweep.table().T"] and "NaN" in said["sweep.table().T"]
    (hyperparameters,) = [value for cell, value in said.items() if cell == "best.hyperparameters"]
    assert set(ast.literal_eval(hyperparameters)) == {"optimizer.learning_rate", "model.widths"}
    assert "[1, 0]" in said['opened = open_run("runs/notebook/circle")']
    drawn = [value for cell, value in shown.items() if ".plot_" in cell]
    assert len(drawn) == 3 and all("<svg" in value[-1] for value in drawn)
    assert all("espalier" in value[1] for cell, value in shown.items() if cell.splitlines()[-1] in ("run", "sweep"))
