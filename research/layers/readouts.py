"""Readouts: the features of a graph from those of its nodes, [rows, nodes, features] to [rows, places, width]."""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from research.layers.dense import dense
from research.layers.dtypes import DType
from research.layers.graphs import AGGREGATIONS, Graphs
from research.layers.recurrent import Recurrent
from research.layers.segments import segment_softmax, segment_sum, take

Kind = Literal["sum", "mean", "max", "attention", "set2set"]


class Readout(nn.Module):
    """Reads the features of every graph from its nodes.

    "sum", "mean" and "max" keep the width.  "attention" is Σ softmax(gate·x) x, with the softmax over the nodes of a
    graph (after Li et al., 2016).  "set2set" attends to the nodes `steps` times, with an LSTM that has no other input
    than what it read last, and gives its state beside that: twice the width (Vinyals et al., 2016).  A place without a
    graph has zeros, except of "set2set".
    """

    kind: Kind = "mean"
    steps: int = 3
    dtype: DType = "float32"

    @nn.compact
    def __call__(self, graphs: Graphs, x: jax.Array) -> jax.Array:
        place, places = graphs.place_of(x), graphs.places
        if self.kind in AGGREGATIONS:
            return AGGREGATIONS[self.kind](x, place, places)
        if self.kind == "attention":
            weights = segment_softmax(dense(1, dtype=self.dtype, name="gate")(x), place, places)
            return segment_sum(weights * x, place, places)
        rows, _, width = x.shape
        lstm = Recurrent("lstm", width, dtype=self.dtype, name="lstm")
        read, state = jnp.zeros((rows * places, 1, 2 * width), x.dtype), None
        for _ in range(self.steps):
            query, state = lstm(read, state)
            query = query.reshape(rows, places, width)
            weights = segment_softmax((x * take(query, place)).sum(-1, keepdims=True), place, places)
            read = jnp.concatenate([query, segment_sum(weights * x, place, places)], -1).reshape(-1, 1, 2 * width)
        return read.reshape(rows, places, 2 * width)
