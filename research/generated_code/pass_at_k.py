"""The share of problems that k samples solve: pass@k (Chen et al., 2021).

complete = lambda prompts, seed: [...]                 # any text model: a continuation for every prompt
result = evaluate(problems, complete, samples=10)
result["pass@1"], result["problems"][0]["outcomes"]
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from research.errors import require
from research.generated_code import sandbox
from research.generated_code.problems import Problem, program
from research.generated_code.sandbox import Ended, Limits

Complete = Callable[[Sequence[str], int], Sequence[str]]
"""(prompts, seed) -> a continuation of each, without the prompt; another seed gives other samples."""


def pass_at_k(n: int, c: int, k: int) -> float:
    """The unbiased estimate, from n samples of which c passed, that one of k passes: 1 - C(n - c, k) / C(n, k).

    Raises:
      RequestError: k is not among 1 to n.
    """
    require(1 <= k <= n, f"k={k}: expected 1 to the {n} samples of a problem")
    require(0 <= c <= n, f"c={c}: expected 0 to the {n} samples of a problem")
    return 1.0 - math.comb(n - c, k) / math.comb(n, k)


def evaluate(
    problems: Sequence[Problem],
    complete: Complete,
    *,
    samples: int = 1,
    ks: Sequence[int] = (1,),
    seed: int = 0,
    limits: Limits = Limits(),  # noqa: B008  (frozen)
    workers: int = 2,
) -> dict[str, Any]:
    """Samples completions, runs each in the sandbox, and counts.

    Args:
      problems: at least one.
      complete: the model.
      samples: completions of every problem, of the seeds `seed`, `seed` + 1, ...
      ks: of the pass@k wanted, each at most `samples`.
      limits: of a candidate.
      workers: candidates that run at once.

    Returns:
      A record for a JSON file: "pass@k" for every k, "samples", "seeds", "outcomes" (how many ended how), and
      "problems": name, pass count, outcomes, errors and completions of each.

    Raises:
      RequestError: a number out of range, before anything is sampled; a system that cannot confine.
    """
    require(len(problems) > 0, "problems: none, expected at least one")
    require(samples >= 1, f"samples={samples}: expected at least 1")
    require(workers >= 1, f"workers={workers}: expected at least 1")
    for k in ks:
        require(1 <= k <= samples, f"k={k}: expected 1 to samples={samples}")
    sandbox.run("", limits)  # refuses what this system cannot do before a model has worked for it
    seeds = [seed + i for i in range(samples)]
    completions = [complete([problem.prompt for problem in problems], s) for s in seeds]
    programs = [program(problem, made[i]) for i, problem in enumerate(problems) for made in completions]
    with ThreadPoolExecutor(workers) as pool:
        ended = list(pool.map(lambda source: sandbox.run(source, limits), programs))
    records = []
    for i, problem in enumerate(problems):
        own: list[Ended] = ended[i * samples : (i + 1) * samples]
        records.append(
            {
                "name": problem.name,
                "passed": sum(one.outcome == "passed" for one in own),
                "outcomes": [one.outcome for one in own],
                "errors": [one.error for one in own],
                "completions": [made[i] for made in completions],
            }
        )
    scores = {
        f"pass@{k}": sum(pass_at_k(samples, record["passed"], k) for record in records) / len(records) for k in ks
    }
    return {
        **scores,
        "samples": samples,
        "seeds": seeds,
        "outcomes": dict(Counter(one.outcome for one in ended)),
        "confined": limits.confined,
        "seconds": limits.seconds,
        "problems": records,
    }
