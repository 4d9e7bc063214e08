"""The speed-up of a training step on a CPU by YNNPACK's products, or its products and sums.

    python -m experiments.speed.ynnpack mlp gpt translation speech vit lstm

The cases are those of `against_torch`.  `research.layers.kernels.compiler_options` chooses by these timings.  Results
are in experiments/RESULTS.md.
"""

from __future__ import annotations

import argparse
from unittest import mock

from experiments.speed.against_torch import CASES, ours
from experiments.speed.side_by_side import in_turns, report
from research.layers import kernels
from research.parallel.host_memory import keep_freed_memory_on_cpu

OPTION = "xla_cpu_experimental_ynn_fusion_type"
CHOICES = {
    "XLA's defaults": {},
    "products": {OPTION: "LIBRARY_FUSION_TYPE_DOT"},
    "products and sums": {OPTION: "LIBRARY_FUSION_TYPE_DOT,LIBRARY_FUSION_TYPE_REDUCE"},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="+", choices=list(CASES), metavar="case", help=", ".join(CASES))
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    keep_freed_memory_on_cpu()
    for name in asked.cases:
        print(f"{name}: {CASES[name].what}", flush=True)
        contenders = {}
        for choice, options in CHOICES.items():
            with mock.patch.object(kernels, "compiler_options", lambda platform, record, options=options: options):
                contenders[choice] = ours(CASES[name].experiment())
        report(in_turns(contenders, asked.rounds), "steps/s", "XLA's defaults")


if __name__ == "__main__":
    main()
