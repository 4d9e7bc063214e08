"""Generation with a cache of keys and values, against recomputing everything for every token.

    python -m experiments.speed.generation_cache

A GPT of 6 layers, 6 heads and width 384 continues a prompt of 16 tokens by 256, greedily, in one compiled program each.
Results are in experiments/RESULTS.md.
"""

from __future__ import annotations

import time

import jax
import jax.numpy as jnp

from experiments.speed.side_by_side import in_turns, report
from research.decoding import Generation, generate
from research.models.gpt import GPT

PROMPT, NEW = 16, 256


def main() -> None:
    model = GPT(vocab_size=65, context_length=PROMPT + NEW, width=384, depth=6, num_heads=6)
    prompt = jax.random.randint(jax.random.key(0), (1, PROMPT), 0, model.vocab_size)
    variables = jax.jit(model.init)(jax.random.key(1), prompt)

    def contender(cache: bool):
        how = Generation(max_new_tokens=NEW, cache=cache)

        def run() -> float:
            started = time.perf_counter()
            tokens[cache] = jax.block_until_ready(generate(model, variables, prompt, how).tokens)
            return NEW / (time.perf_counter() - started)

        run()
        return run

    tokens: dict[bool, jax.Array] = {}
    contenders = {"without a cache": contender(False), "with a cache": contender(True)}
    report(in_turns(contenders, rounds=3), "tokens/s", "without a cache")
    print(f"the same tokens: {bool(jnp.array_equal(tokens[False], tokens[True]))}")


if __name__ == "__main__":
    main()
