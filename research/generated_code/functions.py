"""Judges functions that a model completes: whether they end, parse, or copy the training text."""

from __future__ import annotations

import ast
import dataclasses
import warnings
from collections.abc import Sequence

import numpy as np

from research.errors import require
from research.generated_code.problems import extract


def whole_function(prompt: str, completion: str) -> str | None:
    """The function that `prompt` starts and `completion` continues, up to the end of its body.

    None if the completion stops inside the body, so that the rest of the function is unknown.
    """
    body = extract(completion, "body")
    return None if body == completion else prompt + body


def body_lines(prompt: str, function: str) -> int:
    """The number of lines of a function after the prompt that are neither empty nor comments."""
    lines = (line.strip() for line in function[len(prompt) :].splitlines())
    return sum(bool(line) and not line.startswith("#") for line in lines)


def parses(source: str) -> bool:
    """True if the source parses in the running Python version."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # such as for invalid escapes
            ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


class Copies:
    """Detects sequences that share `run` consecutive tokens with a training text [length]."""

    def __init__(self, training: np.ndarray, run: int):
        require(1 <= run <= len(training), f"run={run}: expected 1 to the {len(training)} tokens of the text")
        self.run = run
        self._known = np.unique(_hashes(training, run))

    def __call__(self, tokens: np.ndarray) -> bool:
        """True if a sequence [length] contains such a run."""
        return len(tokens) >= self.run and bool(np.isin(_hashes(tokens, self.run), self._known).any())


def _hashes(tokens: np.ndarray, run: int) -> np.ndarray:
    """64-bit hashes of every `run` consecutive tokens; different runs collide with probability 2⁻⁶⁴."""
    rows = len(tokens) - run + 1
    hashed = np.zeros(rows, np.uint64)
    for i in range(run):
        hashed = hashed * np.uint64(0x9E3779B97F4A7C15) + tokens[i : i + rows].astype(np.uint64) + np.uint64(1)
        hashed ^= hashed >> np.uint64(29)
    return hashed


@dataclasses.dataclass(frozen=True)
class Judged:
    """Counts over samples; each is a subset of the previous one.

    Attributes:
      samples: all samples.
      whole: those that are complete functions.
      long: those with at least the minimum number of lines.
      parsed: those that parse.
      own: those without a long run of tokens from the training text.
    """

    samples: int
    whole: int
    long: int
    parsed: int
    own: int


def judge(
    prompts: Sequence[str], completions: Sequence[str], tokens: Sequence[np.ndarray], copied: Copies, least_lines: int
) -> Judged:
    """Counts samples, given their prompts, completions and completions' tokens [length]."""
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
