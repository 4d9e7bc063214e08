"""Evaluations as values: each says which examples it scores, how often, by which task and with which parameters."""

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
    """Scores a split, or samples that the task makes, at its own interval.

    >>> Evaluation("validation", every=500).of_split
    'validation'
    >>> Evaluation("first_thousand", split="train", examples=1000).of_split
    'train'
    >>> Evaluation("samples", examples=64, every=2000).of_split is None
    True

    Attributes:
      name: prefix of the metrics ("samples/fid") and name of the folder of exhibits.
      split: "train", "validation" or "test".  None uses the split called `name`; if `name` is not a split, the task
        makes samples from keys alone, and a batch has only `key`, `weight` and `example`.
      every: steps between evaluations; one more runs at the end.  None uses the experiment's `eval_every` for
        "validation"; any other evaluation then runs once, at the end, with the state that `checkpoints.best` chose.
      examples: number of examples, taken from the start of the split, or number of samples; None uses the whole split.
      task: replaces the experiment's task; None uses the experiment's.
      averaged: evaluates the moving average of the variables, if the state has one (`ema_decay`).
      seed: seeds the examples' keys; a key depends only on this seed and the example's number.
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
        """The split that is scored; None if the task makes samples."""
        return self.split or (self.name if self.name in SPLITS else None)

    @property
    def once(self) -> bool:
        """True if the evaluation runs once, at the end, with the best state."""
        return self.every is None

    def check(self) -> None:
        """Raises RequestError for values that are out of range or contradict one another."""
        require(
            bool(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", self.name)),
            f"name={self.name!r}: expected letters, digits, '_', '-' and '.'",
        )
        require(self.name != "train", "name='train': reserved for the metrics of training; expected another name")
        known = ("train", *SPLITS)
        require(
            self.split is None or self.split in known,
            f"split={self.split!r}: no such split; {nearest(str(self.split), known)}",
        )
        require(
            self.name not in SPLITS or self.of_split == self.name,
            f"split={self.split!r}: the evaluation {self.name!r} scores the split of that name; expected another name",
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
    """Adds "validation" and "test" to the given evaluations, unless they are among them.

    >>> [e.name for e in complete((Evaluation("samples", examples=8),), eval_every=None, steps=100)]
    ['validation', 'test', 'samples']
    """
    named = {name: Evaluation(name) for name in SPLITS} | {evaluation.name: evaluation for evaluation in evaluations}
    validation = named["validation"]
    if validation.every is None:
        named["validation"] = dataclasses.replace(validation, every=eval_every or steps)
    return tuple(named.values())


def check_evaluations(evaluations: Sequence[Evaluation], eval_every: int | None) -> None:
    """Raises RequestError, beginning with the path of the evaluation, if evaluations contradict one another."""
    names = [evaluation.name for evaluation in evaluations]
    for i, evaluation in enumerate(evaluations):
        require(names.index(evaluation.name) == i, f"evaluations.{i}.name={evaluation.name!r}: the name is taken")
        require(
            evaluation.name != "validation" or None in (eval_every, evaluation.every),
            f"eval_every={eval_every} and evaluations.{i}.every={evaluation.every} both say when validation is scored; "
            "expected one of them",
        )


def selecting(asked: str, metric: str, evaluations: Sequence[Evaluation], task: Task) -> tuple[Evaluation, Direction]:
    """The evaluation that gives the metric to select by, and the direction of the metric.

    Args:
      asked: the setting that selects, such as "checkpoints.best="; begins the error message.
      metric: "EVALUATION/NAME".
      evaluations: all evaluations, as `complete` returns them.
      task: the experiment's task.

    Raises:
      RequestError: no evaluation during training has this name, or its task declares no direction for the metric.
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
    """The directions that the tasks declare, {"loss": "min", "samples/fid": "min"}.

    Metrics of an evaluation with its own task have the evaluation's name as a prefix.
    """
    own = {
        f"{evaluation.name}/{metric}": way
        for evaluation in evaluations
        if evaluation.task is not None
        for metric, way in evaluation.task.better.items()
    }
    return {**task.better, **own}
