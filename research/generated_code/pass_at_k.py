"""pass@k: the fraction of problems solved by at least one of k samples (Chen et al., 2021).

complete = lambda prompts, seed: [...]                 # any text model: one continuation per prompt
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
from research.generated_code.problems import Problem, solution_of
from research.generated_code.sandbox import Ended, Limits

Complete = Callable[[Sequence[str], int], Sequence[str]]
"""(prompts, seed) -> one continuation per prompt, without the prompt; samples differ between seeds."""


def pass_at_k(n: int, c: int, k: int) -> float:
    """Unbiased estimate of pass@k from n samples of which c passed: 1 - C(n - c, k) / C(n, k).

    >>> pass_at_k(n=10, c=5, k=1)
    0.5

    Raises:
      RequestError: k is not in 1 to n, or c not in 0 to n.
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
    """Samples completions, runs each in the sandbox, and computes pass@k.

    Args:
      problems: at least one.
      complete: the model.
      samples: completions per problem, with seeds `seed`, `seed` + 1, ...
      ks: the values of k, each at most `samples`.
      seed: of the first sample.
      limits: of each candidate program.
      workers: the number of candidates that run at once.

    Returns:
      A record for a JSON file: "pass@k" for every k, "samples", "seeds", "outcomes" (their counts), "confined",
        "seconds", and "problems": name, pass count, outcomes, errors and completions of each.

    Raises:
      RequestError: a number is out of range (before sampling), or the system cannot confine programs.
    """
    require(len(problems) > 0, "problems: none, expected at least one")
    require(samples >= 1, f"samples={samples}: expected at least 1")
    require(workers >= 1, f"workers={workers}: expected at least 1")
    for k in ks:
        require(1 <= k <= samples, f"k={k}: expected 1 to samples={samples}")
    sandbox.run("", limits)  # fails early on systems that cannot confine, before any sampling
    seeds = [seed + i for i in range(samples)]
    completions = [complete([problem.prompt for problem in problems], s) for s in seeds]
    pairs = [(solution_of(one, made[i]), one.tests) for i, one in enumerate(problems) for made in completions]
    with ThreadPoolExecutor(workers) as pool:
        ended = list(pool.map(lambda pair: sandbox.run(pair[0], limits, tests=pair[1]), pairs))
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
        "partly": limits.partly,
        "seconds": limits.seconds,
        "problems": records,
    }
