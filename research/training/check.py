"""Checks that an experiment can be trained, before anything is compiled."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from research import paths
from research.console import counted
from research.data.feed import MASK, SHARED, columns_of, take
from research.data.feeds import Feeds
from research.data.source import Source
from research.data.spec import Data
from research.errors import RequestError, TooLong, located, nearest
from research.evaluation.evaluations import Evaluation, selecting
from research.experiment import Experiment
from research.tasks.task import Task, metrics_of
from research.training.abstract import abstract_state, check_carried
from research.training.evaluate import SAMPLES, feed_of, key_of, task_of
from research.training.programs import placement_of
from research.training.step import make_eval_step, make_train_step
from research.training.transfer import initial_parameters


def check_trainable(experiment: Experiment, feeds: Feeds, prune: str | None = None) -> None:
    """Checks that model, task, data, optimizer and devices fit together, by tracing one step; nothing is compiled.

    Args:
      experiment: resolved (`Experiment.fit`).
      feeds: the splits of its data.
      prune: the metric to prune trials by, such as "validation/loss".

    Raises:
      RequestError: two of them do not fit together, or a metric does not exist.
    """
    with feeds.train.batches(experiment.seed, experiment.batch_size) as batches:
        batch = take(feeds.train.resident, batches.largest())
    placement = placement_of(experiment)  # raises RequestError if the batch does not divide over the devices
    for i, evaluation in enumerate(experiment.evaluations):
        if feed_of(evaluation, feeds) is None:
            raise RequestError(f"evaluations.{i}: the data have no {evaluation.of_split} split")
    try:
        state = abstract_state(experiment, batch)
        check_carried(state, jax.eval_shape(make_train_step(experiment), state, batch)[0])
        outputs = _outputs(experiment, state, _at_its_longest(batch, feeds))
    except TooLong as error:
        raise RequestError(f"{error}{_whose(error.column, experiment, feeds.train.source)}") from error
    except RequestError:
        raise
    except Exception as error:  # a model or a task can raise anything
        raise RequestError(f"model, task and data do not fit together: {located(error)}") from error
    _check_vocabulary(experiment)
    metrics = {evaluation.name: _metrics_of_zeros(task_of(experiment, evaluation), own) for evaluation, own in outputs}
    early = experiment.early_stopping
    for asked, metric in (
        ("checkpoints.best=", experiment.checkpoints.best),
        ("early_stopping.metric=", early and early.metric),
        ("--prune ", prune),
    ):
        if metric is not None:
            evaluation, _ = selecting(asked, metric, experiment.all_evaluations(), experiment.task)
            _check_metric(f"{asked}{metric}", metric, evaluation, feeds, metrics[evaluation.name])
    experiment.optimizer.check_paths(state.params)
    paths.check_patterns("parallel.rules", [pattern for pattern, _ in experiment.parallel.rules], state.params)
    placement.state_shardings(state)
    if experiment.init_from is not None:
        initial_parameters(experiment, state, stacked=False)


def _check_vocabulary(experiment: Experiment) -> None:
    """Refuses a model that embeds fewer tokens than its data may hold; those beyond would become NaN."""
    field = "vocab_size" if getattr(experiment.model, "source_vocab_size", None) is None else "source_vocab_size"
    known = getattr(experiment.model, field, None)
    tokens = _tokens_of(experiment.data)
    if isinstance(known, int) and known < tokens:
        raise RequestError(f"model.{field}={known}: expected at least the {counted(tokens, 'token')} of the data")


def _tokens_of(data: Data) -> int:
    """Returns the number of tokens that a data set knows; 0 where it does not say."""
    try:
        return getattr(data, "vocab_size", None) or data.tokenizer.vocab_size
    except (AttributeError, RequestError):  # no tokenizer, or one without a vocabulary
        return 0


def _outputs(experiment: Experiment, state: Any, batch: Mapping[str, Any]) -> list[tuple[Evaluation, dict[str, Any]]]:
    """The shapes of each evaluation's outputs, for a `batch` of examples."""
    samples = {name: jax.ShapeDtypeStruct((len(batch["weight"]),), dtype) for name, dtype in SAMPLES.items()}
    traced, found = {}, []
    for evaluation in experiment.all_evaluations():
        key = key_of(evaluation), evaluation.of_split is None
        if key not in traced:
            step = make_eval_step(experiment, **key_of(evaluation)._asdict())
            traced[key] = jax.eval_shape(step, state, samples if key[1] else batch)
            for name, x in traced[key].items():
                if x.shape[:1] != (experiment.batch_size,):
                    raise RequestError(
                        f"task: eval_outputs gives {name} {x.shape} for a batch of {experiment.batch_size}"
                    )
        found.append((evaluation, traced[key]))
    return found


def _at_its_longest(batch: Mapping[str, Any], feeds: Feeds) -> dict[str, Any]:
    """Shapes of an evaluation batch in the last bucket, which holds the longest examples of every split."""
    source = next(iter(feeds.evaluation.values()), feeds.train).source
    shapes = {name: np.shape(x) for name, x in columns_of(batch).items()}
    for name, lengths in getattr(source, "shapes", {}).items():
        for column in batch.keys() & {name, f"{name}{MASK}", f"{name}_segments"}:
            shapes[column] = (shapes[column][0], int(lengths[-1]), *shapes[column][2:])
    common = {SHARED: batch[SHARED]} if SHARED in batch else {}
    return {name: jax.ShapeDtypeStruct(shape, batch[name].dtype) for name, shape in shapes.items()} | common


def _whose(column: str, experiment: Experiment, source: Source) -> str:
    """Names the longest example of a column, to end an error message; "" if its place is not known."""
    made_of = {transform.makes: transform.field for transform in experiment.preprocess}
    place = getattr(source, "longest", {}).get(made_of.get(column, column))
    return f"; the longest example is {place}" if place else ""


def _metrics_of_zeros(task: Task, outputs: Mapping[str, Any]) -> list[str] | None:
    """The names of a task's metrics, found with outputs that are all 0; None if the task fails on such outputs.

    Raises:
      RequestError: a metric is not a number.
    """
    zeros = {name: np.zeros(x.shape, x.dtype) for name, x in outputs.items() if name != "weight"}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return list(metrics_of(task, zeros))
    except RequestError:
        raise
    except Exception:  # zeros may not be valid outputs of the task; the first evaluation checks the metrics instead
        return None


def _check_metric(asked: str, metric: str, evaluation: Evaluation, feeds: Feeds, metrics: Sequence[str] | None) -> None:
    """Raises RequestError if the evaluation does not give the metric."""
    if feed_of(evaluation, feeds) is None:
        raise RequestError(f"{asked}: the data have no {evaluation.of_split} split")
    names = [f"{evaluation.name}/{name}" for name in metrics or ()]
    if metrics is not None and metric not in names:
        raise RequestError(f"{asked}: no such metric; {nearest(metric, names)}")
