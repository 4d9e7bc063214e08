"""Recurrent layers: the same step for every token, a state between them (Elman, 1990; LSTM, 1997; GRU, 2014).

The steps below are the equations.  `x` is the input's share of the pre-activations, computed for all tokens at once
outside the loop; `h` the state's share, h W + b, is what the loop has to wait for.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from research.layers.activations import Activation, activation
from research.layers.dtypes import DType, param_dtype

Cell = Literal["elman", "lstm", "gru"]
State = tuple[jax.Array, ...]
"""(h,), or (h, c) for an LSTM; each [batch, width], or [batch, depth · directions, width] for a stack."""

Linear = Callable[[jax.Array], jax.Array]


def elman_step(x: jax.Array, state: State, linear: Linear, nonlinearity: Linear) -> State:
    """Elman (1990): h = tanh(x + h W + b)."""
    (h,) = state
    return (nonlinearity(x + linear(h)),)


def lstm_step(x: jax.Array, state: State, linear: Linear, nonlinearity: Linear) -> State:
    """Hochreiter & Schmidhuber (1997), with the forget gate of Gers et al. (2000)."""
    h, c = state
    i, f, g, o = jnp.split(x + linear(h), 4, axis=-1)
    c = nn.sigmoid(f) * c + nn.sigmoid(i) * nonlinearity(g)
    return nn.sigmoid(o) * nonlinearity(c), c


def gru_step(x: jax.Array, state: State, linear: Linear, nonlinearity: Linear) -> State:
    """Cho et al. (2014), the reset gate after the product with the state, as cuDNN and PyTorch have it."""
    (h,) = state
    x_r, x_z, x_n = jnp.split(x, 3, axis=-1)
    h_r, h_z, h_n = jnp.split(linear(h), 3, axis=-1)
    r, z = nn.sigmoid(x_r + h_r), nn.sigmoid(x_z + h_z)
    n = nonlinearity(x_n + r * h_n)
    return ((1 - z) * n + z * h,)


_STEPS = {"elman": elman_step, "lstm": lstm_step, "gru": gru_step}
_GATES = {"elman": 1, "lstm": 4, "gru": 3}
_STATES = {"elman": 1, "lstm": 2, "gru": 1}


class Recurrent(nn.Module):
    """Layers of one cell, each reading what the one below gives.

    Attributes:
      cell: what a step computes.
      width: features of the state.
      depth: layers.
      bidirectional: a second stack of states reads from the end; their outputs are put side by side.
      dropout: on what a layer gives to the next one, in training.
      activation: of an Elman step, and in place of tanh in the gated ones.
      forget_bias: added to the initial bias of an LSTM's forget gate; 1 helps long memories (Jozefowicz et al., 2015).
      input_width: features of the input; None takes them as they come.
    """

    cell: Cell
    width: int
    depth: int = 1
    bidirectional: bool = False
    dropout: float = 0.0
    activation: Activation = "tanh"
    forget_bias: float = 0.0
    input_width: int | None = None
    dtype: DType = "float32"

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        state: State | None = None,
        *,
        mask: jax.Array | None = None,
        begins: jax.Array | None = None,
        train: bool = False,
    ) -> tuple[jax.Array, State]:
        """Outputs [batch, length, width · directions] and the states after the last token.

        Args:
          x: [batch, length, features].
          state: before the first token, each array [batch, depth · directions, width] (layer by layer, forward before
            backward); None is zeros.
          mask: [batch, length] bool; a token where it is False leaves the state as it was and gives zeros, so that
            with padding on the right the backward direction starts at the last true token.
          begins: [batch, length] bool; the state is zero again before these tokens (packed sequences).
          train: whether to drop.
        """
        directions = ("forward", "backward") if self.bidirectional else ("forward",)
        if state is None:
            state = self.initial_state(len(x))
        state = tuple(s.astype(param_dtype(self.dtype)) for s in state)  # the sums of an LSTM's memory need the bits
        finals = []
        for layer in range(self.depth):
            if layer > 0:
                x = nn.Dropout(self.dropout, deterministic=not train)(x)
            outputs = []
            for direction in directions:
                run = Direction(
                    self.cell, self.width, direction, self.activation, self.forget_bias, self.dtype,
                    name=f"{direction}{layer}",
                )  # fmt: skip
                y, final = run(x, tuple(s[:, len(finals)] for s in state), mask, begins)
                outputs.append(y)
                finals.append(final)
            x = jnp.concatenate(outputs, axis=-1)
        return x, tuple(jnp.stack(states, axis=1) for states in zip(*finals, strict=True))

    @nn.nowrap
    def initial_state(self, batch: int) -> State:
        """Zeros."""
        shape = (batch, self.depth * (2 if self.bidirectional else 1), self.width)
        return (jnp.zeros(shape, param_dtype(self.dtype)),) * _STATES[self.cell]


class Direction(nn.Module):
    """One layer in one direction, a scan over the tokens; fields as in `Recurrent`."""

    cell: Cell
    width: int
    direction: Literal["forward", "backward"]
    activation: Activation
    forget_bias: float
    dtype: DType

    @nn.compact
    def __call__(
        self, x: jax.Array, state: State, mask: jax.Array | None, begins: jax.Array | None
    ) -> tuple[jax.Array, State]:
        bound = 1 / math.sqrt(self.width)

        def uniform(key, shape):
            return jax.random.uniform(key, shape, param_dtype(self.dtype), -bound, bound)

        def input_bias(key, shape):
            forget = jnp.zeros(shape).at[self.width : 2 * self.width].set(self.forget_bias)
            return uniform(key, shape) + (forget.astype(param_dtype(self.dtype)) if self.cell == "lstm" else 0)

        gates = _GATES[self.cell] * self.width
        W_x = self.param("input_kernel", uniform, (x.shape[-1], gates)).astype(self.dtype)
        W_h = self.param("hidden_kernel", uniform, (self.width, gates)).astype(self.dtype)
        b_x = self.param("input_bias", input_bias, (gates,)).astype(self.dtype)
        b_h = self.param("hidden_bias", uniform, (gates,)).astype(self.dtype)

        step = partial(
            _STEPS[self.cell],
            linear=lambda h: h.astype(self.dtype) @ W_h + b_h,
            nonlinearity=activation(self.activation),
        )

        def advance(state: State, token: tuple) -> tuple[State, jax.Array]:
            x, valid, begin = token
            if begin is not None:
                state = _where(~begin, state, 0)
            new = step(x, state)
            if valid is None:
                return new, new[0].astype(self.dtype)
            return _where(valid, new, state), _where(valid, new, 0)[0].astype(self.dtype)

        backward = self.direction == "backward"
        if begins is not None and backward:  # read from the end, a sequence begins where the next one begins after it
            begins = jnp.roll(begins, -1, axis=1).at[:, -1].set(True)
        tokens = (x.astype(self.dtype) @ W_x + b_x, mask, begins)
        tokens = jax.tree.map(lambda a: jnp.swapaxes(a, 0, 1), tokens)  # time first
        final, outputs = jax.lax.scan(advance, state, tokens, reverse=backward)
        return jnp.swapaxes(outputs, 0, 1), final


def _where(condition: jax.Array, state: State, other: State | float) -> State:
    """`state` for the examples where `condition` [batch] holds, `other` for the rest."""
    others = other if isinstance(other, tuple) else (other,) * len(state)
    return tuple(jnp.where(condition[:, None], a, b) for a, b in zip(state, others, strict=True))
