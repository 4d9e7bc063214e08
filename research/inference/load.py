"""Loads a finished run to use its model, without the data set.

from research.inference import load

predict = load("runs/digits_mlp/base").predict
predict(images)["label"]
"""

from __future__ import annotations

from etils import epath

from research.inference.predictor import Predictor
from research.training.folder import read_experiment, read_saved, trial_folder


def load(path: epath.PathLike, *, trial: str | None = None, step: int | None = None) -> Predictor:
    """A trained model, ready to predict.

    Args:
      path: the folder of a trial, or of a run with one trial.
      trial: the name of one of a run's trials.
      step: the step of the checkpoint; by default that which the test split was scored with.

    Raises:
      RequestError: no such run, trial or checkpoint.
    """
    folder = trial_folder(path, trial)
    saved = read_saved(folder, step)
    return Predictor(read_experiment(folder), saved.variables, origin=f"{folder}, step {saved.step:,}")
