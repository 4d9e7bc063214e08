"""Wall time of a character-level GPT on tiny Shakespeare (experiments/shakespeare_gpt.py), against eager PyTorch.

    ESPALIER_DATA=... python -m experiments.speed.shakespeare_against_torch --torch-python venv/bin/python

Each side is a process that trains the same model on the same text in float32 with the same number of threads; the sides
take turns.  The time includes imports, reading the text and, for Espalier, compilation; neither side evaluates or
saves. PyTorch's side is experiments/speed/shakespeare_torch.py, with fused AdamW and scaled_dot_product_attention.
"""

from __future__ import annotations

import argparse
import pathlib
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

from experiments.speed.side_by_side import in_turns, report
from research.errors import command

PEER = pathlib.Path(__file__).with_name("shakespeare_torch.py")


def train(steps: int) -> None:
    """Trains Espalier's side and prints the seconds of the steps after the first call, and the last loss."""
    import dataclasses

    from experiments.shakespeare_gpt import experiment
    from research.config.hparams import hparams
    from research.data.feeds import make_feeds
    from research.training.programs import make_programs

    own = dataclasses.replace(experiment(), steps=steps)
    splits = own.data.load()
    feeds = make_feeds(splits, own.data)
    own = own.fit(splits, feeds.decoded)
    programs = make_programs(own, feeds.train.resident)
    batches = feeds.train.batches(own.seed, own.batch_size)
    state = programs.init([own.seed], [hparams(own)], batches.sent(0))
    size = programs.steps_per_call(state, batches.sent(0))
    first = None
    for start in range(0, steps, size):
        sent = [batches.sent(step) for step in range(start, min(start + size, steps))]
        state, metrics = programs.train(state, sent)
        if first is None:
            float(metrics["loss"][0])
            first = time.perf_counter()
    loss = float(metrics["loss"][len(sent) - 1])
    print(f"{steps - min(size, steps)} steps in {time.perf_counter() - first:.2f} s, loss {loss:.3f}")


def process(command: Sequence[str]) -> Callable[[], float]:
    """Makes a function that runs a command, forwards its output, and returns its seconds from start to end."""

    def run() -> float:
        started = time.perf_counter()
        subprocess.run(command, check=True)
        return time.perf_counter() - started

    return run


@command
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--torch-python", help="a Python that has torch")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ours", action="store_true", help="train only Espalier's side")
    asked = parser.parse_args()
    if asked.ours:
        train(asked.steps)
        return
    from experiments.shakespeare_gpt import experiment

    text = experiment().data.path
    steps = ["--steps", str(asked.steps)]
    contenders = {
        "PyTorch, eager": process([asked.torch_python, str(PEER), text, *steps, "--threads", str(asked.threads)]),
        "Espalier": process([sys.executable, "-m", __spec__.name, "--ours", *steps]),
    }
    report(in_turns(contenders, asked.rounds), f"s for {asked.steps} steps", "PyTorch, eager")


if __name__ == "__main__":
    sys.exit(main())
