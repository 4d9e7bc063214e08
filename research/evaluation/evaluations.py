"""Evaluations as values: what is scored, how often, by which task and with which parameters."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence

from research.config.checks import check_part
from research.errors import RequestError, nearest, require
from research.metrics.directions import Direction
from research.tasks.task import Task, require_direction

SPLITS = ("validation", "test")
"""Splits that are evaluated by default, each under its own name."""


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Scores a split, or samples that the task makes, at steps of its own.

    >>> Evaluation("validation", every=500).of_split
    'validation'
    >>> Evaluation("first_thousand", split="train", examples=1000).of_split
    'train'
    >>> Evaluation("samples", examples=64, every=2000).of_split is None
    True

    Attributes:
      name: of its metrics ("samples/fid") and of the folder of its exhibits.
      split: "train", "validation" or "test".  None: the split that is called `name`; where there is none, the task
        makes samples from keys alone: a batch has `key`, `weight` and `example` only.
      every: steps between evaluations, and there is one at the end.  None is the experiment's `eval_every` for
        "validation"; any other evaluation is then made once, at the end, with the state that `checkpoints.best` chose.
      examples: the first so many examples of the split, or the number of samples; None: all of the split.
      task: in place of the experiment's.
      averaged: evaluates the moving average of the parameters, where there is one (`ema_decay`).
      seed: of the keys of its examples, which depend on nothing else but the example's number.
    """

    name: str
    split: str | None = None
    every: int | None = None
    examples: int | None = None
    task: Task | None = None
    averaged: bool = True
    seed: int = 0

    @property
    def of_split(self) -> str | None:
        """The split that is scored; None where the task makes samples."""
        return self.split or (self.name if self.name in SPLITS else None)

    @property
    def once(self) -> bool:
        """True if the evaluation is made once, at the end, with the best state."""
        return self.every is None

    def check(self) -> None:
        """Raises RequestError for values that are no evaluation."""
        require(
            bool(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", self.name)),
            f"name={self.name!r}: expected letters, digits, '_', '-' and '.'",
        )
        require(self.name != "train", "name='train': that of the metrics of training; expected another, such as 'fit'")
        known = ("train", *SPLITS)
        require(
            self.split is None or self.split in known,
            f"split={self.split!r}: no such split; {nearest(str(self.split), known)}",
        )
        require(
            self.name not in SPLITS or self.of_split == self.name,
            f"split={self.split!r}: the evaluation {self.name!r} is of the split of that name; expected another name",
        )
        for field in ("every", "examples"):
            value = getattr(self, field)
            require(value is None or value >= 1, f"{field}={value}: expected at least 1, or none")
        require(0 <= self.seed < 2**32, f"seed={self.seed}: expected 0 to 4294967295")
        require(
            self.of_split is not None or self.examples is not None,
            f"examples=none: {self.name!r} is no split; expected the number of samples, or split=validation",
        )
        require(
            self.of_split != "test" or self.once,
            f"every={self.every}: the test split is scored once, at the end; expected none, or split=validation",
        )
        check_part("task", self.task)


def complete(evaluations: Sequence[Evaluation], *, eval_every: int | None, steps: int) -> tuple[Evaluation, ...]:
    """All evaluations of an experiment: those given, and "validation" and "test" by default.

    >>> [e.name for e in complete((Evaluation("samples", examples=8),), eval_every=None, steps=100)]
    ['validation', 'test', 'samples']
    """
    named = {name: Evaluation(name) for name in SPLITS} | {evaluation.name: evaluation for evaluation in evaluations}
    validation = named["validation"]
    if validation.every is None:
        named["validation"] = dataclasses.replace(validation, every=eval_every or steps)
    return tuple(named.values())


def check_evaluations(evaluations: Sequence[Evaluation], eval_every: int | None) -> None:
    """Raises RequestError, with the path of the evaluation first, for those that do not go together."""
    names = [evaluation.name for evaluation in evaluations]
    for i, evaluation in enumerate(evaluations):
        require(names.index(evaluation.name) == i, f"evaluations.{i}.name={evaluation.name!r}: there is one already")
        require(
            evaluation.name != "validation" or None in (eval_every, evaluation.every),
            f"eval_every={eval_every} and evaluations.{i}.every={evaluation.every} both say when validation is scored; "
            "expected one of them",
        )


def selecting(asked: str, metric: str, evaluations: Sequence[Evaluation], task: Task) -> tuple[Evaluation, Direction]:
    """The evaluation that gives a metric to select by, and the direction of that.

    Args:
      asked: what asks for it, such as "checkpoints.best="; begins the error.
      metric: "EVALUATION/NAME".
      evaluations: `complete`.
      task: the experiment's.

    Raises:
      RequestError: none made during training is called so, it is of the test split, or no direction is declared.
    """
    name, _, own = metric.partition("/")
    usable = {evaluation.name: evaluation for evaluation in evaluations if not evaluation.once}
    if not own or name not in usable:
        others = " or ".join(f"{other}/…" for other in usable)
        raise RequestError(
            f"{asked}{metric}: expected a metric of an evaluation during training ({others}), such as validation/loss"
        )
    evaluation = usable[name]
    return evaluation, require_direction(f"{asked}{metric}", evaluation.task or task, metric)


def directions_of(task: Task, evaluations: Sequence[Evaluation]) -> dict[str, Direction]:
    """The directions that the tasks declare, {"loss": "min", "samples/fid": "min"}: of an evaluation with a task of its
    own under the name of the evaluation."""
    own = {
        f"{evaluation.name}/{metric}": way
        for evaluation in evaluations
        if evaluation.task is not None
        for metric, way in evaluation.task.better.items()
    }
    return {**task.better, **own}
