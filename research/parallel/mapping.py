"""Pure functions of one step, mapped over the trials of a stack and the steps of a call.

The functions are mapped, never changed.  From the inside out: gather the batch, one step; `vmap` over trials; a loop
over the steps of one call.  `research/parallel/placement.py` maps the result over devices.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from research.data.feed import take

State = Any
"""A pytree; for `trials`, of arrays with their leading axis."""

Arrays = dict[str, jax.Array]


class Functions(NamedTuple):
    """The pure functions that programs run; none knows of trials, devices or several steps.

    Attributes:
      init: (key, batch, hparams) -> state.
      train: (mapped axis that the batch is split over, or None) -> function (state, batch) -> (state, metrics).
      evaluate: (key, which says what is evaluated) -> function (state, batch) -> outputs {name: [batch, ...]}.
    """

    init: Callable[[jax.Array, Any, Mapping[str, jax.Array]], State]
    train: Callable[[str | None], Callable[[State, Any], tuple[State, Arrays]]]
    evaluate: Callable[[Hashable], Callable[[State, Any], Arrays]]


def init_of(function: Callable[[jax.Array, Any, Mapping[str, jax.Array]], State]) -> Callable:
    """(key, hparams, resident, sent) -> the state of a trial by itself."""

    def init(key: jax.Array, hparams: Arrays, resident: Any, sent: Any) -> State:
        return function(key, take(resident, sent), hparams)

    return init


def steps_of(step: Callable[[State, Any], tuple[State, Arrays]], *, trials: bool, capacity: int) -> Callable:
    """(state, resident, sent, steps) -> (state, metrics), for up to `capacity` steps in one call.

    Args:
      step: (state, batch) -> (state, metrics).
      trials: the state and what is sent have a leading axis of trials; what is resident has none.
      capacity: with 1, `sent` has no axis of steps; with more, it is its first.  Metrics have it first in any case.
    """

    def train_step(state: State, resident: Any, sent: Any) -> tuple[State, Arrays]:
        return step(state, take(resident, sent))

    mapped = jax.vmap(train_step, in_axes=(0, None, 0)) if trials else train_step

    def train_steps(state: State, resident: Any, sent: Any, steps: jax.Array) -> tuple[State, Arrays]:
        if capacity == 1:
            state, metrics = mapped(state, resident, sent)
            return state, jax.tree.map(lambda x: x[None], metrics)

        def body(i: jax.Array, carry: Any) -> Any:
            state, history = carry
            state, metrics = mapped(state, resident, jax.tree.map(lambda x: x[i], sent))
            return state, jax.tree.map(lambda past, x: past.at[i].set(x), history, metrics)

        shapes = jax.eval_shape(mapped, state, resident, jax.tree.map(lambda x: x[0], sent))[1]
        history = jax.tree.map(lambda x: jnp.zeros((capacity, *x.shape), x.dtype), shapes)
        return jax.lax.fori_loop(0, steps, body, (state, history))

    return train_steps


def evaluation_of(step: Callable[[State, Any], Arrays], *, trials: bool, whole: Callable[[State], State]) -> Callable:
    """(state, resident, sent) -> outputs of a batch, the same for every trial.

    Args:
      step: (state, batch) -> outputs.
      trials: the state has a leading axis of trials; so have the outputs.
      whole: the whole arrays of a state as it is placed (`Placement.whole`).
    """

    def evaluate(state: State, resident: Any, sent: Any) -> Arrays:
        batch, state = take(resident, sent), whole(state)
        return jax.vmap(lambda state: step(state, batch))(state) if trials else step(state, batch)

    return evaluate
