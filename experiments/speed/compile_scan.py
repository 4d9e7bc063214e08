"""Compile time of the training program of a GPT: 4 and 24 layers, scanned and written out.

    python -m experiments.speed.compile_scan                  scanned, 3 rounds in turns
    python -m experiments.speed.compile_scan --written-out    block by block, 1 round

Measures from tracing to the executable, on shapes without initialising anything.  Results are in
experiments/RESULTS.md.
"""

from __future__ import annotations

import argparse
import dataclasses
import time

import jax

from experiments.speed.against_torch import gpt
from experiments.speed.side_by_side import in_turns, report
from research.config.hparams import hparams
from research.data.feeds import make_feeds
from research.training.programs import make_programs
from research.training.step import make_init


def contender(depth: int, scan_layers: bool):
    """Makes a function that compiles the program again and returns the seconds."""
    own = gpt()
    own = dataclasses.replace(own, model=own.model.clone(depth=depth, scan_layers=scan_layers))
    feeds = make_feeds(own.data.load(), own.data)
    sent = feeds.train.batches(0, own.batch_size).sent(0)

    def run() -> float:
        jax.clear_caches()
        programs = make_programs(own, feeds.train.resident)
        example = {name: x[: own.batch_size] for name, x in own.data.train.items()}
        example["weight"] = jax.numpy.ones(own.batch_size)
        state = jax.eval_shape(make_init(own), jax.random.key(0), example, hparams(own))
        started = time.perf_counter()
        programs.train_program(state, sent)
        return time.perf_counter() - started

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--written-out", action="store_true")
    written_out = parser.parse_args().written_out
    found = {f"{depth} layers": contender(depth, not written_out) for depth in (4, 24)}
    report(in_turns(found, rounds=1 if written_out else 3), "s", "4 layers")


if __name__ == "__main__":
    main()
