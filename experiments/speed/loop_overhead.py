"""The overhead of the training loop: its steps/s against a bare Python loop around the same jitted step.

    python -m experiments.speed.loop_overhead

The loop writes metrics of every 20th step, TensorBoard events and progress, and checks every loss for NaN.  Its rate
comes from result.json.  The bare loop gathers its batches from the same resident data and waits once, at the end.
"""

from __future__ import annotations

import dataclasses
import tempfile
import time

import jax
from etils import epath

from experiments.speed.against_torch import mlp
from experiments.speed.side_by_side import in_turns, report
from research.config.hparams import hparams
from research.data.feed import take
from research.data.feeds import make_feeds
from research.training.loop import train
from research.training.programs import make_programs
from research.training.progress import TextProgress
from research.training.records import read_json
from research.training.step import make_train_step
from research.training.trial import Trial

STEPS = 600


def main() -> None:
    own = dataclasses.replace(mlp(), steps=STEPS)
    feeds = make_feeds(own.data.load(), own.data)
    batches = feeds.train.batches(0, own.batch_size)
    step = make_train_step(own)
    bare_step = jax.jit(lambda state, resident, sent: step(state, take(resident, sent)), donate_argnums=0)

    def loop(steps_per_call: int | None):
        changed = dataclasses.replace(own, parallel=dataclasses.replace(own.parallel, steps_per_call=steps_per_call))
        programs = make_programs(changed, feeds.train.resident)

        def run() -> float:
            with tempfile.TemporaryDirectory() as folder:
                trial = Trial("trial", changed, epath.Path(folder) / "trial")
                train([trial], feeds, stacked=False, progress=TextProgress(), programs=programs)
                return read_json(trial.folder / "result.json")["steps_per_second"]

        run()
        return run

    programs = make_programs(own, feeds.train.resident)

    def bare() -> float:
        state = programs.init([0], [hparams(own)], batches.sent(0))
        state, _ = bare_step(state, programs.resident, batches.sent(0))
        jax.block_until_ready(state)
        started = time.perf_counter()
        for i in range(STEPS):
            state, _ = bare_step(state, programs.resident, batches.sent(i))
        jax.block_until_ready(state)
        return STEPS / (time.perf_counter() - started)

    bare()
    found = in_turns({"bare Python loop": bare, "loop, a step per call": loop(1), "loop, as it chooses": loop(None)})
    print(f"a step takes {1000 / sorted(found['bare Python loop'])[len(found['bare Python loop']) // 2]:.2f} ms")
    report(found, "steps/s", "bare Python loop")


if __name__ == "__main__":
    main()
