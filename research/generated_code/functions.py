"""Functions that a model writes after a header: whether they end, whether they parse, whether they are copied."""

from __future__ import annotations

import ast
import dataclasses
import warnings
from collections.abc import Sequence

import numpy as np

from research.errors import require
from research.generated_code.problems import extract


def whole_function(prompt: str, completion: str) -> str | None:
    """The function that `prompt` begins and `completion` goes on with, up to the line after its body; None where the
    completion stops before there is one, so that it cannot be told what it would have become."""
    body = extract(completion, "body")
    return None if body == completion else prompt + body


def body_lines(prompt: str, function: str) -> int:
    """Lines of a function after the prompt that are neither empty nor a comment."""
    lines = (line.strip() for line in function[len(prompt) :].splitlines())
    return sum(bool(line) and not line.startswith("#") for line in lines)


def parses(source: str) -> bool:
    """Whether it is Python, of the version that runs."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # such as an invalid escape
            ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


class Copies:
    """Which sequences hold `run` tokens in a row that a training text [length] holds too."""

    def __init__(self, training: np.ndarray, run: int):
        require(1 <= run <= len(training), f"run={run}: expected 1 to the {len(training)} tokens of the text")
        self.run = run
        self._known = np.unique(_hashes(training, run))

    def __call__(self, tokens: np.ndarray) -> bool:
        """Of one sequence [length]."""
        return len(tokens) >= self.run and bool(np.isin(_hashes(tokens, self.run), self._known).any())


def _hashes(tokens: np.ndarray, run: int) -> np.ndarray:
    """A 64-bit hash of every `run` tokens in a row; two that differ agree by a chance of 2⁻⁶⁴."""
    rows = len(tokens) - run + 1
    hashed = np.zeros(rows, np.uint64)
    for i in range(run):
        hashed = hashed * np.uint64(0x9E3779B97F4A7C15) + tokens[i : i + rows].astype(np.uint64) + np.uint64(1)
        hashed ^= hashed >> np.uint64(29)
    return hashed


@dataclasses.dataclass(frozen=True)
class Judged:
    """How many of some samples are what.

    Attributes:
      samples: of which the rest is counted.
      whole: functions that came to an end.
      long: of these, those with the least number of lines or more.
      parsed: of the long ones, those that parse.
      own: of the parsed ones, those without a long run of tokens of the training text.
    """

    samples: int
    whole: int
    long: int
    parsed: int
    own: int


def judge(
    prompts: Sequence[str], completions: Sequence[str], tokens: Sequence[np.ndarray], copied: Copies, least_lines: int
) -> Judged:
    """Counts over samples: prompt, completion, and the completion's tokens [length] of each."""
    long, parsed, own, whole = 0, 0, 0, 0
    for prompt, completion, sequence in zip(prompts, completions, tokens, strict=True):
        function = whole_function(prompt, completion)
        if function is None:
            continue
        whole += 1
        if body_lines(prompt, function) < least_lines:
            continue
        long += 1
        if parses(function):
            parsed += 1
            own += not copied(sequence)
    return Judged(len(prompts), whole, long, parsed, own)
