"""Programming problems with tests: HumanEval (Chen et al., 2021) and MBPP (Austin et al., 2021).

problems = read_problems("data/humaneval/HumanEval.jsonl.gz")
problems[0].prompt                           # the text that the model continues
run(solution_of(problems[0], completion), tests=problems[0].tests)     # see `sandbox`
"""

from __future__ import annotations

import dataclasses
import gzip
import json
import os
import pathlib
import re
import zlib
from collections.abc import Mapping
from typing import Any, Literal

from research.data.text.characters import check_characters
from research.errors import RequestError, require

Style = Literal["body", "program"]


@dataclasses.dataclass(frozen=True)
class Problem:
    """A problem with its tests.

    Attributes:
      name: the published name: "HumanEval/0", "MBPP/11".
      prompt: the text that the model continues.
      tests: statements to run after the solution; they raise unless it is correct.
      solution: the published solution, as a continuation of the prompt.
      style: "body" if the prompt ends inside a function that the completion continues, "program" if it ends before any
        code; decides where a completion ends.
    """

    name: str
    prompt: str
    tests: str
    solution: str
    style: Style


def read_problems(path: str | os.PathLike) -> tuple[Problem, ...]:
    """Reads a .jsonl or .jsonl.gz file with the fields of HumanEval or MBPP, which are detected.

    Of MBPP, only the test split (numbers 11 to 510) is read.

    Raises:
      RequestError: the file is missing, or a line has neither format; names the line.
    """
    path = pathlib.Path(path)
    require(path.is_file(), f"{path}: no such file; expected a .jsonl or .jsonl.gz of HumanEval or MBPP")
    data = path.read_bytes()
    try:
        text = (gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data).decode("utf-8-sig")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise RequestError(f"{path}: not readable as .jsonl or .jsonl.gz: {error}") from None
    found = []
    for number, line in enumerate(text.split("\n"), start=1):  # splitlines also splits at U+2028
        if not line.strip():
            continue
        try:
            problem = _problem(json.loads(line))
            for part in ("name", "prompt", "tests", "solution") if problem else ():
                check_characters(getattr(problem, part), part)
            found.append(problem)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            missing = f"no {error}" if isinstance(error, KeyError) else str(error)
            raise RequestError(f"{path}, line {number}: {missing}; expected the fields of HumanEval or MBPP") from None
    found = tuple(problem for problem in found if problem is not None)
    require(len(found) > 0, f"{path}: holds no problem (of MBPP, only the test split counts: 11 to 510)")
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
    tests = [record.get("test_setup_code", ""), *record["test_list"]]  # the setup uses definitions of the solution
    if not 11 <= number <= 510:
        return None
    # Zero-shot: the task and its first test as a docstring (Fried et al., 2023), since the test gives the name.
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

    A body ends before the first line that is not indented (and does not close a bracket).  A program ends before the
    first top-level assert, print, `if` or docstring.
    """
    end = _END[style].search(completion)
    return completion if end is None else completion[: end.end()]


def solution_of(problem: Problem, completion: str) -> str:
    """The program of a completion, without tests: for a body, the prompt and the body.

    If the completion contains a fenced code block, only the block counts, with or without a repeated prompt.
    """
    fenced = _FENCE.search(completion)
    solution = extract(completion, problem.style) if fenced is None else fenced[1] + "\n"
    whole = problem.style == "program" or (fenced is not None and _DEFINITION.search(solution))
    return solution if whole else problem.prompt + solution


def program(problem: Problem, completion: str) -> str:
    """One text of the solution and then the tests; it reaches its end only if every test passes."""
    return f"{solution_of(problem, completion)}\n{problem.tests}"


_DEFINITION = re.compile(r"^(?:def|class|async def)\b", re.MULTILINE)
