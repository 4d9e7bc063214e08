"""Python functions completed by a text model after fixed headers, compared with those of an n-gram model.

    python -m experiments.analysis.python_functions runs/python_gpt/base

RUN is a run of python_gpt.  For every header in `HEADERS`, the model and an n-gram model of the same tokens
(research/models/ngram.py) draw --samples completions of up to --max-new-tokens tokens at the same temperature.  A
sample counts as a function if its body ends (an unindented line follows), and as long if it has at least --least-lines
lines. The script reports the fraction of long functions that `ast.parse` accepts, and the fraction of those that are
not copied (no --run-length consecutive tokens of the completion occur in the training text), as well as both models'
bits per byte on the test files.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from research.data.source import Source
from research.data.sources.python_source import PythonSource
from research.data.sources.text import predicted
from research.data.text.tokenizers import Tokenizer
from research.errors import command, require
from research.generated_code.functions import Copies, judge
from research.models.ngram import NGram
from research.whole_files import write_whole

HEADERS = (
    "def read_lines(path):\n",
    "def count_words(text):\n",
    "def _parse_header(line, default=None):\n",
    "def is_valid(name):\n",
    'def normalize(path):\n    """Return a normalized form of the path."""\n',
    'def merge(a, b):\n    """Merge two sorted lists into one."""\n',
    "def copy_file(src, dst, *, follow_symlinks=True):\n",
    "def format_date(year, month, day):\n",
    "def find_all(pattern, string):\n",
    "def get_encoding(filename):\n",
    "def _send(sock, data, timeout):\n",
    "def wait_for(process, timeout=None):\n",
    "def flatten(items):\n",
    "def walk(node):\n",
    "def write_table(file, rows):\n",
    "def _compare(self, other):\n",
    "def load_module(name, path):\n",
    "def split_quoted(s, sep=None):\n",
    "def to_bytes(value, length, byteorder):\n",
    "def main(argv=None):\n",
)


def training_text(source: Source) -> np.ndarray:
    """The concatenated tokens of the training split."""
    return np.asarray(source.arrays()["tokens"].values)  # the last token is only a target


def bits_per_byte(model: NGram, source: Source) -> float:
    """Bits per byte of an n-gram model on the windows of a split; every token but the first is predicted once, from all
    tokens before it.
    """
    columns = source.arrays()
    text = np.concatenate([columns["tokens"][:1][0, :1], columns["targets"][:][predicted(columns)]])
    return float(-model.log_probs(text).sum() / math.log(2) / columns["bytes"].sum())


def completions_of(model: NGram, tokenizer: Tokenizer, asked: argparse.Namespace) -> list[list[str]]:
    """Completions [header][sample] of an n-gram model."""
    rng = np.random.default_rng(asked.seed)
    end = tokenizer.token_id("<eos>")
    options = {"rng": rng, "temperature": asked.temperature, "stop_token": end}

    def one(header: str) -> str:
        return tokenizer.decode(model.sample(tokenizer.encode(header), asked.max_new_tokens, **options))

    return [[one(header) for _ in range(asked.samples)] for header in HEADERS]


def scores(
    completions: Sequence[Sequence[str]], tokenizer: Tokenizer, copied: Copies, least_lines: int
) -> dict[str, Any]:
    """Returns the counts of `judge`, and both fractions."""
    prompts = [header for header, own in zip(HEADERS, completions, strict=True) for _ in own]
    texts = [text for own in completions for text in own]
    tokens = [tokenizer.encode(text) for text in texts]
    judged = judge(prompts, texts, tokens, copied, least_lines)
    return dataclasses.asdict(judged) | {
        "parsed of long": judged.parsed / judged.long if judged.long else None,
        "own of parsed": judged.own / judged.parsed if judged.parsed else None,
        "completions": completions,
    }


@command
def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.analysis.python_functions", description=__doc__.splitlines()[0]
    )
    parser.add_argument("run", metavar="RUN", help="a run of python_gpt, or a trial's folder")
    parser.add_argument("--samples", type=int, default=10, help="completions per header (default 10)")
    parser.add_argument("--temperature", type=float, default=0.8)
    parser.add_argument("--max-new-tokens", type=int, default=200)
    parser.add_argument("--least-lines", type=int, default=5, help="minimum lines of a long function (default 5)")
    parser.add_argument(
        "--run-length", type=int, default=20, help="shared consecutive tokens that count as a copy (default 20)"
    )
    parser.add_argument("--order", type=int, default=5, help="order of the n-gram model (default 5)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default="python_functions.json", metavar="FILE")
    parser.add_argument("--trust", action="store_true", help="run the code of the files and modules that the run names")
    asked = parser.parse_args(arguments)
    from research.inference import generate, load
    from research.training.folder import trial_folder
    from research.training.records import read_json

    require(asked.samples >= 1, f"--samples {asked.samples}: expected at least 1")
    folder = trial_folder(asked.run)
    run = load(folder, trust=asked.trust)
    data = run.experiment.data
    found = f"{asked.run}: its data is {type(data).__name__}, expected a run of python_gpt (PythonSource)"
    require(isinstance(data, PythonSource), found)
    splits = data.load()
    text, tokenizer = training_text(splits.train), data.tokenizer
    ngram = NGram.fit(text, tokenizer.vocab_size, asked.order)
    copied = Copies(text, asked.run_length)
    written = generate(
        run,
        [header for header in HEADERS for _ in range(asked.samples)],
        max_new_tokens=asked.max_new_tokens,
        temperature=asked.temperature,
        seed=asked.seed,
    )
    by_header = [written[i : i + asked.samples] for i in range(0, len(written), asked.samples)]
    result = read_json(folder / "result.json") or {}
    record: dict[str, Mapping[str, Any]] = {
        "model": {"bits per byte": result.get("metrics", {}).get("test/bits_per_byte")}
        | scores(by_header, tokenizer, copied, asked.least_lines),
        f"{asked.order}-gram": {"bits per byte": bits_per_byte(ngram, splits.test), "counts": ngram.parameters}
        | scores(completions_of(ngram, tokenizer, asked), tokenizer, copied, asked.least_lines),
    }
    write_whole(asked.out, json.dumps({"settings": vars(asked)} | record, indent=1) + "\n")
    for name, own in record.items():
        shown = {key: value for key, value in own.items() if key != "completions"}
        print(f"{name}: " + ", ".join(f"{key} {_short(value)}" for key, value in shown.items()))
    return 0


def _short(value: float | int | None) -> str:
    return "none" if value is None else f"{value:,}" if isinstance(value, int) else f"{value:.3f}"


if __name__ == "__main__":
    sys.exit(main())
