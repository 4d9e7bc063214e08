"""Runs evaluations with the compiled programs: computes a task's outputs for every example, and its metrics."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from research.data.feed import (
    MASK,
    Feed,
    evaluation_batches,
    largest_evaluation_batch,
    make_feed,
    numbers_of_batches,
)
from research.data.feeds import Feeds
from research.data.source import Columns
from research.errors import RequestError
from research.evaluation.evaluations import Evaluation
from research.experiment import Experiment
from research.parallel.placement import Placement
from research.parallel.programs import Programs
from research.tasks.task import Task, metrics_of
from research.training.events import Every
from research.training.programs import EvalKey
from research.training.state import TrainState

Outputs = Mapping[str, np.ndarray]
"""Outputs for every example of an evaluation: {name: [example, ...]}."""


WHOLE = Evaluation("validation")
"""The experiment's task over a whole split."""

SAMPLES = {"weight": np.dtype(np.float32), "example": np.dtype(np.int32)}
"""The columns of a batch, besides its keys, for an evaluation whose task makes samples."""


def task_of(experiment: Experiment, evaluation: Evaluation) -> Task:
    """The task of an evaluation: its own, or the experiment's."""
    return evaluation.task or experiment.task


def key_of(evaluation: Evaluation) -> EvalKey:
    """The key of an evaluation's program; evaluations that differ only in their examples share a program."""
    own = None if evaluation.task is None else evaluation.name
    return EvalKey(own, evaluation.averaged, evaluation.seed)


def feed_of(evaluation: Evaluation, feeds: Feeds) -> Feed | None:
    """The examples of an evaluation, or the numbers of the samples to make; None if the data lack its split."""
    if evaluation.of_split is None:
        return make_feed(Columns({"example": np.arange(evaluation.examples, dtype=np.int32)}), "host")
    return {"train": feeds.train, **feeds.evaluation}.get(evaluation.of_split)


class Evaluations:
    """The evaluations of an experiment whose split exists, and when they are due.

    Attributes:
      recurring: evaluations that run during training and at its end.
      once: evaluations that run only at the end, with the best state.
    """

    def __init__(self, experiment: Experiment, feeds: Feeds):
        found = {evaluation.name: feed_of(evaluation, feeds) for evaluation in experiment.all_evaluations()}
        self._feeds = {name: feed for name, feed in found.items() if feed is not None}
        present = [evaluation for evaluation in experiment.all_evaluations() if evaluation.name in self._feeds]
        self.recurring = [evaluation for evaluation in present if not evaluation.once]
        self.once = [evaluation for evaluation in present if evaluation.once]

    def feed(self, evaluation: Evaluation) -> Feed:
        """The examples of an evaluation."""
        return self._feeds[evaluation.name]

    def due(self, step: int) -> list[Evaluation]:
        """The evaluations that are due after `step` steps."""
        return [evaluation for evaluation in self.recurring if Every(evaluation.every).due(step)]

    def next_due(self, step: int) -> float:
        """The first step after `step` at which an evaluation is due; infinity if there is none."""
        return min((Every(evaluation.every).next_due(step) for evaluation in self.recurring), default=math.inf)


def evaluate(
    programs: Programs,
    state: TrainState,
    feed: Feed,
    experiment: Experiment,
    evaluation: Evaluation = WHOLE,
) -> list[dict[str, float]]:
    """Each trial's metrics over the examples of an evaluation; by default over the whole feed."""
    task = task_of(experiment, evaluation)
    return [metrics_of(task, own) for own in outputs_of(programs, state, feed, experiment, evaluation)]


def outputs_of(
    programs: Programs, state: TrainState, feed: Feed, experiment: Experiment, evaluation: Evaluation
) -> list[Outputs]:
    """Each trial's outputs, {name: [example, ...]}, with every example once and in order.

    The outputs of a batch are copied to the host while the devices run the next batch.

    Raises:
      RequestError: batches differ in the shape of an example's output, and the output has no mask.
    """
    batches, numbers = [], []
    for examples, outputs in _fetched(programs, _started(programs, state, feed, experiment, evaluation)):
        numbers.append(examples)
        batches.append(outputs)
    order, trials = np.concatenate(numbers), programs.trials
    of_trials = [batches] if trials is None else [_of_trial(batches, i) for i in range(trials)]
    return [_whole(own, order) for own in of_trials]


def largest_batch(
    feed: Feed, experiment: Experiment, evaluation: Evaluation, placement: Placement
) -> dict[str, np.ndarray]:
    """The arrays sent for the largest batch of an evaluation, {name: [rows of this process, ...]}."""
    size = _batch_size(feed, experiment, evaluation, placement.shards)
    return largest_evaluation_batch(feed, size, evaluation.examples, rows=placement.rows(size))


def evaluation_memory(programs: Programs, state: TrainState, experiment: Experiment, feeds: Feeds) -> int:
    """Bytes on a device for the largest batch of any evaluation, without the resident data; 0 without evaluations."""
    largest = {}
    for key, feed, sent in _largest_batches(programs, experiment, feeds):
        size = sum(x.nbytes for x in sent.values())
        if key not in largest or size > largest[key][0]:
            largest[key] = size, feed, sent
    return max(
        (programs.evaluate_memory(key, state, programs.hold(feed), sent) for key, (_, feed, sent) in largest.items()),
        default=0,
    )


def compile_evaluations(programs: Programs, state: TrainState, experiment: Experiment, feeds: Feeds) -> None:
    """Compiles each evaluation for its largest batch; `state` may hold shapes."""
    for key, feed, sent in _largest_batches(programs, experiment, feeds):
        programs.evaluate_memory(key, state, programs.hold(feed), sent)


def _largest_batches(
    programs: Programs, experiment: Experiment, feeds: Feeds
) -> Iterator[tuple[EvalKey, Feed, dict[str, np.ndarray]]]:
    """The key of each evaluation, its examples, and the arrays sent for its largest batch."""
    evaluations = Evaluations(experiment, feeds)
    for evaluation in (*evaluations.recurring, *evaluations.once):
        feed = evaluations.feed(evaluation)
        yield key_of(evaluation), feed, largest_batch(feed, experiment, evaluation, programs.placement)


def _batch_size(feed: Feed, experiment: Experiment, evaluation: Evaluation, shards: int) -> int:
    size = min(experiment.eval_batch_size, feed.examples, evaluation.examples or feed.examples)
    return size + -size % shards


def _started(
    programs: Programs, state: TrainState, feed: Feed, experiment: Experiment, evaluation: Evaluation
) -> Iterator[tuple[np.ndarray, Any]]:
    """Starts each batch; yields its examples' numbers and its outputs, which may still be pending on the devices."""
    size = _batch_size(feed, experiment, evaluation, programs.placement.shards)
    resident, key = programs.hold(feed), key_of(evaluation)
    numbers = numbers_of_batches(feed, size, evaluation.examples)
    batches = evaluation_batches(feed, size, evaluation.examples, rows=programs.placement.rows(size))
    for examples, sent in zip(numbers, batches, strict=True):
        yield examples, programs.evaluate(key, state, resident, sent)


def _fetched(programs: Programs, started: Iterable[tuple[np.ndarray, Any]]) -> Iterator[tuple[np.ndarray, Outputs]]:
    """Fetches the outputs of each started batch to the host, after the next batch has been started."""
    before = None
    for batch in started:
        if before is not None:
            yield before[0], programs.placement.fetch(before[1])
        before = batch
    if before is not None:
        yield before[0], programs.placement.fetch(before[1])


def _of_trial(batches: Sequence[Outputs], i: int) -> list[Outputs]:
    return [{name: x[i] for name, x in batch.items()} for batch in batches]


def _whole(batches: Sequence[Outputs], numbers: np.ndarray) -> Outputs:
    """The outputs of all batches of one trial, in the order of the examples' numbers and without padding."""
    outputs = {name: _joined(name, batches) for name in batches[0]}
    rows = np.flatnonzero(outputs.pop("weight") > 0)
    rows = rows[np.argsort(numbers[rows], kind="stable")]
    return {name: x[rows] for name, x in outputs.items()}


def _joined(name: str, batches: Sequence[Outputs]) -> np.ndarray:
    """One output of all batches, [example, ...]; shorter parts are padded with zeros, which a mask marks.

    Raises:
      RequestError: the parts differ in shape, and the output has no mask.
    """
    parts = [batch[name] for batch in batches]
    longest = np.max([x.shape[1:] for x in parts], axis=0, initial=0).astype(int)
    if any(x.shape[1:] != tuple(longest) for x in parts):
        if not name.endswith(MASK) and f"{name}{MASK}" not in batches[0]:
            shapes = " and ".join(dict.fromkeys(str(list(x.shape)) for x in parts))
            raise RequestError(
                f"task: eval_outputs gives {name} {shapes} for batches of one split; expected one shape, or "
                f"{name}{MASK} beside it, bool, which is False on padding"
            )
        parts = [np.pad(x, [(0, 0), *((0, n - m) for m, n in zip(x.shape[1:], longest, strict=True))]) for x in parts]
    return np.concatenate(parts)
