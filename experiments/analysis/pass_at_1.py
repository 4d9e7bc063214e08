"""pass@k of a text model's programs on HumanEval, MBPP, or problems in one of their formats.

    python -m experiments.analysis.pass_at_1 runs/python_gpt/base --problems data/humaneval/HumanEval.jsonl.gz
    python -m experiments.analysis.pass_at_1 published/gpt2 --problems data/mbpp/mbpp.jsonl --samples 10 --k 1 10

MODEL is the folder of a run or a trial, or a folder of published GPT-2 or Llama-style weights with their tokenizer.
Completions are sampled at temperature 0.2, as Chen et al. (2021) do for pass@1, and run in a sandbox
(research/generated_code/sandbox.py describes its guarantees).  The result goes to --out as JSON, with every completion
and its outcome.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence

from research.errors import command, require
from research.generated_code.pass_at_k import Complete, evaluate
from research.generated_code.problems import read_problems
from research.generated_code.sandbox import Limits
from research.inference import TextModel, generate, load_text_model
from research.whole_files import write_whole


def fits(text: TextModel, prompt: str) -> bool:
    """True if the model's context, if it has one, holds the prompt."""
    context = getattr(text.model, "context_length", None)
    return context is None or len(text.encode(prompt)) <= context


def completer(text: TextModel, *, max_new_tokens: int, temperature: float, batch: int) -> Complete:
    """Wraps a model for `evaluate`: completes prompts in batches; a prompt beyond the context gets an empty text."""

    def complete(prompts: Sequence[str], seed: int) -> list[str]:
        made = [""] * len(prompts)
        places = [i for i, prompt in enumerate(prompts) if fits(text, prompt)]
        for start in range(0, len(places), batch):
            own = places[start : start + batch]
            own += own[:1] * (batch - len(own))  # fills the last batch
            options = {"max_new_tokens": max_new_tokens, "temperature": temperature, "seed": seed}
            for i, answer in zip(own, generate(text, [prompts[i] for i in own], **options), strict=True):
                made[i] = made[i] or answer
            print(f"seed {seed}: {min(start + batch, len(places))} of {len(places)} completions", file=sys.stderr)
        return made

    return complete


@command
def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.analysis.pass_at_1", description=__doc__.splitlines()[0]
    )
    parser.add_argument("model", metavar="MODEL", help="a run's folder, or one of published weights")
    parser.add_argument("--problems", required=True, metavar="FILE", help=".jsonl or .jsonl.gz")
    parser.add_argument("--samples", type=int, default=1, help="completions per problem (default 1)")
    parser.add_argument("--k", type=int, nargs="+", default=[1], help="values of k (default 1)")
    parser.add_argument("--temperature", type=float, default=0.2)
    parser.add_argument("--max-new-tokens", type=int, default=256)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch", type=int, default=16, help="prompts per batch (default 16)")
    parser.add_argument("--seconds", type=float, default=10.0, help="time limit per program (default 10)")
    parser.add_argument("--workers", type=int, default=2, help="programs run at once (default 2)")
    parser.add_argument("--unconfined", action="store_true", help="for machines that are sandboxes themselves")
    parser.add_argument("--partly-confined", action="store_true", help="for machines without user namespaces")
    parser.add_argument("--out", default="pass_at_1.json", metavar="FILE")
    parser.add_argument("--trust", action="store_true", help="run the code of the files and modules that the run names")
    asked = parser.parse_args(arguments)
    require(asked.batch >= 1, f"--batch {asked.batch}: expected at least 1")
    problems = read_problems(asked.problems)
    text = load_text_model(asked.model, trust=asked.trust)
    limits = Limits(seconds=asked.seconds, confined=not asked.unconfined, partly=asked.partly_confined)
    complete = completer(text, max_new_tokens=asked.max_new_tokens, temperature=asked.temperature, batch=asked.batch)
    result = evaluate(
        problems, complete, samples=asked.samples, ks=asked.k, seed=asked.seed, limits=limits, workers=asked.workers
    )
    too_long = sum(not fits(text, problem.prompt) for problem in problems)
    settings = {name: getattr(asked, name) for name in ("model", "problems", "temperature", "max_new_tokens")}
    record = {"settings": settings, "limits": dataclasses.asdict(limits), "too_long": too_long, **result}
    write_whole(asked.out, json.dumps(record, indent=1) + "\n")
    scores = ", ".join(f"{name} {value:.4f}" for name, value in result.items() if name.startswith("pass@"))
    ended = ", ".join(f"{count} {outcome}" for outcome, count in sorted(result["outcomes"].items()))
    print(f"{scores} over {len(problems)} problems, {asked.samples} samples each ({ended}); {asked.out}")
    if too_long:
        print(f"{too_long} prompts are longer than the model's context and count as unsolved")
    return 0


if __name__ == "__main__":
    sys.exit(main())
