"""A 64-trial sweep (learning rate x weight decay x seeds) in one command, against 64 commands of one trial each.

    python -m experiments.speed.sweep_against_commands            all 64 commands, about 10 minutes on 2 cores
    python -m experiments.speed.sweep_against_commands --commands 8     times 8 of them, spread over the sweep

Also prints trial steps/s in one process, stacked and one after another, as measured by the launcher.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time

from etils import epath

from experiments import digits_mlp
from research import sweep
from research.training.records import read_json


def _timed(*arguments: str) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-m", "launch", "run", "digits_mlp", *arguments], check=True, capture_output=True)
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--commands", type=int, default=64)
    asked = parser.parse_args()
    trials = sweep.trials(digits_mlp.experiment(), digits_mlp.sweeps()["lr_wd"], seeds=4)
    with tempfile.TemporaryDirectory() as folder:
        together = _timed("--sweep", "lr_wd", "--seeds", "4", "--out", f"{folder}/sweep")
        chosen = trials[:: len(trials) // asked.commands]
        single = []
        for trial in chosen:
            settings = [f"--set={path}={value}" for path, value in trial.overrides.items()]
            single.append(_timed(*settings, "--out", f"{folder}/{trial.name}"))
        (group,) = read_json(epath.Path(folder) / "sweep" / "sweep.json")["groups"]
    separate = sum(single) * len(trials) / len(single)
    print(
        f"{len(trials)} trials in one sweep: {together:.1f} s, {'stacked' if group['stacked'] else 'one after another'}"
    )
    print(f"{len(single)} commands of one trial: {sum(single):.1f} s, so {len(trials)} take {separate:.1f} s")
    print(f"the sweep takes {together / separate:.3f} of their time")
    print(f"trial steps/s in one process: {group['measured']}")


if __name__ == "__main__":
    main()
