"""Writes the texts that a task decodes for its examples: the common part of translation and transcription."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from research.data.feed import MASK
from research.errors import RequestError, TooLong
from research.inference.predictor import Predictor
from research.tasks.task import Task


def check_predictor(predictor: object, verb: str, *tasks: type[Task]) -> None:
    """Raises a RequestError that begins with `verb`, unless `predictor` was trained by one of `tasks`."""
    expected = f"expected a run trained by {' or '.join(task.__name__ for task in tasks)}"
    if not isinstance(predictor, Predictor):
        raise RequestError(f"{verb}: {type(predictor).__name__} given; {expected}, as load(...) returns it")
    trained = predictor.experiment.task
    if not isinstance(trained, tasks):
        raise RequestError(f"{verb}: this run was trained by {type(trained).__name__}; {expected}")


def write(predictor: Predictor, columns: Mapping[str, np.ndarray], example: str) -> list[str]:
    """Returns the text that the task (a `Texts`) decodes for each example of `columns`.

    Raises:
      RequestError: an example is too long for the model; the message names it by `example` and its number.
    """
    try:
        return [predictor.experiment.task.tokenizer.decode(row) for row in predictor.predict(columns)["tokens"]]
    except TooLong as error:
        (mask,) = (x for name, x in columns.items() if name.endswith(MASK))
        raise RequestError(f"{example} {mask.sum(axis=1).argmax()}: {error}") from None
