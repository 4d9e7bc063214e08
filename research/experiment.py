"""The `Experiment`: a frozen value that can be printed, compared, hashed, changed and written to JSON."""

from __future__ import annotations

import contextlib
import dataclasses
from typing import Any

from flax import linen as nn

from research.config.brief import calling, changed, written
from research.config.checks import check_part
from research.config.hparams import hparam
from research.config.once import Once
from research.console import counted
from research.data.augment.augmentation import BatchAugmentation
from research.data.feed import take
from research.data.feeds import make_feeds
from research.data.source import Decoded, Source, chunks
from research.data.spec import Data, Splits
from research.data.transforms import Transform, fit_transforms, preprocess
from research.errors import RequestError, prefixed
from research.evaluation.evaluations import Evaluation, check_evaluations, complete, selecting
from research.optimizers import Optimizer
from research.parallel.spec import Parallel
from research.parameters import ParameterTable, abstract_parameters
from research.tasks.task import Task
from research.training.checkpoints import Checkpoints
from research.training.early_stopping import EarlyStopping

FITTED = ("data", "task", "evaluations", "preprocess", "batch_size")
"""The fields that `Experiment.fit` reads, and the only ones that it may change."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment:
    """A model that learns a task from data: everything that determines the result, and nothing else.

    Attributes:
      model: a Linen module; computes in its own `dtype`, keeps parameters in float32.
      task: defines the loss, the metrics, and how a batch becomes the model's arguments.
      data: the source of the examples and how they are split.
      optimizer: the update rule, its learning-rate schedule and weight decay.
      steps: optimizer steps to train for.
      batch_size: examples per optimizer step, over all devices and micro-batches.
      seed: seeds the initial parameters, the order of examples, dropout and augmentation; never the split.
      preprocess: transforms applied to every batch inside the program: in training, in evaluation and in `predict`.
      augment: random changes to training examples, keyed per example, inside the program, before `preprocess`
        (some, such as SpecAugment, after it).
      accumulation: micro-batches per step; gradients equal those of the whole batch, except that batch norm normalises
        each micro-batch by itself.
      clip_norm: scales gradients down to this global L2 norm, if theirs is larger; None does not clip.
      ema_decay: keeps an exponential moving average of the model's variables (parameters and batch statistics), which
        evaluation and inference use; None keeps no average.
      ema_warmup: after `step` steps the decay of the average is at most (1 + step) / (ema_warmup + step), so that it
        soon forgets the initial values; 1 uses `ema_decay` from the first step.
      log_every: steps between lines of training metrics.
      eval_every: steps between evaluations on the validation split; None evaluates at the end only.
      eval_batch_size: examples per evaluation call; does not change any metric.
      evaluations: additions to "validation" and "test", which are evaluated by default, or replacements for these
        (research/evaluation/evaluations.py).
      early_stopping: ends training before `steps` if a metric no longer improves.
      checkpoints: when the state is saved and which checkpoints are kept.
      parallel: how the step is laid out over devices; changes only rounding.
      init_from: the folder of a run or trial, or published weights, to initialise the parameters from
        (research/training/transfer.py).
      init_skip: patterns of parameter paths that keep their fresh values, such as "head/*".
    """

    model: nn.Module
    task: Task
    data: Data
    optimizer: Optimizer
    steps: int
    batch_size: int
    seed: int = 0
    preprocess: tuple[Transform, ...] = ()
    augment: tuple[BatchAugmentation, ...] = ()
    accumulation: int = 1
    clip_norm: float | None = hparam(None)
    ema_decay: float | None = hparam(None)
    ema_warmup: float = 10.0
    log_every: int = 20
    eval_every: int | None = None
    eval_batch_size: int = 512
    evaluations: tuple[Evaluation, ...] = ()
    early_stopping: EarlyStopping | None = None
    checkpoints: Checkpoints = Checkpoints()
    parallel: Parallel = Parallel()
    init_from: str | None = None
    init_skip: tuple[str, ...] = ()

    def check(self, once: Once | None = None) -> None:
        """Checks the values, before anything is compiled.

        Args:
          once: checks parts that experiments share only once.

        Raises:
          RequestError: a value is invalid; one line, which begins with the dotted path.
        """
        for name in ("steps", "batch_size", "accumulation", "log_every", "eval_batch_size", "eval_every"):
            value = getattr(self, name)
            if value is not None and not 1 <= value < 2**31:
                raise RequestError(f"{name}={value}: expected at least 1" + (", below 2**31" if value > 1 else ""))
        if not 0 <= self.seed < 2**32:
            raise RequestError(f"seed={self.seed}: expected 0 to 4294967295")
        if self.batch_size % self.accumulation:
            raise RequestError(f"accumulation={self.accumulation}: expected a divisor of batch_size={self.batch_size}")
        if self.clip_norm is not None and not self.clip_norm > 0:
            raise RequestError(f"clip_norm={self.clip_norm}: expected a number above 0, or none")
        if self.ema_decay is not None and not 0 <= self.ema_decay < 1:
            raise RequestError(f"ema_decay={self.ema_decay}: expected 0 <= ema_decay < 1, or none")
        if not 1 <= self.ema_warmup < float("inf"):
            raise RequestError(f"ema_warmup={self.ema_warmup}: expected a number of at least 1")
        check_part("model", self.model, once=once)
        check_part("task", self.task, once=once)
        self.task.check_model(self.model)
        check_part("data", self.data, once=once)
        check_part("optimizer", self.optimizer, self.steps)
        if self.optimizer.averages and self.ema_decay is not None:
            raise RequestError(f"ema_decay={self.ema_decay}: the optimizer averages by itself; expected none")
        check_part("checkpoints", self.checkpoints, once=once)
        check_part("parallel", self.parallel, once=once)
        for name in ("preprocess", "augment", "evaluations"):
            for i, part in enumerate(getattr(self, name)):
                check_part(f"{name}.{i}", part, once=once)
        for i, transform in enumerate(self.preprocess):
            with prefixed(f"preprocess.{i}."):
                transform.check_data(self.data)
        check_evaluations(self.evaluations, self.eval_every)
        if self.checkpoints.best is not None:
            selecting("checkpoints.best=", self.checkpoints.best, self.all_evaluations(), self.task)
        if self.early_stopping is not None:
            check_part("early_stopping", self.early_stopping)
            selecting("early_stopping.metric=", self.early_stopping.metric, self.all_evaluations(), self.task)

    def __repr__(self) -> str:
        """Code that makes the experiment: a line for each field that differs from its default."""
        return calling("Experiment", [f"{name}={written(value, 4)}" for name, value in changed(self)], lines=True)

    def summary(self) -> ParameterTable:
        """The parameters of the model by path, with their shapes and numbers; reads the data, and computes nothing.

        >>> experiment = Experiment(
        ...     model=models.MLP(widths=(8,), classes=3), task=tasks.Classification(classes=3, input="features"),
        ...     data=data.Sklearn(name="wine"), optimizer=optimizers.AdamW(), steps=10, batch_size=32,
        ... )
        >>> experiment.summary().total
        139
        """
        splits = self.load()
        feeds = make_feeds(splits, self.data)
        own = self.fit(splits, feeds.decoded)
        with contextlib.closing(feeds.train.batches(own.seed, own.batch_size)) as batches:
            batch = take(feeds.train.resident, batches.average())
        return ParameterTable.of(abstract_parameters(own.model, own.task, own.preprocess, batch))

    def all_evaluations(self) -> tuple[Evaluation, ...]:
        """All evaluations, including "validation" and "test"."""
        return complete(self.evaluations, eval_every=self.eval_every, steps=self.steps)

    @property
    def label(self) -> str:
        """The column of labels, as the task names it; "label" if the task names none."""
        named = getattr(self.task, "label", None)
        return named if isinstance(named, str) else "label"

    def load(self) -> Splits:
        """Loads the splits of the data, stratified by `label`."""
        return self.data.stratified_by(self.label).load()

    def fit(self, splits: Splits, decoded: Splits | None = None) -> Experiment:
        """Returns the resolved experiment: values left None (means, categories) are computed from the training split.

        Args:
          splits: the splits as `load()` returns them.
          decoded: the same splits with decoded examples, so that nothing is decoded twice; None uses `splits`.

        Raises:
          RequestError: the data do not fit the experiment: there are fewer examples than `batch_size`, or a label is
            outside the classes.
        """
        if self.batch_size > len(splits.train):
            are = "is" if len(splits.train) == 1 else "are"
            raise RequestError(
                f"batch_size={self.batch_size}: there {are} {counted(len(splits.train), 'training example')}"
            )
        decoded = splits if decoded is None else decoded
        for name, source, original in zip(Splits._fields, decoded, splits, strict=True):
            if source is not None:
                for task in self._tasks_of(name):
                    task.check_examples(_as_called(source, original), name)
        task = _fitted(self.task, decoded.train)
        evaluations = []
        for i, evaluation in enumerate(self.evaluations):
            own = _fitted(evaluation.task, decoded.train)
            with prefixed(f"evaluations.{i}.task."):
                evaluations.append(dataclasses.replace(evaluation, task=own and own.beside(task)))
        transforms = fit_transforms(self.preprocess, decoded.train)
        task.check_batch(lambda: preprocess(transforms, next(chunks(decoded.train, 64))))
        return dataclasses.replace(
            self,
            data=_fitted(self.data, splits.train),
            task=task,
            evaluations=tuple(evaluations),
            preprocess=transforms,
        )

    def _tasks_of(self, split: str) -> list[Task]:
        """The tasks that use the examples of a split."""
        return [self.task, *(e.task for e in self.evaluations if e.task is not None and e.of_split == split)]


def _as_called(source: Source, original: Source) -> Source:
    """Keeps file names for errors after decoding."""
    return source if source is original or not hasattr(source, "arrays") else Decoded(source.arrays(), original)


def _fitted(part: Any, train: Any) -> Any:
    return part.fit(train) if hasattr(part, "fit") else part
