"""Recurrent layers: Elman (1990), LSTM (1997) and GRU (2014).

The step functions below are the equations.  Their argument z combines x, the contribution of the input, computed for
all tokens at once outside the loop, and u = h W + b, the contribution of the state, computed inside the loop.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from research.layers import kernels
from research.layers.activations import Activation, activation
from research.layers.dtypes import DType, param_dtype

Cell = Literal["elman", "lstm", "gru"]
State = tuple[jax.Array, ...]
"""(h,), or (h, c) for an LSTM: each [batch, width], or [batch, depth · directions, width] for a stack."""

Elementwise = Callable[[jax.Array], jax.Array]


def elman_step(z: jax.Array, state: State, nonlinearity: Elementwise) -> State:
    """Elman (1990): h = tanh(x + h W + b)."""
    return (nonlinearity(z),)


def lstm_step(z: jax.Array, state: State, nonlinearity: Elementwise) -> State:
    """Hochreiter & Schmidhuber (1997), with the forget gate of Gers et al. (2000)."""
    _, c = state
    # one sigmoid over all four gates, which XLA vectorises; one result is unused
    i, f, _, o = jnp.split(nn.sigmoid(z), 4, axis=-1)
    g = nonlinearity(jnp.split(z, 4, axis=-1)[2])
    c = f * c + i * g
    return o * nonlinearity(c), c


def gru_step(z: jax.Array, state: State, nonlinearity: Elementwise) -> State:
    """Cho et al. (2014), with the reset gate applied after the product with the state, as in cuDNN and PyTorch."""
    (h,) = state
    gates, x_n, h_n = jnp.split(z, [2 * h.shape[-1], 3 * h.shape[-1]], axis=-1)
    r, z = jnp.split(nn.sigmoid(gates), 2, axis=-1)
    n = nonlinearity(x_n + r * h_n)
    return ((1 - z) * n + z * h,)


def _sum(x: jax.Array, u: jax.Array) -> jax.Array:
    """Combines the contributions of input and state: x + u."""
    return x + u


def _sum_but_new(x: jax.Array, u: jax.Array) -> jax.Array:
    """Like `_sum`, but keeps both contributions to a GRU's new state side by side, since its reset gate scales only
    one.
    """
    (x, x_n), (u, u_n) = (jnp.split(a, [2 * a.shape[-1] // 3], axis=-1) for a in (x, u))
    return jnp.concatenate([x + u, x_n, u_n], axis=-1)


class _Equations(NamedTuple):
    step: Callable[[jax.Array, State, Elementwise], State]
    enter: Callable[[jax.Array, jax.Array], jax.Array]  # linear
    gates: int  # of x and of u
    states: int


_CELLS = {
    "elman": _Equations(elman_step, _sum, gates=1, states=1),
    "lstm": _Equations(lstm_step, _sum, gates=4, states=2),
    "gru": _Equations(gru_step, _sum_but_new, gates=3, states=1),
}


class Recurrent(nn.Module):
    """A stack of recurrent layers of one cell type.

        outputs, state = Recurrent("lstm", width=256, depth=2)(x, mask=mask, train=train)

    Attributes:
      cell: "elman", "lstm" or "gru".
      width: the features of the state.
      depth: the number of layers.
      bidirectional: add a second stack that reads from the end; the outputs of both are concatenated.
      dropout: the dropout rate between layers, in training.
      activation: of an Elman step, and instead of tanh in gated cells.
      forget_bias: added to the initial bias of an LSTM's forget gate; 1 helps long memories (Jozefowicz et al., 2015).
      input_width: the features of the input; None infers them.
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
        """Returns outputs [batch, length, width · directions] and the states after the last token.

        Args:
          x: [batch, length, features].
          state: the state before the first token, each array [batch, depth · directions, width] (layer by layer,
            forward before backward); None for zeros.
          mask: [batch, length] bool; tokens where it is False leave the state unchanged and output zeros, so with
            padding on the right the backward direction starts at the last true token.
          begins: [batch, length] bool; the state is reset to zero before these tokens (packed sequences).
          train: apply dropout.
        """
        directions = ("forward", "backward") if self.bidirectional else ("forward",)
        if state is None:
            state = self.initial_state(len(x))
        # the sums in an LSTM's memory need the precision
        state = tuple(s.astype(param_dtype(self.dtype)) for s in state)
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
        """Zero states."""
        shape = (batch, self.depth * (2 if self.bidirectional else 1), self.width)
        return (jnp.zeros(shape, param_dtype(self.dtype)),) * _CELLS[self.cell].states


class Direction(nn.Module):
    """One layer in one direction: a scan over tokens; fields as in `Recurrent`."""

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

        gates = _CELLS[self.cell].gates * self.width
        W_x = self.param("input_kernel", uniform, (x.shape[-1], gates)).astype(self.dtype)
        W_h = self.param("hidden_kernel", uniform, (self.width, gates)).astype(self.dtype)
        b_x = self.param("input_bias", input_bias, (gates,)).astype(self.dtype)
        b_h = self.param("hidden_bias", uniform, (gates,)).astype(self.dtype)

        backward = self.direction == "backward"
        if begins is not None and backward:  # backward, a sequence begins just before the start of the next one
            begins = jnp.roll(begins, -1, axis=1).at[:, -1].set(True)
        x, mask, begins = jax.tree.map(lambda a: jnp.swapaxes(a, 0, 1), (x, mask, begins))  # time first
        tokens = (x.astype(self.dtype) @ W_x + b_x, mask, begins)
        kernels.note("recurrence", "scan, with a derivative of its own")
        outputs, final = unroll(self.cell, self.activation, backward, W_h, b_h, state, tokens)
        return jnp.swapaxes(outputs, 0, 1), final


@partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def unroll(
    cell: Cell, nonlinearity: Activation, backward: bool, W: jax.Array, b: jax.Array, state: State, tokens: tuple
) -> tuple[jax.Array, State]:
    """Runs a layer over all tokens: outputs [length, batch, width] and the states after the last token.

    The derivative is backpropagation through time (Werbos, 1990): a reverse loop over tokens for the gradients of the
    gate inputs, then one product over all tokens for the gradient of W.  Differentiating the loop instead would
    accumulate the whole gradient of W at every token, which makes a training step of an LSTM of width 256 take 1.3
    times as long on a CPU.

    Args:
      cell: selects the equations.
      nonlinearity: of the new state.
      backward: start with the last token.
      W: [width, gates].
      b: [gates]; the state contributes h W + b to the gates.
      state: the state before the first token, each array [batch, width].
      tokens: the contributions of the input [length, batch, gates], and `mask` and `begins` as in `Recurrent`, [length,
        batch] or None.
    """
    return _forward(cell, nonlinearity, backward, W, b, state, tokens)[0]


def _forward(cell, nonlinearity, backward, W, b, state, tokens):
    def advance(state: State, token: tuple) -> tuple[State, tuple]:
        x, valid, begin = token
        if begin is not None:
            state = _where(~begin, state, 0)
        z = _CELLS[cell].enter(x, state[0].astype(W.dtype) @ W + b)
        new = _step(cell, nonlinearity, valid, z, state)
        y = new[0] if valid is None else _where(valid, new[:1], 0)[0]
        return new, (y.astype(W.dtype), z, state)

    final, (y, z, states) = jax.lax.scan(advance, state, tokens, reverse=backward)
    return (y, final), (W, z, states, tokens)


def _backward(cell, nonlinearity, backward, saved, gradients):
    W, z, states, tokens = saved
    dy, dfinal = gradients
    x, mask, begins = tokens
    shares = jax.linear_transpose(_CELLS[cell].enter, x[0], x[0])
    W_T = W.T  # written out once: products with contiguous rows are faster

    def retreat(dstate: State, token: tuple) -> tuple[State, jax.Array]:
        dy, z, state, valid, begin = token
        dy = dy.astype(dstate[0].dtype)
        dnew = (dstate[0] + (dy if valid is None else _where(valid, (dy,), 0)[0]), *dstate[1:])
        _, gradient = jax.vjp(partial(_step, cell, nonlinearity, valid), z, state)
        dz, dstate = gradient(dnew)
        du = shares(dz)[1]
        dstate = (dstate[0] + du @ W_T, *dstate[1:])
        return (dstate if begin is None else _where(~begin, dstate, 0)), dz

    dstate, dz = jax.lax.scan(retreat, dfinal, (dy, z, states, mask, begins), reverse=not backward)
    dx, du = jax.vmap(shares)(dz)
    dW = jnp.einsum("tbi,tbj->ij", states[0].astype(W.dtype), du)
    return dW, du.sum((0, 1)), dstate, (dx, None, None)


unroll.defvjp(_forward, _backward)


def _step(cell: Cell, nonlinearity: Activation, valid: jax.Array | None, z: jax.Array, state: State) -> State:
    """The state after a token; padding leaves it unchanged."""
    new = _CELLS[cell].step(z, state, activation(nonlinearity))
    return new if valid is None else _where(valid, new, state)


def _where(condition: jax.Array, state: State, other: State | float) -> State:
    """Selects `state` for examples where `condition` [batch] holds, and `other` for the rest."""
    others = other if isinstance(other, tuple) else (other,) * len(state)
    return tuple(jnp.where(condition[:, None], a, b) for a, b in zip(state, others, strict=True))
