"""Training steps/s of an MLP 784-512-512-10, batch 128, Adam, float32: ours against eager PyTorch with fused Adam.

    python -m experiments.speed.mlp_against_torch --peer torch_speed.py --torch-python venv/bin/python

The peer is a script that prints "mlp_fused_adam ... N steps/s"; it runs unmodified, in turns with ours, on equal
threads.
Ours is the frame's own compiled program, on 10,000 examples that live on the device: it gathers each batch as well.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import time

import numpy as np

from experiments.speed.side_by_side import in_turns, report
from research.data.arrays import InMemory
from research.experiment import Experiment
from research.hparams import hparams
from research.loop import make_feeds
from research.models.mlp import MLP
from research.optimizers import Adam
from research.parallel import Programs
from research.tasks.classification import Classification

STEPS = 400


def experiment() -> Experiment:
    generator = np.random.default_rng(0)
    train = {
        "image": generator.normal(size=(10_000, 784)).astype(np.float32),
        "label": generator.integers(0, 10, 10_000),
    }
    return Experiment(
        model=MLP(widths=(512, 512), classes=10),
        task=Classification(classes=10),
        data=InMemory(train=train, validation=0),
        optimizer=Adam(learning_rate=1e-3),
        steps=STEPS,
        batch_size=128,
    )


def ours():
    """A function that trains `STEPS` steps and gives their number per second."""
    own = experiment()
    feeds = make_feeds(own.data.load(), own.data)
    programs = Programs(own, feeds.train.resident)
    batches = feeds.train.batches(0, own.batch_size)
    state = programs.init([0], [hparams(own)], batches.fed(0))
    size = programs.steps_per_call(state, batches.fed(0))

    def run() -> float:
        nonlocal state
        started = time.perf_counter()
        for start in range(0, STEPS, size):
            fed = [batches.fed(step) for step in range(start, min(start + size, STEPS))]
            state, metrics = programs.train(state, fed)
        float(metrics["loss"][0])
        return STEPS / (time.perf_counter() - started)

    run()
    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", required=True)
    parser.add_argument("--torch-python", required=True)
    parser.add_argument("--threads", default="2")
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    command = [asked.torch_python, asked.peer, "--threads", asked.threads, "--only", "mlp_fused_adam", "--repeats", "1"]

    def peer() -> float:
        printed = subprocess.run([*command, "--max-tries", "1"], check=True, capture_output=True, text=True).stdout
        return float(re.search(r"mlp_fused_adam\s+([0-9.]+) steps/s", printed).group(1))

    report(
        in_turns({"PyTorch, eager, fused Adam": peer, "Espalier": ours()}, asked.rounds),
        "steps/s",
        "PyTorch, eager, fused Adam",
    )


if __name__ == "__main__":
    main()
