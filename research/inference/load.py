"""Loads the model of a finished run, ready to predict; needs no data set.

from research.inference import load

predict = load("runs/digits_mlp/base").predict
predict(images)["label"]
"""

from __future__ import annotations

from etils import epath

from research.experiment import Experiment
from research.inference.predictor import Predictor
from research.training.folder import read_experiment, read_saved, trial_folder


def load(path: epath.PathLike, *, trial: str | None = None, step: int | None = None, trust: bool = False) -> Predictor:
    """Loads a trained model, ready to predict.

    Args:
      path: the folder of a trial or of a run.
      trial: the name of a trial; may be None for the folder of a trial or of a run with only one.
      step: the step of the checkpoint; None takes the checkpoint that the test split was scored with, else the newest.
      trust: also run the code of files and modules outside of this project that the run names, such as your own file;
        a file must be unchanged since the run.  Runs of anybody else's code stay untouched without it.

    Raises:
      RequestError: there is no such run, trial or checkpoint, or the run names code that is not trusted.
    """
    folder = trial_folder(path, trial)
    return load_trial(folder, read_experiment(folder, trust=trust), step)


def load_trial(folder: epath.Path, experiment: Experiment, step: int | None = None) -> Predictor:
    """Loads the model of a trial whose resolved experiment is known; `step` and errors are those of `load`."""
    saved = read_saved(folder, step)
    return Predictor(experiment, saved.variables, origin=f"{folder}, step {saved.step:,}")
