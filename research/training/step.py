"""The one train-step factory: a pure function (state, batch) -> (state, metrics) from any model, task and optimizer.

The step knows no file, clock or mesh; at most the name of a mapped axis to sum over.  `research/parallel/programs.py`
maps it over trials, steps and devices.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from flax.linen.module import InterceptorContext

from research import paths
from research.config.hparams import bind
from research.data.augment.augmentation import augment
from research.data.transforms import preprocess
from research.tasks.task import Batch, Terms
from research.training.state import TrainState

if TYPE_CHECKING:
    from research.experiment import Experiment

INIT, DROPOUT, AUGMENT, AUGMENT_FEATURES = range(4)
"""What is folded into a trial's key, so that the streams of random numbers are independent."""

Step = Callable[[TrainState, Batch], tuple[TrainState, dict[str, jax.Array]]]


def make_init(experiment: Experiment) -> Callable[[jax.Array, Batch, Mapping[str, jax.Array]], TrainState]:
    """A pure function (key, batch, hparams) -> the state before the first step.

    `batch` gives shapes and dtypes only; `hparams` are those of the trial, by dotted path.
    """

    def init(key: jax.Array, batch: Batch, hparams: Mapping[str, jax.Array]) -> TrainState:
        bound = bind(experiment, dict(hparams))
        inputs = bound.task.init_inputs(preprocess(bound.preprocess, batch))
        variables = bound.model.init(jax.random.fold_in(key, INIT), *inputs, train=False)
        collections = {name: value for name, value in variables.items() if name not in ("params", "intermediates")}
        params = variables["params"]
        optimizer = bound.optimizer.transformation(bound.steps)
        return TrainState(
            step=jnp.zeros((), jnp.int32),
            params=params,
            collections=collections,
            opt_state=optimizer.init(params),
            ema={"params": params, **collections} if bound.ema_decay is not None else None,
            rng=key,
            hparams=dict(hparams),
        )

    return init


def make_train_step(experiment: Experiment, *, axis_name: str | None = None) -> Step:
    """The train step of an experiment.

    One step draws the random keys of its number, changes the examples (augment, preprocess), sums loss terms and
    gradients over micro-batches and over `axis_name`, divides each term once by its whole weight, clips, and updates
    parameters, other collections and the moving average of both.

    Args:
      experiment: its hparams are replaced by those in the state, which may be traced.
      axis_name: the mapped axis that the batch is split over (pmap); None where the program sees the whole batch.

    Returns:
      A pure function (state, batch) -> (state, metrics); metrics are scalars: the task's terms, "loss",
      "gradient_norm" (before clipping) and "learning_rate".
    """
    if axis_name is not None and hasattr(experiment.model, "axis_name"):
        experiment = _synchronised(experiment, axis_name)

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, jax.Array]]:
        bound = bind(experiment, state.hparams)
        key = jax.random.fold_in(state.rng, state.step)
        shard = 0 if axis_name is None else jax.lax.axis_index(axis_name)
        dropout_key = jax.random.fold_in(jax.random.fold_in(key, DROPOUT), shard)
        size = len(batch["weight"])
        positions = shard * size + jnp.arange(size)
        raw, features = (tuple(a for a in bound.augment if a.after_preprocess is after) for after in (False, True))
        batch = augment(raw, jax.random.fold_in(key, AUGMENT), batch, positions)
        batch = preprocess(bound.preprocess, batch)
        batch = augment(features, jax.random.fold_in(key, AUGMENT_FEATURES), batch, positions)
        gradients, terms, collections = _gradients(bound, state, batch, dropout_key, axis_name)

        gradients = jax.tree.map(_trained_part, gradients, bound.optimizer.trained(state.params))
        norm = optax.tree.norm(gradients)
        if bound.clip_norm is not None:
            scale = jnp.minimum(1.0, bound.clip_norm / (norm + 1e-6))
            gradients = jax.tree.map(lambda g: g * scale.astype(g.dtype), gradients)
        optimizer = bound.optimizer.transformation(bound.steps)
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        ema = state.ema
        if bound.ema_decay is not None:
            # Batch statistics are those of the parameters of their step: averaged parameters need averaged ones.
            # A growing decay forgets the initial values, which are no result of training, within the first steps.
            decay = jnp.minimum(bound.ema_decay, (1 + state.step) / (10 + state.step))
            ema = optax.incremental_update({"params": params, **collections}, state.ema, 1 - decay)

        metrics = {name: _ratio(*term) for name, term in terms.items()}
        metrics["loss"] = _total_loss(metrics)
        metrics["gradient_norm"] = norm
        metrics["learning_rate"] = bound.optimizer.learning_rate_at(state.step, bound.steps)
        state = state.replace(step=state.step + 1, params=params, collections=collections, opt_state=opt_state, ema=ema)
        return state, metrics

    return train_step


def make_eval_step(experiment: Experiment) -> Callable[[TrainState, Batch], dict[str, jax.Array]]:
    """A pure function (state, batch) -> the task's per-example outputs, with the batch's weight among them."""

    def eval_step(state: TrainState, batch: Batch) -> dict[str, jax.Array]:
        bound = bind(experiment, state.hparams)
        outputs = bound.task.eval_outputs(bound_apply(bound, state), preprocess(bound.preprocess, batch))
        return {**outputs, "weight": batch["weight"]}

    return eval_step


def bound_apply(experiment: Experiment, state: TrainState) -> Callable[..., Any]:
    """The model with the state's (averaged) parameters, for evaluation and inference: nothing is mutable."""

    def apply(*inputs: Any, **kwargs: Any) -> Any:
        return experiment.model.apply(state.variables(averaged=True), *inputs, **kwargs)

    return apply


def _gradients(
    experiment: Experiment, state: TrainState, batch: Batch, key: jax.Array, axis_name: str | None
) -> tuple[Any, Terms, Any]:
    """Gradients of the total loss over the whole batch, the terms summed over it, the updated collections."""
    micro_batches = experiment.accumulation
    if micro_batches == 1:
        gradients, (terms, collections) = _micro_gradients(
            experiment, state.params, state.collections, batch, key, None, axis_name
        )
    else:
        # Strided, so that a batch sharded over devices stays where it is.
        split = jax.tree.map(lambda x: x.reshape(-1, micro_batches, *x.shape[1:]).swapaxes(0, 1), batch)
        keys = jax.random.split(key, micro_batches)
        weights = _total_weights(experiment, state, split, keys)
        if axis_name is not None:
            weights = jax.lax.psum(weights, axis_name)

        def accumulate(carry: tuple[Any, Any], micro: tuple[Batch, jax.Array]) -> tuple[tuple[Any, Any], Terms]:
            total, collections = carry
            gradients, (terms, collections) = _micro_gradients(
                experiment, state.params, collections, *micro, weights, axis_name
            )
            return (jax.tree.map(jnp.add, total, gradients), collections), terms

        zeros = jax.tree.map(jnp.zeros_like, state.params)
        (gradients, collections), terms = jax.lax.scan(accumulate, (zeros, state.collections), (split, keys))
        terms = jax.tree.map(lambda x: x.sum(0), terms)
    if axis_name is not None:
        gradients, terms = jax.lax.psum((gradients, terms), axis_name)
        collections = jax.lax.pmean(collections, axis_name)
    return gradients, terms, collections


def _micro_gradients(
    experiment: Experiment,
    params: Any,
    collections: Any,
    batch: Batch,
    key: jax.Array,
    weights: dict[str, jax.Array] | None,
    axis_name: str | None,
) -> tuple[Any, tuple[Terms, Any]]:
    """Gradients of this micro-batch's share of the total loss; `weights` None means it is the whole batch."""

    def total_loss(params: Any) -> tuple[jax.Array, tuple[Terms, Any]]:
        terms, updated = _terms(experiment, params, collections, batch, key)
        whole = weights
        if whole is None:
            whole = jax.lax.stop_gradient({name: weight for name, (_, weight) in terms.items()})
            whole = whole if axis_name is None else jax.lax.psum(whole, axis_name)
        return _total_loss({name: _ratio(terms[name][0], whole[name]) for name in terms}), (terms, updated)

    return jax.grad(total_loss, has_aux=True)(params)


def _terms(experiment: Experiment, params: Any, collections: Any, batch: Batch, key: jax.Array) -> tuple[Terms, Any]:
    """The task's terms on a batch and the collections after it."""
    updated = dict(collections)

    def apply(*inputs: Any, **kwargs: Any) -> Any:
        variables = {"params": params, **updated}
        with _frozen_statistics(experiment, params):
            outputs, mutated = experiment.model.apply(variables, *inputs, mutable=list(updated), **kwargs)
        updated.update(mutated)
        return outputs

    return experiment.task.loss(apply, batch, {"dropout": key}), updated


def _frozen_statistics(experiment: Experiment, params: Any) -> contextlib.AbstractContextManager:
    """Within it, batch norms whose parameters are all frozen normalise as in evaluation.

    A frozen part thus computes what it computed where it was trained, whatever the batch.
    """
    if not experiment.optimizer.frozen:
        return contextlib.nullcontext()
    trained: dict[str, bool] = {}
    for path, rate in paths.flatten(experiment.optimizer.trained(params)).items():
        module = path.rpartition("/")[0]
        trained[module] = trained.get(module, False) or bool(rate.any())

    def intercept(call: Callable[..., Any], args: Any, kwargs: Any, context: InterceptorContext) -> Any:
        module = context.module
        if hasattr(module, "use_running_average") and not trained.get("/".join(module.path), True):
            # Linen does not let a field be set; but this module was made for this call, and nothing else sees it.
            object.__setattr__(module, "use_running_average", True)
        return call(*args, **kwargs)

    return nn.intercept_methods(intercept)


def _total_weights(experiment: Experiment, state: TrainState, split: Batch, keys: jax.Array) -> dict[str, jax.Array]:
    """Each term's weight over all micro-batches.  Weights do not depend on the parameters, so the compiler drops the
    forward pass that they are asked through."""

    def add(total: dict[str, jax.Array], micro: tuple[Batch, jax.Array]) -> tuple[dict[str, jax.Array], None]:
        terms, _ = _terms(experiment, state.params, state.collections, *micro)
        return {name: total[name] + weight for name, (_, weight) in terms.items()}, None

    first = jax.tree.map(lambda x: x[0], (split, keys))
    shapes = jax.eval_shape(lambda: _terms(experiment, state.params, state.collections, *first)[0])
    zeros = {name: jnp.zeros(weight.shape, weight.dtype) for name, (_, weight) in shapes.items()}
    return jax.lax.scan(add, zeros, (split, keys))[0]


def _trained_part(gradient: jax.Array, trained: np.ndarray) -> jax.Array:
    """The gradient, 0 where a parameter, or some layers of it, is frozen: it counts in no norm."""
    return gradient if trained.all() else jnp.where(trained > 0, gradient, 0)


def _total_loss(terms: Mapping[str, jax.Array]) -> jax.Array:
    return sum(value for name, value in terms.items() if name == "loss" or name.startswith("loss/"))


def _ratio(total: jax.Array, weight: jax.Array) -> jax.Array:
    """total / weight, and 0 where there is nothing to average."""
    return jnp.where(weight > 0, total / jnp.where(weight > 0, weight, 1), 0)


def _synchronised(experiment: Experiment, axis_name: str) -> Experiment:
    return dataclasses.replace(experiment, model=experiment.model.clone(axis_name=axis_name))
