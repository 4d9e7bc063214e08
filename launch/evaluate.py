"""`launch eval`: scores finished trials again from their checkpoints, with the same or other settings."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import jax
from etils import epath

from research.config.hparams import hparams
from research.config.override import conformed, override, parse_assignment
from research.console import say
from research.data.feeds import Feeds, make_feeds
from research.data.spec import Data
from research.errors import RequestError, in_one_line, nearest
from research.evaluation.evaluations import Evaluation
from research.experiment import Experiment
from research.locations import location
from research.parallel.programs import Programs
from research.report.statistics import Summary, summarize
from research.running.plan import program_key
from research.training.evaluate import evaluate, feed_of
from research.training.folder import read_experiment, read_variables, trial_folders
from research.training.programs import make_programs
from research.training.records import finite, read_record


def evaluate_again(
    path: epath.PathLike, split: str, settings: Sequence[str] = (), *, trust: bool = False, as_json: bool = False
) -> int:
    """Prints the metrics of a trial, or of every trial of a run with their means, on a split.

    Args:
      path: a run's folder, or a trial's.
      split: a split of the data, or the name of one of the experiment's evaluations.
      settings: "PATH=VALUE" for changes to scoring, such as the beam size or shifts of test images.
      trust: also run the code of files and modules outside of this project that the run names.
      as_json: prints one JSON object instead of lines: the metrics of each trial, the mean, std and n of each variant,
        and the trials that cannot be scored.

    Returns the exit status: 1 if some trials cannot be scored, with one line for each of them.

    Raises:
      RequestError: the folder is not a run, or no trial can be scored: no checkpoint, no such split, or unsuitable
        settings.
    """
    folder = location(path)
    folders = trial_folders(folder) if (folder / "trials").is_dir() else [folder]
    if not folders or not (folders[0] / "config.json").exists():
        raise RequestError(f"{folder}: no run there (expected trials/ or config.json)")
    scorer = Scorer(split, dict(parse_assignment(text) for text in settings), trust=trust)
    scores, problems = {}, {}
    for trial in folders:
        try:
            scores[trial.name] = scorer.score(trial)
        except RequestError as error:
            problems[trial.name] = error
        else:
            if as_json:
                continue
            say(_line(trial.name, split, {name: f"{value:.6g}" for name, value in scores[trial.name].items()}))
    if len(problems) == len(folders):
        raise next(iter(problems.values()))
    for name, error in problems.items():
        say(f"{name}: {error}", sys.stderr)
    means = _means(scores, _variants(folder))
    if as_json:
        say(json.dumps(_record(split, scores, means, problems), indent=1, allow_nan=False))
        return 1 if problems else 0
    for variant, summaries in means.items():
        if any(summary.n > 1 for summary in summaries.values()):
            say(_line(variant, split, {m: _spread(s) for m, s in summaries.items()}))
    return 1 if problems else 0


class Scorer:
    """Scores trials; loads data and compiles programs that they share only once."""

    def __init__(self, split: str, settings: Mapping[str, str], *, trust: bool = False):
        self.split, self.settings, self.trust = split, settings, trust
        self._feeds: dict[tuple[Data, str], Feeds] = {}
        self._programs: dict[tuple, Programs] = {}

    def score(self, trial: epath.Path) -> dict[str, float]:
        """Returns the metrics of the checkpoint that the test split was scored with."""
        experiment = read_experiment(trial, trust=self.trust)
        variables = read_variables(trial)
        experiment = dataclasses.replace(experiment, ema_decay=None)  # parameters are averaged already
        experiment = conformed(override(experiment, self.settings, parse=True))
        with in_one_line():
            experiment.check()
        key = experiment.data, experiment.label
        feeds = self._feeds.get(key)
        if feeds is None:
            feeds = self._feeds[key] = make_feeds(experiment.load(), experiment.data)
        evaluation = self._evaluation(trial, experiment)
        feed = feed_of(evaluation, feeds)
        if feed is None:
            known = nearest(self.split, ["train", *feeds.evaluation])
            raise RequestError(f"{trial}: its data has no {evaluation.of_split} split; {known}")
        programs, state = self._initial(experiment, feeds)
        params = variables.pop("params")
        _check_shapes(state.params, params)
        whole = programs.placement.whole(state).replace(params=params, collections=variables)
        return evaluate(programs, programs.placement.place(whole), feed, experiment, evaluation)[0]

    def _evaluation(self, trial: epath.Path, experiment: Experiment) -> Evaluation:
        """The evaluation that is asked for, or that of the whole training split."""
        known = {evaluation.name: evaluation for evaluation in experiment.all_evaluations()}
        known.setdefault("train", Evaluation("train", split="train"))
        if self.split not in known:
            raise RequestError(f"{trial}: no split or evaluation {self.split!r}; {nearest(self.split, known)}")
        return known[self.split]

    def _initial(self, experiment: Experiment, feeds: Feeds):
        """Returns the programs of an experiment, and their initial state."""
        key, resident = program_key(experiment, feeds, None), feeds.train.resident
        known = self._programs.get(key)
        programs = self._programs[key] = known.on(resident) if known else make_programs(experiment, resident)
        batches = feeds.train.batches(experiment.seed, experiment.batch_size)
        state = programs.init([experiment.seed], [hparams(experiment)], batches.largest())
        batches.close()
        return programs, state


def _check_shapes(expected, found) -> None:
    """Raises RequestError if settings changed the shapes of the trained model."""
    shapes = [{jax.tree_util.keystr(k): x.shape for k, x in jax.tree.leaves_with_path(t)} for t in (expected, found)]
    wrong = sorted(name for name in shapes[0].keys() | shapes[1].keys() if shapes[0].get(name) != shapes[1].get(name))
    if wrong:
        raise RequestError(
            f"the settings change the model: {wrong[0]} is {shapes[1].get(wrong[0], 'absent')} in the checkpoint and "
            f"{shapes[0].get(wrong[0], 'absent')} in the model, {len(wrong)} in all; expected settings that leave it"
        )


def _line(name: str, split: str, values: Mapping[str, str]) -> str:
    return f"{name}: " + ", ".join(f"{split}/{metric} {value}" for metric, value in values.items())


def _variants(folder: epath.Path) -> dict[str, str]:
    """Maps the name of every trial of a run to its variant."""
    trials = read_record(folder / "sweep.json").get("trials")
    listed = trials if isinstance(trials, list) else []
    return {trial["name"]: str(trial.get("variant")) for trial in listed if isinstance(trial, dict) and "name" in trial}


def _spread(of: Summary) -> str:
    spread = "" if of.std is None else f" ± {of.std:.2g}"
    return f"{of.mean:.6g}{spread} ({of.n})"


def _means(scores: Mapping[str, Mapping[str, float]], variants: Mapping[str, str]) -> dict[str, dict[str, Summary]]:
    """Summarizes each metric of each variant over its trials."""
    grouped: dict[str, list[Mapping[str, float]]] = {}
    for name, metrics in scores.items():
        grouped.setdefault(variants.get(name, name), []).append(metrics)
    return {
        variant: {
            metric: summarize(trial[metric] for trial in trials if metric in trial)
            for metric in dict.fromkeys(name for trial in trials for name in trial)
        }
        for variant, trials in grouped.items()
    }


def _record(
    split: str,
    scores: Mapping[str, Mapping[str, float]],
    means: Mapping[str, Mapping[str, Summary]],
    problems: Mapping[str, RequestError],
) -> dict[str, Any]:
    """The scores as JSON, in which numbers that are not finite are null."""
    return {
        "split": split,
        "trials": {name: {metric: finite(x) for metric, x in metrics.items()} for name, metrics in scores.items()},
        "variants": {
            variant: {
                metric: {"mean": finite(s.mean), "std": None if s.std is None else finite(s.std), "n": s.n}
                for metric, s in summaries.items()
            }
            for variant, summaries in means.items()
        },
        "problems": {name: str(error) for name, error in problems.items()},
    }
