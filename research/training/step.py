"""The train-step factory: makes a pure function (state, batch) -> (state, metrics) from any model, task and optimizer.

The step does not depend on files, clocks or the mesh, only on the name of a mapped axis to sum over, if there is one.
`research/parallel/programs.py` maps the step over trials, steps and devices.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from research import paths
from research.config.hparams import bind
from research.data.augment.augmentation import augment
from research.data.transforms import preprocess
from research.experiment import Experiment
from research.layers.surroundings import surroundings
from research.models.model import named
from research.tasks.randomness import example_keys
from research.tasks.task import Apply, Batch, Terms
from research.training.accumulation import accumulate, gradients_of, ratio, total_loss, weights_of
from research.training.state import TrainState

INIT, DROPOUT, AUGMENT, AUGMENT_FEATURES, EXAMPLES = range(5)
"""Numbers that are folded into a trial's key, one for each independent stream of random numbers."""

Step = Callable[[TrainState, Batch], tuple[TrainState, dict[str, jax.Array]]]


def make_init(experiment: Experiment) -> Callable[[jax.Array, Batch, Mapping[str, jax.Array]], TrainState]:
    """Makes a pure function (key, batch, hparams) -> the state before the first step.

    Only the shapes and dtypes of `batch` matter; `hparams` are those of the trial, by dotted path.
    """

    def init(key: jax.Array, batch: Batch, hparams: Mapping[str, jax.Array]) -> TrainState:
        bound = bind(experiment, dict(hparams))
        batch = {**batch, "key": _keys(jax.random.fold_in(key, EXAMPLES), batch)}
        inputs = bound.task.inputs(preprocess(bound.preprocess, batch))
        variables = bound.model.init(jax.random.fold_in(key, INIT), **named(bound.model, inputs), train=False)
        collections = {
            name: value
            for name, value in variables.items()
            if name not in ("params", "intermediates") and not _sown(value)
        }
        params = variables.get("params", {})
        return TrainState(
            step=jnp.zeros((), jnp.int32),
            params=params,
            collections=collections,
            opt_state=bound.optimizer.transformation().init(params),
            ema={"params": params, **collections} if _keeps_average(bound) else None,
            rng=key,
            hparams=dict(hparams),
        )

    return init


def make_train_step(experiment: Experiment, *, axis_name: str | None = None) -> Step:
    """Makes the train step of an experiment.

    One step derives its random keys from the step number, augments and preprocesses the examples, sums loss terms and
    gradients over micro-batches and over `axis_name`, divides each term once by its total weight, clips the gradients,
    and updates parameters, other collections and the moving average of both.

    Args:
      experiment: its hparams are replaced by those in the state, which may be traced.
      axis_name: the mapped axis that the batch is split over (pmap); None if the program sees the whole batch.

    Returns:
      A pure function (state, batch) -> (state, metrics); metrics are scalars: the task's terms, "loss",
      "gradient_norm" (before clipping) and "learning_rate".
    """

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, jax.Array]]:
        bound = bind(experiment, state.hparams)
        key = jax.random.fold_in(state.rng, state.step)
        shard = 0 if axis_name is None else jax.lax.axis_index(axis_name)
        batch, shared = _without_shared(batch)
        batch = _prepared(bound, key, batch, shard)
        gradients, terms, collections = _gradients(bound, state, batch, shared, key, shard, axis_name)

        gradients = jax.tree.map(_trained_part, gradients, bound.optimizer.trained(state.params))
        norm = optax.tree.norm(gradients)
        if bound.clip_norm is not None:
            scale = jnp.minimum(1.0, bound.clip_norm / (norm + 1e-6))
            gradients = jax.tree.map(lambda g: g * scale.astype(g.dtype), gradients)
        rate = bound.optimizer.learning_rate_at(state.step, bound.steps)
        metrics = {name: ratio(*term) for name, term in terms.items()}
        metrics["loss"] = total_loss(metrics)
        rule = bound.optimizer.transformation(rate)
        updates, opt_state = rule.update(gradients, state.opt_state, state.params, value=metrics["loss"])
        params = optax.apply_updates(state.params, updates)
        metrics["gradient_norm"] = norm
        metrics["learning_rate"] = rate
        # Batch statistics belong to the parameters of their step, so averaged parameters need averaged statistics.
        ema = state.ema and _averaged(bound, state, opt_state, {"params": params, **collections})
        state = state.replace(step=state.step + 1, params=params, collections=collections, opt_state=opt_state, ema=ema)
        return state, metrics

    return train_step


def make_loss(experiment: Experiment) -> Callable[[TrainState, Batch], Terms]:
    """Makes a pure function (state, batch) -> the task's loss terms of a training batch, without their gradients."""

    def loss(state: TrainState, batch: Batch) -> Terms:
        bound = bind(experiment, state.hparams)
        key = jax.random.fold_in(state.rng, state.step)
        batch, shared = _without_shared(batch)
        batch = _prepared(bound, key, batch, 0)
        return _terms_of(bound, state.params, shared, None)(state.params, state.collections, batch, key)[0]

    return loss


def make_eval_step(
    experiment: Experiment, *, task_of: str | None = None, averaged: bool = True, seed: int = 0
) -> Callable[[TrainState, Batch], dict[str, jax.Array]]:
    """Makes a pure function (state, batch) -> the task's outputs per example, {name: [batch, ...]}, with "weight".

    Args:
      experiment: its hparams are replaced by those in the state, which may be traced.
      task_of: the name of the evaluation whose own task is used; None uses the experiment's task.
      averaged: uses the moving average of the variables, if the state has one.
      seed: seeds the examples' keys.  An example's key also depends on its number, `batch["example"]` int32 [batch]; in
        a batch without numbers, the number is the place in the batch.
    """

    def eval_step(state: TrainState, batch: Batch) -> dict[str, jax.Array]:
        bound = bind(experiment, state.hparams)
        batch = {**batch, "key": _keys(jax.random.key(seed), batch)}
        apply = bound_apply(bound.model, state.variables(averaged=averaged))
        samples = not batch.keys() - {"key", "weight", "example", "shared"}
        batch = preprocess(bound.preprocess, batch, partial=samples)
        task = bound.task if task_of is None else {e.name: e.task for e in bound.evaluations}[task_of]
        outputs = task.eval_outputs(apply, batch)
        return {**outputs, "weight": batch["weight"]}

    return eval_step


def bound_apply(model: Any, variables: Any) -> Apply:
    """Binds a model to its variables, for evaluation and inference: updated collections are discarded."""

    def apply(*arrays: Any, **kwargs: Any) -> Any:
        return model.apply(variables, *arrays, **named(model, kwargs, arrays))

    return apply


def _prepared(bound: Experiment, key: jax.Array, batch: Batch, shard: jax.Array | int) -> Batch:
    """The batch for the task: augmented, preprocessed, and with a key for each example."""
    size = len(batch["weight"])
    positions = shard * size + jnp.arange(size)
    raw, features = (tuple(a for a in bound.augment if a.after_preprocess is after) for after in (False, True))
    batch = augment(raw, jax.random.fold_in(key, AUGMENT), batch, positions)
    batch = preprocess(bound.preprocess, batch)
    batch = augment(features, jax.random.fold_in(key, AUGMENT_FEATURES), batch, positions)
    return {**batch, "key": example_keys(jax.random.fold_in(key, EXAMPLES), positions)}


def _keys(key: jax.Array, batch: Batch) -> jax.Array:
    return example_keys(key, batch.get("example", jnp.arange(len(batch["weight"]))))


def _without_shared(batch: Batch) -> tuple[Batch, dict[str, Any]]:
    """Splits a batch into the columns with an axis of examples and the shared ones, which have none."""
    return {name: x for name, x in batch.items() if name != "shared"}, {k: batch[k] for k in ("shared",) if k in batch}


def _gradients(
    bound: Experiment,
    state: TrainState,
    batch: Batch,
    shared: Mapping[str, Any],
    key: jax.Array,
    shard: jax.Array | int,
    axis_name: str | None,
) -> tuple[Any, Terms, Any]:
    """(gradients of the total loss, loss terms, updated collections) over the whole batch."""
    terms = _terms_of(bound, state.params, shared, axis_name)
    dropout_key = jax.random.fold_in(jax.random.fold_in(key, DROPOUT), shard)
    of_batch = accumulate(gradients_of(terms, axis_name), weights_of(terms), bound.accumulation, axis_name)
    gradients, summed, collections = of_batch(state.params, state.collections, batch, dropout_key)
    if axis_name is not None:
        gradients, summed = jax.lax.psum((gradients, summed), axis_name)
        collections = jax.tree.map(lambda x: jax.lax.pmean(x, axis_name) if _floating(x) else x, collections)
    return gradients, summed, collections


def _terms_of(bound: Experiment, params: Any, shared: Mapping[str, Any], axis_name: str | None) -> Callable[..., Any]:
    """Makes a function (params, collections, batch, key) -> (the task's loss terms, updated collections)."""
    frozen = _frozen_modules(bound, params)

    def terms(params: Any, collections: Any, batch: Batch, key: jax.Array) -> tuple[Terms, Any]:
        updated = dict(collections)

        def apply(*arrays: Any, mutable: Any = (), **kwargs: Any) -> Any:
            kwargs = {"rngs": {"dropout": key}} | named(bound.model, kwargs, arrays)
            asked = [mutable] if isinstance(mutable, str) else list(mutable)
            with surroundings(axis_name=axis_name, frozen=frozen):
                outputs, changed = bound.model.apply(
                    {"params": params, **updated}, *arrays, mutable=[*updated, *asked], **kwargs
                )
            updated.update({name: changed[name] for name in updated if name in changed})
            return (outputs, {name: changed[name] for name in asked if name in changed}) if asked else outputs

        return bound.task.loss(apply, {**batch, **shared}), updated

    return terms


def _frozen_modules(bound: Experiment, params: Any) -> Callable[[str], bool] | None:
    """A function that says whether the module at a path has parameters, all frozen; None if nothing is frozen."""
    if not bound.optimizer.frozen:
        return None
    trained: dict[str, bool] = {}
    for path, rate in paths.flatten(bound.optimizer.trained(params)).items():
        module = path.rpartition("/")[0]
        trained[module] = trained.get(module, False) or bool(rate.any())
    return lambda path: not trained.get(path, True)


def _keeps_average(bound: Experiment) -> bool:
    return bound.ema_decay is not None or bound.optimizer.averages


def _averaged(bound: Experiment, state: TrainState, opt_state: Any, variables: Any) -> Any:
    """Updates the moving average of floating-point variables; integers and keys are copied from the step.

    The decay grows during the first steps, so that the average quickly forgets the untrained initial values.  An
    optimizer that averages has its own parameters instead.
    """
    if bound.optimizer.averages:
        return {**variables, "params": bound.optimizer.averaged(opt_state, variables["params"])}
    decay = jnp.minimum(bound.ema_decay, (1 + state.step) / (bound.ema_warmup + state.step))

    def average(new: jax.Array, old: jax.Array) -> jax.Array:
        return optax.incremental_update(new, old, 1 - decay) if _floating(new) else new

    return jax.tree.map(average, variables, state.ema)


def _trained_part(gradient: jax.Array, trained: np.ndarray) -> jax.Array:
    """Sets the gradient of frozen parameters, or frozen layers of a parameter, to 0, so that no norm includes it."""
    return gradient if trained.all() else jnp.where(trained > 0, gradient, 0)


def _sown(collection: Any) -> bool:
    """True if a collection holds sown values, which `sow` keeps in tuples; they are not carried between steps."""
    found = jax.tree.leaves(collection, is_leaf=lambda x: isinstance(x, tuple))
    return any(isinstance(x, tuple) for x in found)


def _floating(x: Any) -> bool:
    return jnp.issubdtype(x.dtype, jnp.floating)
