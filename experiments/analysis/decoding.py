"""Decoding settings of a translation run: its metric for each beam size and length penalty.

    python -m experiments.analysis.decoding runs/multi30k_translation/base --beams 1 2 4 8 --length-penalties 0.6 1 1.4

Scores the validation split by default.  Choose by it, then score the choice once on test:
`python -m launch eval RUN --set task.beams=4 --set task.length_penalty=0.6`.  A beam of 1 is greedy decoding, where the
penalty has no effect, so it is scored once.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from etils import epath

from launch.evaluate import Scorer
from research.errors import command, nearest, require
from research.tasks.sequence_to_sequence import SequenceToSequence
from research.training.folder import read_experiment, trial_folder


def measured(
    trial: epath.Path, split: str, metric: str, beams: Sequence[int], penalties: Sequence[float], *, trust: bool = False
) -> dict[int, list[float]]:
    """Returns {beam size: the metric for every length penalty, or only for the first one with a beam of 1}.

    Raises:
      RequestError: there is no such split or metric, or a beam or penalty is invalid.
    """
    scorer, table = Scorer(split, {}, trust=trust), {size: [] for size in beams}
    for size, row in table.items():
        for penalty in penalties[:1] if size == 1 else penalties:
            scorer.settings = {"task.beams": str(size), "task.length_penalty": str(penalty)}
            scores = scorer.score(trial)
            require(metric in scores, f"--metric {metric}: {nearest(metric, scores)}")
            row.append(scores[metric])
            print(f"beams={size}, length_penalty={penalty:g}: {metric} {row[-1]:.4g}", file=sys.stderr)
    return table


@command
def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="the folder of a run or a trial")
    parser.add_argument("--trial", help="a trial of the run")
    parser.add_argument("--split", default="validation", help="a split of the data (default validation)")
    parser.add_argument("--metric", default="bleu", help="a metric of the run's task (default bleu)")
    parser.add_argument("--beams", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--length-penalties", type=float, nargs="+", default=[0.6, 1.0, 1.4])
    parser.add_argument("--trust", action="store_true", help="run the code of the files and modules that the run names")
    asked = parser.parse_args(argv)
    folder = trial_folder(asked.run, asked.trial)
    task = read_experiment(folder, trust=asked.trust).task
    given = f"{folder}: {type(task).__name__}"
    require(isinstance(task, SequenceToSequence), f"{given} writes no text by beam search; expected a run that does")
    penalties = asked.length_penalties
    table = measured(folder, asked.split, asked.metric, asked.beams, penalties, trust=asked.trust)
    print(f"| beams | {' | '.join(f'length penalty {penalty:g}' for penalty in penalties)} |")
    print("|---" * (1 + len(penalties)) + "|")
    for size, row in table.items():
        cells = [f"{value:.4g}" for value in row] + [""] * (len(penalties) - len(row))
        print(f"| {size} | {' | '.join(cells)} |")
    signature = task.scoring().get(asked.metric, "")
    print(f"\n{asked.metric} on {asked.split} {signature}".rstrip())
    return 0


if __name__ == "__main__":
    sys.exit(main())
