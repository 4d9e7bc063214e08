"""Maps the pure functions of one step over the trials of a stack and the steps of a call.

From the inside out: gather the batch and run one step; `vmap` over trials; loop over the steps of one call.
`research/parallel/placement.py` maps the result over devices.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from research.data.feed import take

State = Any
"""A pytree of arrays; with trials, each has a leading trial axis."""

Arrays = dict[str, jax.Array]


class Functions(NamedTuple):
    """The pure functions that programs run, each for one trial, one step and no particular devices.

    Attributes:
      init: (key, batch, hparams) -> state.
      train: (mapped axis that the batch is split over, or None) -> function (state, batch) -> (state, metrics).
      evaluate: (key of an evaluation) -> function (state, batch) -> outputs {name: [batch, ...]}.
    """

    init: Callable[[jax.Array, Any, Mapping[str, jax.Array]], State]
    train: Callable[[str | None], Callable[[State, Any], tuple[State, Arrays]]]
    evaluate: Callable[[Hashable], Callable[[State, Any], Arrays]]


def init_of(function: Callable[[jax.Array, Any, Mapping[str, jax.Array]], State]) -> Callable:
    """Makes a function (key, hparams, resident, sent) -> the state of a single trial, without the trial axis."""

    def init(key: jax.Array, hparams: Arrays, resident: Any, sent: Any) -> State:
        return function(key, take(resident, sent), hparams)

    return init


def steps_of(step: Callable[[State, Any], tuple[State, Arrays]], *, trials: bool, capacity: int) -> Callable:
    """Makes a function (state, resident, sent, steps) -> (state, metrics) that runs up to `capacity` steps in a call.

    Args:
      step: (state, batch) -> (state, metrics).
      trials: the arrays of the state and of `sent` have a trial axis; resident arrays have none.
      capacity: the size of the step axis, the first axis of `sent` (absent if it is 1) and always of the metrics.
    """

    def train_step(state: State, resident: Any, sent: Any) -> tuple[State, Arrays]:
        return step(state, take(resident, sent))

    # Under jit, the step is traced once for the shapes of its metrics and for the loop.
    mapped = jax.jit(jax.vmap(train_step, in_axes=(0, None, 0)) if trials else train_step)

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
    """Makes a function (state, resident, sent) -> outputs of one batch, which all trials evaluate.

    Args:
      step: (state, batch) -> outputs.
      trials: the arrays of the state and of the outputs have a leading trial axis.
      whole: gives the whole arrays of a placed state (`Placement.whole`).
    """

    def evaluate(state: State, resident: Any, sent: Any) -> Arrays:
        batch, state = take(resident, sent), whole(state)
        return jax.vmap(lambda state: step(state, batch))(state) if trials else step(state, batch)

    return evaluate
