"""Convolutions on a CPU: a loop of steps on the device, against calling the same step repeatedly.

    python -m experiments.speed.loop_on_cpu

The results, in experiments/RESULTS.md, are the reason why steps with convolutions are not looped on the device.
"""

from __future__ import annotations

import time

import jax
import jax.numpy as jnp
from flax import linen as nn

from experiments.speed.side_by_side import in_turns, report
from research.models.mlp import MLP

STEPS = 3


class Convolutions(nn.Module):
    """Three 3x3 convolutions with pooling between them."""

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        for features in (32, 64, 64):
            x = nn.max_pool(nn.relu(nn.Conv(features, (3, 3))(x)), (2, 2), (2, 2))
        return nn.Dense(10)(x.reshape(len(x), -1))


def contenders(model: nn.Module):
    """Returns {way: a function that returns its steps/s} for gradient descent on one batch of 32x32 images."""
    x = jax.random.normal(jax.random.key(0), (64, 32, 32, 3))
    params = model.init(jax.random.key(1), x)

    def step(params):
        gradients = jax.grad(lambda p: jnp.square(model.apply(p, x)).mean())(params)
        return jax.tree.map(lambda p, g: p - 0.01 * g, params, gradients)

    called = jax.jit(step)
    looped = jax.jit(lambda params, n: jax.lax.fori_loop(0, n, lambda _, p: step(p), params))

    def call() -> float:
        started, after = time.perf_counter(), params
        for _ in range(STEPS):
            after = called(after)
        jax.block_until_ready(after)
        return STEPS / (time.perf_counter() - started)

    def loop() -> float:
        started = time.perf_counter()
        jax.block_until_ready(looped(params, STEPS))
        return STEPS / (time.perf_counter() - started)

    call(), loop()
    return {"called step by step": call, "looped on the device": loop}


def main() -> None:
    for name, model in (("convolutions", Convolutions()), ("MLP", MLP(widths=(512, 512), classes=10))):
        print(name)
        report(in_turns(contenders(model)), "steps/s", "called step by step")


if __name__ == "__main__":
    main()
