"""A run, from its folder: its table, its trials, its curves, its best variant, its models."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from etils import epath

from research.console import counted
from research.errors import RequestError, nearest, require
from research.experiment import Experiment
from research.inference.load import load, load_trial
from research.inference.predictor import Predictor
from research.report import figures, html, sentences, terminal
from research.report.figures import Picture
from research.report.runs import RunResult, TrialResult
from research.report.selection import criterion
from research.report.statistics import Summary, summarize, that_count
from research.report.write import PRINTED, left_out_of, read_table
from research.running import frames
from research.running.frames import native
from research.training.folder import read_experiment

if TYPE_CHECKING:
    import pandas


def open_run(path: epath.PathLike, *, trust: bool = False) -> Run:
    """Opens the run in a folder, whether a command, a script or a notebook trained it, and however far it has got.

    Args:
      path: the folder, on this machine, or gs://… or s3://….
      trust: also run the code of files and modules outside of this project that the run names, when an experiment or a
        model is asked for.

    Raises:
      RequestError: the folder is not a run.
    """
    return Run(path, trust=trust)


class Run:
    """A run as its folder was when it was opened; `fit`, `run_sweep` and `open_run` return one.

        run = open_run("runs/digits_mlp/lr_wd")
        run.table()                                             # and run.trials(), run.curves()
        run.best("validation/accuracy").hyperparameters         # {"optimizer.learning_rate": 0.01, …}
        run.best("validation/accuracy").load().predict(images)
        run.plot_sweep()                                        # and run.plot_scores(), run.plot_curves("train/loss")

    Attributes:
      folder: the run's folder.
      result: all that was read there (`research.report.RunResult`).
    """

    def __init__(
        self, folder: epath.PathLike, *, trust: bool = False, experiments: Mapping[str, Experiment] | None = None
    ):
        """Reads a folder; `experiments` are those of its trials that are known already."""
        self._table = read_table([folder])
        self.result: RunResult = self._table.runs[0]
        self.folder = epath.Path(self.result.folder)
        self._trust, self._experiments = trust, dict(experiments or {})

    @property
    def variants(self) -> tuple[str, ...]:
        """The names of the variants, in the order of the sweep."""
        return self.result.variants

    # -- numbers -------------------------------------------------------------------------------------------------------

    def table(self) -> pandas.DataFrame:
        """A row for each variant: the fields that differ, its trials, and for each metric the mean over the finished
        ones, the sample standard deviation, n, and where the sweep has a baseline the mean of the paired differences to
        it, the ends of their 95% interval and the number of pairs.  The numbers are those of report/table.csv.

        Raises:
          RequestError: pandas is not installed.
        """
        return frames.table(self._table)

    def trials(self) -> pandas.DataFrame:
        """A row for each trial: its variant, seed and overrides, its status, its metrics and how long it took."""
        return frames.trials(self.result)

    def curves(self) -> pandas.DataFrame:
        """A row for each number logged in training: trial, variant, seed, split, metric, step, value."""
        return frames.curves(self.result)

    def best(self, metric: str | None = None) -> Best:
        """The variant with the best mean of a metric over its finished trials; the first one if several are equal.

        Args:
          metric: a metric of any split but test, such as "validation/accuracy"; its task says which way is better.
            None takes the one that the report chooses by.

        Raises:
          RequestError: the metric is unknown, is of the test split, or has no direction, or no trial has finished.
        """
        finished = that_count(self.result.trials)
        require(bool(finished), f"{self.folder}: no trial has finished yet")
        known = dict.fromkeys(name for trial in finished for name in trial.metrics if not name.startswith("test/"))
        chosen = criterion(self.result).chooser if metric is None else metric
        require(chosen is not None, f"{self.folder} has no validation score to choose by; {nearest('', known)}")
        require(
            not chosen.startswith("test/"), f"{chosen}: the test split chooses nothing; {nearest('validation', known)}"
        )
        require(chosen in known, f"no metric {chosen!r} in {self.folder}; {nearest(chosen, known)}")
        way = self.result.direction(chosen)
        require(way is not None, f"{chosen}: its task does not say which way is better")
        found = {name: _summary(self.result.of(name), chosen) for name in self.variants}
        scored = {name: summary for name, summary in found.items() if summary.n}
        variant = (min if way == "min" else max)(scored, key=lambda name: scored[name].mean)
        return Best(self, variant, chosen, scored[variant])

    # -- models --------------------------------------------------------------------------------------------------------

    def load(self, variant: str | None = None, *, seed: int | None = None, step: int | None = None) -> Predictor:
        """Loads a trained model, ready to predict; needs no data.

        Args:
          variant: the name of a variant; may be None if there is only one.
          seed: one of its seeds; None takes its first finished trial.
          step: the step of the checkpoint; None takes the one that the test split was scored with, else the newest.

        Raises:
          RequestError: there is no such variant, seed or checkpoint, or the run names code that is not trusted.
        """
        trial = self._trial(variant, seed)
        folder = self.folder / "trials" / trial.name
        if trial.name in self._experiments:
            return load_trial(folder, self._experiments[trial.name], step)
        return load(folder, step=step, trust=self._trust)

    def experiment(self, variant: str | None = None, *, seed: int | None = None) -> Experiment:
        """The resolved experiment of a trial, found as `load` finds it."""
        trial = self._trial(variant, seed)
        if trial.name not in self._experiments:
            self._experiments[trial.name] = read_experiment(self.folder / "trials" / trial.name, trust=self._trust)
        return self._experiments[trial.name]

    def _trial(self, variant: str | None, seed: int | None) -> TrialResult:
        if variant is None:
            said = f"{self.folder} has {counted(len(self.variants), 'variant')}"
            require(len(self.variants) == 1, f"{said}; name one: {nearest('', self.variants)}")
            variant = self.variants[0]
        trials = self.result.of(variant)
        require(bool(trials), f"{self.folder} has no variant {variant!r}; {nearest(str(variant), self.variants)}")
        if seed is None:
            return next(iter(that_count(trials)), trials[0])
        seeds = {trial.seed: trial for trial in reversed(trials)}
        require(seed in seeds, f"{variant} has no seed {seed!r}; {nearest(str(seed), map(str, seeds))}")
        return seeds[seed]

    # -- figures -------------------------------------------------------------------------------------------------------

    def plot_scores(self) -> Picture:
        """The scores of every trial, and the differences to the baseline if the sweep has one."""
        return self._drawn(figures.score_pictures(self._table), "scores need two variants with finished trials")

    def plot_sweep(self) -> Picture:
        """The scores over the fields that differ: a line, a heat map or parallel axes."""
        return self._drawn(figures.landscape_pictures(self._table), "the sweep varies no field in steps")

    def plot_curves(self, metric: str | None = None) -> Picture:
        """A metric over the steps of training; a band spans the seeds.

        Args:
          metric: such as "train/loss" or "validation/accuracy"; None takes the first that the report shows.
        """
        logged = {"/".join(key): key for trial in self.result.trials for key in trial.curves}
        require(bool(logged), f"{self.folder}: nothing has been logged yet")
        require(metric is None or metric in logged, f"no curve of {metric!r}; {nearest(str(metric), logged)}")
        shown = None if metric is None else [logged[metric]]
        return self._drawn(figures.curve_pictures(self._table, shown), f"{metric} has no number to draw")

    def _drawn(self, found: list[Picture], problem: str) -> Picture:
        if not found:
            raise RequestError(f"{self.folder}: {problem}")
        return found[0]

    # -- how it reads --------------------------------------------------------------------------------------------------

    def __repr__(self) -> str:
        shown, left_out = terminal.to_text(self._table.shortened(PRINTED)), left_out_of(self._table)
        said = [f"Run of {self.folder}\n", shown, *([f"{left_out}\n"] if left_out else [])]
        return "\n".join([*said, sentences.summary(self._table)])

    def _repr_html_(self) -> str:
        left_out = left_out_of(self._table)
        return html.to_fragment(self._table.shortened(PRINTED)) + (f"<p>{left_out}</p>" if left_out else "")


@dataclasses.dataclass(frozen=True)
class Best:
    """The best variant of a run.

    Attributes:
      run: the run.
      variant: the name of the variant.
      metric: the metric that it is best by.
      score: the mean of the metric over its finished trials, their standard deviation, and n.
    """

    run: Run = dataclasses.field(repr=False)
    variant: str
    metric: str
    score: Summary

    @functools.cached_property
    def hyperparameters(self) -> dict[str, Any]:
        """{dotted path: value} of the fields in which the variants differ."""
        return {path: native(self.run.result.value(self.variant, path)) for path in self.run.result.varied}

    @functools.cached_property
    def experiment(self) -> Experiment:
        """The resolved experiment of its first finished trial."""
        return self.run.experiment(self.variant)

    def load(self) -> Predictor:
        """Loads the model of its first finished trial."""
        return self.run.load(self.variant)


def _summary(trials: tuple[TrialResult, ...], metric: str) -> Summary:
    return summarize(trial.metrics[metric] for trial in that_count(trials) if metric in trial.metrics)
