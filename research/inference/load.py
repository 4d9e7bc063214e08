"""Loads the model of a finished run, ready to predict; needs no data set.

from research.inference import load

predict = load("runs/digits_mlp/base").predict
predict(images)["label"]
"""

from __future__ import annotations

from etils import epath

from research.inference.predictor import Predictor
from research.training.folder import read_experiment, read_saved, trial_folder


def load(path: epath.PathLike, *, trial: str | None = None, step: int | None = None) -> Predictor:
    """Loads a trained model, ready to predict.

    Args:
      path: the folder of a trial or of a run.
      trial: the name of a trial; may be None for the folder of a trial or of a run with only one.
      step: the step of the checkpoint; None takes the checkpoint that the test split was scored with, else the newest.

    Raises:
      RequestError: there is no such run, trial or checkpoint.
    """
    folder = trial_folder(path, trial)
    saved = read_saved(folder, step)
    return Predictor(read_experiment(folder), saved.variables, origin=f"{folder}, step {saved.step:,}")
