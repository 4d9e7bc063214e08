"""`launch eval`: finished trials, scored again from their checkpoints."""

from __future__ import annotations

import dataclasses
import sys

from etils import epath

from research.errors import RequestError, nearest
from research.hparams import hparams
from research.inference import read_experiment, read_variables
from research.loop import evaluate, make_feeds
from research.parallel import Programs


def evaluate_again(path: epath.PathLike, split: str) -> int:
    """Prints the metrics of every trial of a run, or of one trial, on a split.

    Returns the exit status: 1 where some trials cannot be scored, which a line each says.

    Raises:
      RequestError: no run, or no trial that can be scored: no checkpoint, or no such split.
    """
    folder = epath.Path(path)
    inside = folder / "trials"
    folders = sorted(inside.iterdir()) if inside.is_dir() else [folder]
    if not folders or not (folders[0] / "config.json").exists():
        raise RequestError(f"{folder}: no run there (expected trials/ or config.json)")
    problems = {}
    for trial in folders:
        try:
            metrics = score(trial, split)
        except RequestError as error:
            problems[trial.name] = error
        else:
            print(f"{trial.name}: " + ", ".join(f"{split}/{name} {value:.6g}" for name, value in metrics.items()))
    if len(problems) == len(folders):
        raise next(iter(problems.values()))
    for name, error in problems.items():
        print(f"{name}: {error}", file=sys.stderr)
    return 1 if problems else 0


def score(trial: epath.Path, split: str) -> dict[str, float]:
    """The metrics of a trial's checkpoint (that which the test split was scored with) on a split."""
    variables = read_variables(trial)
    experiment = dataclasses.replace(read_experiment(trial), ema_decay=None)  # the average is the parameters already
    feeds = make_feeds(experiment.data.load(), experiment.data)
    feed = {"train": feeds.train, **feeds.evaluation}.get(split)
    if feed is None:
        raise RequestError(f"{trial}: its data have no {split} split; {nearest(split, ['train', *feeds.evaluation])}")
    programs = Programs(experiment, feeds.train.resident)
    batches = feeds.train.batches(experiment.seed, experiment.batch_size)
    state = programs.init([experiment.seed], [hparams(experiment)], batches.first())
    batches.close()
    params = variables.pop("params")
    whole = programs.fetch(state).replace(params=params, collections=variables)
    return evaluate(programs, programs.place(whole), feed, experiment)[0]
