"""Problems are read, completions are cut at their end, and published solutions pass their tests."""

import gzip
import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from research.errors import RequestError
from research.generated_code.problems import extract, program, read_problems, solution_of
from research.generated_code.sandbox import Limits, run

pytestmark = pytest.mark.usefixtures("sandbox")

ADD = {
    "task_id": "HumanEval/0",
    "prompt": 'def add(a, b):\n    """Adds."""\n',
    "canonical_solution": "    return a + b\n",
    "test": "def check(candidate):\n    assert candidate(1, 2) == 3\n",
    "entry_point": "add",
}
MBPP = {
    "task_id": 11,
    "text": "Write a function to add.",
    "code": "def add(a, b):\r\n  return a + b",
    "test_setup_code": "import math\r\nthree = add(1, 2)",
    "test_list": ["assert add(1, 2) == three", "assert add(0, math.inf) == math.inf"],
}


def write(path, *records):
    text = "".join(json.dumps(record) + "\n" for record in records)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def test_both_formats(tmp_path):
    (add,) = read_problems(write(tmp_path / "a.jsonl.gz", ADD))
    assert (add.name, add.prompt, add.style) == ("HumanEval/0", ADD["prompt"], "body")
    (mbpp,) = read_problems(write(tmp_path / "b.jsonl", MBPP, MBPP | {"task_id": 511}))
    assert (mbpp.name, mbpp.style) == ("MBPP/11", "program")
    assert mbpp.prompt == '"""\nWrite a function to add.\nassert add(1, 2) == three\n"""\n'
    for problem in (add, mbpp):
        assert run(program(problem, problem.solution)).outcome == "passed"
        assert run(program(problem, problem.solution.replace("+", "-"))).outcome == "failed"


@pytest.mark.parametrize(
    ("style", "completion", "kept"),
    [
        ("body", "    return 1\n\n\ndef other():\n", "    return 1\n\n\n"),
        ("body", "    x = [\n        1,\n]\n    return x\nprint(1)", "    x = [\n        1,\n]\n    return x\n"),
        ("body", "    return 1\n# and so on", "    return 1\n"),
        ("body", "    return 1", "    return 1"),
        ("program", "import re\ndef f():\n  return 1\nassert f() == 1", "import re\ndef f():\n  return 1\n"),
        ("program", "def f():\n  if 1:\n    print(1)\nprint(f())", "def f():\n  if 1:\n    print(1)\n"),
        ("program", 'def f(): pass\n"""\nThe next task\n', "def f(): pass\n"),
    ],
)
def test_where_a_completion_ends(style, completion, kept):
    assert extract(completion, style) == kept


@pytest.mark.parametrize(
    "completion",
    [
        "    return a + b\nassert False",
        "Here:\n```python\ndef add(a, b):\n    return a + b\n```\nIt adds.",
        "```\n    return a + b\n```",
    ],
)
def test_answers_in_a_block_and_without(tmp_path, completion):
    (add,) = read_problems(write(tmp_path / "a.jsonl", ADD))
    assert run(program(add, completion)).outcome == "passed"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds no problem"),
        (b"{", "line 1: Expecting"),
        (b'{"task_id": 11}', "line 1: no 'test_list'"),
        (b'{"task_id": "a", "entry_point": "f"}', "line 1: no 'prompt'"),
        (b"\x1f\x8bnot gzip", "not readable as .jsonl or .jsonl.gz"),
        (json.dumps(MBPP | {"task_id": 1}).encode(), "holds no problem"),
    ],
)
def test_files_that_hold_no_problems(tmp_path, content, message):
    path = tmp_path / "p.jsonl"
    path.write_bytes(content)
    with pytest.raises(RequestError, match=message) as error:
        read_problems(path)
    assert "\n" not in str(error.value) and str(path) in str(error.value)
    with pytest.raises(RequestError, match="no such file"):
        read_problems(tmp_path / "none.jsonl")


@pytest.mark.slow
@pytest.mark.parametrize(("file", "count"), [("humaneval/HumanEval.jsonl.gz", 164), ("mbpp/mbpp.jsonl", 500)])
def test_published_solutions_pass(data_root, file, count):
    problems = read_problems(data_root / file)
    assert len(problems) == count
    limits = Limits(seconds=100)  # one of them takes many seconds, and longer on a busy machine
    with ThreadPoolExecutor(2) as pool:
        pairs = [(solution_of(problem, problem.solution), problem.tests) for problem in problems]
        ended = list(pool.map(lambda pair: run(pair[0], limits, tests=pair[1]), pairs))
    failed = {p.name: e.error for p, e in zip(problems, ended, strict=True) if e.outcome != "passed"}
    assert failed == {}
