"""Times the parts of detection that are no layers: Hungarian matching, SimOTA and non-maximum suppression.

python -m experiments.speed.detection_parts
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from scipy.optimize import linear_sum_assignment

from research.console import say
from research.detection import match, nms, simota

REPEATS = 10


def milliseconds(run: Callable[..., Any], *arrays: np.ndarray) -> float:
    """The median time of a call, after the first."""
    jax.block_until_ready(run(*arrays))
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        jax.block_until_ready(run(*arrays))
        times.append(time.perf_counter() - start)
    return 1000 * float(np.median(times))


def main() -> None:
    generator = np.random.default_rng(0)
    matching = jax.jit(jax.vmap(match))
    for queries, boxes, real in ((100, 20, 8), (100, 100, 8), (100, 100, 100)):
        costs = generator.normal(0, 3, (16, queries, boxes)).astype(np.float32)
        valid = np.broadcast_to(np.arange(boxes) < real, (16, boxes))
        ours = milliseconds(matching, costs, valid)
        scipys = milliseconds(lambda x, n=real: [linear_sum_assignment(one[:, :n]) for one in x], costs)
        of = f"16 images, {queries} queries, {real} boxes in {boxes}"
        say(f"matching       {of:44} {ours:8.2f} ms   SciPy on the host {scipys:.2f} ms")

    low = generator.uniform(0, 600, (8400, 2))
    boxes = np.concatenate([low, low + generator.uniform(5, 200, (8400, 2))], 1).astype(np.float32)
    scores, labels = generator.random(8400).astype(np.float32), generator.integers(0, 80, 8400)
    for number in (100, 300):
        took = milliseconds(jax.jit(lambda *x, n=number: nms(*x, number=n, threshold=0.65)), boxes, scores, labels)
        say(f"suppression    {f'8,400 boxes, 80 classes, {number} kept':44} {took:8.2f} ms")

    strides = np.repeat([8.0, 16.0, 32.0], [6400, 1600, 400])
    cells = np.concatenate([generator.uniform(0, 640, (8400, 2)), strides[:, None]], 1).astype(np.float32)
    objectness, logits = generator.normal(size=8400), generator.normal(size=(8400, 80))
    given = boxes, objectness.astype(np.float32), logits.astype(np.float32), cells, boxes[:100], labels[:100]
    say(f"SimOTA         {'8,400 cells, 100 boxes, 80 classes':44} {milliseconds(jax.jit(simota), *given):8.2f} ms")


if __name__ == "__main__":
    main()
