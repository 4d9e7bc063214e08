"""pass_at_1 with a model that knows the answer, and its errors for invalid requests."""

import json

import numpy as np
import pytest

from experiments.analysis import pass_at_1
from research.data.text.tokenizers import ByteTokenizer

pytestmark = pytest.mark.usefixtures("sandbox")

PROBLEM = {
    "task_id": "HumanEval/0",
    "prompt": "def one():\n",
    "canonical_solution": "    return 1\n",
    "test": "def check(candidate):\n    assert candidate() == 1\n",
    "entry_point": "one",
}


class Parrot:
    """A text model that always writes the same text, provided that the prompt fits."""

    class model:  # noqa: N801
        context_length = 20

    def encode(self, prompt):
        return ByteTokenizer().encode(prompt)


def answers(text, prompts, **options):
    assert isinstance(text, Parrot) and all(len(prompt) <= 20 for prompt in prompts) and len(prompts) == 2
    return ["    return 1\n"] * len(prompts)


@pytest.fixture
def problems(tmp_path):
    path = tmp_path / "problems.jsonl"
    names = {"HumanEval/0": "one", "HumanEval/1": "two", "HumanEval/2": "one_of_a_name_that_is_too_long"}
    records = [
        PROBLEM | {"task_id": task, "prompt": f"def {name}():\n", "entry_point": name} for task, name in names.items()
    ]
    records[1]["test"] = "def check(candidate):\n    assert candidate() == 2\n"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def test_the_record_of_an_evaluation(problems, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(pass_at_1, "load_text_model", lambda path, trust: Parrot())
    monkeypatch.setattr(pass_at_1, "generate", answers)
    out = tmp_path / "result.json"
    command = ["a model", "--problems", str(problems), "--samples", "2", "--k", "1", "2", "--batch", "2"]
    assert pass_at_1.main([*command, "--out", str(out)]) == 0
    record = json.loads(out.read_text())
    assert record["pass@1"] == record["pass@2"] == pytest.approx(1 / 3) and record["too_long"] == 1
    assert record["seeds"] == [0, 1] and record["confined"] is True
    assert record["outcomes"]["passed"] == 2 and np.sum(list(record["outcomes"].values())) == 6
    assert "pass@1 0.3333, pass@2 0.3333 over 3 problems" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["runs/none"], "runs/none: no run there"),
        (["runs/none", "--problems", "none.jsonl"], "none.jsonl: no such file"),
        (["runs/none", "--batch", "0"], "--batch 0: expected at least 1"),
    ],
)
def test_one_line_where_it_cannot_begin(problems, capsys, arguments, message):
    arguments = arguments if "--problems" in arguments else [*arguments, "--problems", str(problems)]
    assert pass_at_1.main(arguments) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: {message}") and said.count("\n") == 1
