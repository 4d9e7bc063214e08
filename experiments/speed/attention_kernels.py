"""Causal attention, forward and backward, with each available kernel of research/layers/attention_kernels.py.

    python -m experiments.speed.attention_kernels

The table for `kernel="auto"` is based on these timings.  Results are in experiments/RESULTS.md.
"""

from __future__ import annotations

import time
from functools import partial

import jax
import jax.numpy as jnp

from experiments.speed.side_by_side import in_turns, report
from research.layers.attention_kernels import dot_product_attention

SHAPES = ((8, 256, 6, 64), (2, 1024, 12, 64), (32, 64, 4, 32))  # batch, length, heads, head_dim
CALLS = 5


def contender(kernel: str, shape: tuple[int, ...]):
    """Makes a function that returns calls/s of the gradients with respect to queries, keys and values."""
    inputs = [jax.random.normal(jax.random.key(i), shape) for i in range(3)]
    weights = jax.random.normal(jax.random.key(3), shape)
    attend = partial(dot_product_attention, causal=True, kernel=kernel)
    gradients = jax.jit(jax.grad(lambda *qkv: jnp.vdot(attend(*qkv), weights), argnums=(0, 1, 2)))

    def run() -> float:
        started = time.perf_counter()
        for _ in range(CALLS):
            found = gradients(*inputs)
        jax.block_until_ready(found)
        return CALLS / (time.perf_counter() - started)

    run()
    return run


def main() -> None:
    for shape in SHAPES:
        print(f"batch, length, heads, head_dim: {shape}")
        report(in_turns({kernel: contender(kernel, shape) for kernel in ("xla", "einsum")}), "calls/s", "xla")


if __name__ == "__main__":
    main()
