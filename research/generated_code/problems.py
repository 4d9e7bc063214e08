"""Programming problems with tests: HumanEval (Chen et al., 2021) and MBPP (Austin et al., 2021).

problems = read_problems("data/humaneval/HumanEval.jsonl.gz")
problems[0].prompt                           # what the model continues
program(problems[0], completion)             # what is run: it comes to its end only if every test passes
"""

from __future__ import annotations

import dataclasses
import gzip
import json
import os
import pathlib
import re
from collections.abc import Mapping
from typing import Any, Literal

from research.errors import RequestError, require

Style = Literal["body", "program"]


@dataclasses.dataclass(frozen=True)
class Problem:
    """One problem.

    Attributes:
      name: as published, "HumanEval/0", "MBPP/11".
      prompt: what a model is to continue.
      tests: statements after the solution that raise unless it is right.
      solution: the published one, as a continuation of the prompt.
      style: whether the prompt ends inside a function ("body"), which the completion goes on with, or before any code
        ("program"); it says where a completion ends.
    """

    name: str
    prompt: str
    tests: str
    solution: str
    style: Style


def read_problems(path: str | os.PathLike) -> tuple[Problem, ...]:
    """The problems of a .jsonl or .jsonl.gz file in HumanEval's or in MBPP's fields, told apart by these; of MBPP those
    of its test split, 11 to 510, where the file has more.

    Raises:
      RequestError: no such file, or a line that is neither; the line is named.
    """
    path = pathlib.Path(path)
    require(path.is_file(), f"{path}: no such file; expected a .jsonl or .jsonl.gz of HumanEval or MBPP")
    data = path.read_bytes()
    try:
        text = (gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data).decode("utf-8")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise RequestError(f"{path}: not readable as .jsonl or .jsonl.gz: {error}") from None
    found = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            found.append(_problem(json.loads(line)))
        except (ValueError, KeyError, TypeError) as error:
            missing = f"no {error}" if isinstance(error, KeyError) else str(error)
            raise RequestError(f"{path}, line {number}: {missing}; expected the fields of HumanEval or MBPP") from None
    found = tuple(problem for problem in found if problem is not None)
    require(len(found) > 0, f"{path}: no problem in it (of MBPP those of its test split count, 11 to 510)")
    return found


def _problem(record: Mapping[str, Any]) -> Problem | None:
    if "entry_point" in record:
        return Problem(
            name=str(record["task_id"]),
            prompt=record["prompt"],
            tests=f"{record['test']}\ncheck({record['entry_point']})\n",
            solution=record["canonical_solution"],
            style="body",
        )
    number = int(record["task_id"])
    tests = [record.get("test_setup_code", ""), *record["test_list"]]  # the setup uses what the solution defines
    if not 11 <= number <= 510:
        return None
    # Zero-shot: the task and its first test as a docstring (Fried et al., 2023), since the test says the name.
    return Problem(
        name=f"MBPP/{number}",
        prompt=f'"""\n{record["text"]}\n{record["test_list"][0]}\n"""\n',
        tests="".join(f"{statement}\n" for statement in tests).replace("\r\n", "\n"),
        solution=record["code"].replace("\r\n", "\n"),
        style="program",
    )


_FENCE = re.compile(r"```(?:python|py)?[ \t]*\n(.*?)(?:\n```|\Z)", re.DOTALL)
_END = {
    "body": re.compile(r"\n(?=[^\s)\]}])"),
    "program": re.compile(r"\n(?=assert\b|print\b|if\b|\"\"\"|'''|```|<)"),
}


def extract(completion: str, style: Style) -> str:
    """The part of a completion that is the solution.

    A body ends before the first further line that is not indented (nor closes a bracket); a program ends before the
    first further line that is a top-level test, print, `if` or docstring.
    """
    end = _END[style].search(completion)
    return completion if end is None else completion[: end.end()]


def program(problem: Problem, completion: str) -> str:
    """What to run for a completion: the solution, then the tests.

    A model that answers in a fenced block is taken at its block, which may repeat the prompt or not.
    """
    fenced = _FENCE.search(completion)
    solution = extract(completion, problem.style) if fenced is None else fenced[1] + "\n"
    whole = problem.style == "program" or (fenced is not None and _DEFINITION.search(solution))
    solution = solution if whole else problem.prompt + solution
    return f"{solution}\n{problem.tests}"


_DEFINITION = re.compile(r"^(?:def|class|async def)\b", re.MULTILINE)
