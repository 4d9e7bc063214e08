"""A split through the compiled evaluation program: outputs of every example once, and the task's metrics of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from research.data.feed import Feed, evaluation_batches
from research.experiment import Experiment
from research.parallel.programs import Programs
from research.tasks.task import metrics_of
from research.training.programs import EvalKey
from research.training.state import TrainState


def evaluate(programs: Programs, state: TrainState, feed: Feed, experiment: Experiment) -> list[dict[str, float]]:
    """Each trial's metrics over a whole split: every example once, padding left out."""
    return [metrics_of(experiment.task, outputs) for outputs in split_outputs(programs, state, feed, experiment)]


def split_outputs(
    programs: Programs, state: TrainState, feed: Feed, experiment: Experiment
) -> list[dict[str, np.ndarray]]:
    """The task's outputs for every example of a split, in order: a dict for each trial."""
    size = min(experiment.eval_batch_size, feed.examples)
    size += -size % programs.placement.shards
    resident = programs.hold(feed)
    started = (programs.evaluate(EvalKey(), state, resident, fed) for fed in evaluation_batches(feed, size))
    batches = [programs.placement.fetch(outputs) for outputs in started]
    results = []
    for i in range(programs.trials or 1):
        own = [{k: x[i] for k, x in batch.items()} if programs.trials else batch for batch in batches]
        outputs = {name: _concatenated([batch[name] for batch in own]) for name in own[0]}
        counted = outputs.pop("weight") > 0
        rows = np.flatnonzero(counted)
        if feed.reading_order is not None:
            rows = rows[np.argsort(feed.reading_order[rows])]
        results.append({name: x[rows] for name, x in outputs.items()})
    return results


def _concatenated(parts: Sequence[np.ndarray]) -> np.ndarray:
    """[examples, ...]; parts that are shorter than others in a further axis end in zeros there."""
    longest = np.max([x.shape[1:] for x in parts], axis=0, initial=0).astype(int)
    padded = [np.pad(x, [(0, 0), *((0, n - m) for m, n in zip(x.shape[1:], longest, strict=True))]) for x in parts]
    return np.concatenate(padded)
