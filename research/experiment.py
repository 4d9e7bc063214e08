"""The `Experiment`: a frozen value that can be printed, compared, hashed, changed and written to JSON."""

from __future__ import annotations

import dataclasses
from typing import Any

from flax import linen as nn

from research.config.checks import check_part
from research.config.hparams import hparam
from research.data.augment.augmentation import BatchAugmentation
from research.data.source import Decoded, Source
from research.data.spec import Data, Splits
from research.data.transforms import Transform, fit_transforms
from research.errors import RequestError
from research.evaluation.evaluations import Evaluation, check_evaluations, complete, selecting
from research.optimizers import Optimizer
from research.parallel.spec import Parallel
from research.tasks.task import Task
from research.training.checkpoints import Checkpoints
from research.training.early_stopping import EarlyStopping


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment:
    """A model learning a task from data: everything that decides the result, and nothing else.

    Attributes:
      model: a Linen module; computes in its own `dtype`, keeps parameters in float32.
      task: what is learned: the loss, the metrics, and how a batch becomes the model's arguments.
      data: where the examples come from and how they are split.
      optimizer: the update rule, its learning-rate schedule and weight decay.
      steps: optimizer steps to train for.
      batch_size: examples per optimizer step, over all devices and micro-batches.
      seed: of the initial parameters, the order of examples, dropout and augmentation; never of the split.
      preprocess: applied to every batch inside the program: in training, in evaluation and in `predict`.
      augment: random changes to training examples, keyed per example, inside the program, before `preprocess`
        (some after it: SpecAugment).
      accumulation: micro-batches per step; gradients equal those of the whole batch (batch norm apart, which then
        normalises each micro-batch by itself).
      clip_norm: gradients are scaled down to this global L2 norm.
      ema_decay: keeps an exponential moving average of the model's variables, parameters and batch statistics, which
        evaluation and inference then use.
      ema_warmup: after `step` steps the average's decay is at most (1 + step) / (ema_warmup + step), so that it soon
        forgets the initial values; 1 for `ema_decay` from the first step on.
      log_every: steps between lines of training metrics.
      eval_every: steps between evaluations on the validation split; None evaluates at the end only.
      eval_batch_size: examples per evaluation call; it changes no metric.
      evaluations: beside "validation" and "test", which are evaluated by default, or in place of these
        (research/evaluation/evaluations.py).
      early_stopping: ends training before `steps` where a metric no longer improves.
      checkpoints: when state is saved and which states are kept.
      parallel: how the step is laid out over devices; changes nothing but rounding.
      init_from: what to take parameters from: a run's or trial's folder, or published weights
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

    def check(self) -> None:
        """Refuses values that cannot be trained, before anything is compiled.

        Raises:
          RequestError: one line, the dotted path first.
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
        check_part("model", self.model)
        check_part("task", self.task)
        check_part("data", self.data)
        check_part("optimizer", self.optimizer, self.steps)
        check_part("checkpoints", self.checkpoints)
        check_part("parallel", self.parallel)
        for name in ("preprocess", "augment", "evaluations"):
            for i, part in enumerate(getattr(self, name)):
                check_part(f"{name}.{i}", part)
        check_evaluations(self.evaluations, self.eval_every)
        if self.checkpoints.best is not None:
            selecting("checkpoints.best=", self.checkpoints.best, self.all_evaluations(), self.task)
        if self.early_stopping is not None:
            check_part("early_stopping", self.early_stopping)
            selecting("early_stopping.metric=", self.early_stopping.metric, self.all_evaluations(), self.task)

    def all_evaluations(self) -> tuple[Evaluation, ...]:
        """Its evaluations, "validation" and "test" included."""
        return complete(self.evaluations, eval_every=self.eval_every, steps=self.steps)

    def fit(self, splits: Splits, decoded: Splits | None = None) -> Experiment:
        """The resolved experiment: what was left None for the training split to say (means, categories) filled in.

        Args:
          splits: as `data.load()` gives them.
          decoded: the same examples where they are in memory already, so that they are not decoded twice.

        Raises:
          RequestError: the data do not suit the experiment: fewer examples than `batch_size`, a label outside the
            classes.
        """
        if self.batch_size > len(splits.train):
            raise RequestError(f"batch_size={self.batch_size}: there are {len(splits.train)} training examples")
        decoded = splits if decoded is None else decoded
        for name, source, original in zip(Splits._fields, decoded, splits, strict=True):
            if source is not None:
                for task in self._tasks_of(name):
                    task.check_examples(_as_called(source, original), name)
        return dataclasses.replace(
            self,
            data=_fitted(self.data, splits.train),
            task=_fitted(self.task, decoded.train),
            evaluations=tuple(dataclasses.replace(e, task=_fitted(e.task, decoded.train)) for e in self.evaluations),
            preprocess=fit_transforms(self.preprocess, decoded.train),
        )

    def _tasks_of(self, split: str) -> list[Task]:
        """The tasks that see the examples of a split."""
        return [self.task, *(e.task for e in self.evaluations if e.task is not None and e.of_split == split)]


def _as_called(source: Source, original: Source) -> Source:
    """Keeps file names for errors after decoding."""
    return source if source is original or not hasattr(source, "arrays") else Decoded(source.arrays(), original)


def _fitted(part: Any, train: Any) -> Any:
    return part.fit(train) if hasattr(part, "fit") else part
