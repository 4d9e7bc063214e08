"""Graph convolutions: how a node's features follow from those of its neighbours.

Each layer takes `Graphs` and features x [rows, nodes, features], and returns [rows, nodes, width].  Messages go from
the source to the target of an edge; an undirected graph has each edge in both directions.  Two equal edges count twice.
"""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from research.errors import require
from research.layers.dense import dense
from research.layers.dtypes import DType, param_dtype
from research.layers.graphs import Graphs
from research.layers.neighbourhoods import scaled_to
from research.layers.norms import batch_norm
from research.layers.segments import segment_softmax
from research.layers.sparse import Linear, SparseFeatures, as_dense

Aggregation = Literal["sum", "mean", "max"]

Features = jax.Array | SparseFeatures

GLOROT = nn.initializers.glorot_uniform()


class GraphConvolution(nn.Module):
    """D^-½ (A + I) D^-½ X W + b, with D the weights that reach each node (Kipf & Welling, 2017).

    A node that has an edge to itself already gets no second one.  If the edges were sampled, D is that of the whole
    graph, and the sum over a node's edges is scaled to all of them.
    """

    width: int
    dtype: DType = "float32"

    @nn.compact
    def __call__(self, graphs: Graphs, x: Features, *, train: bool = False) -> jax.Array:
        x = Linear(self.width, GLOROT, self.dtype, name="linear")(x)
        graphs = graphs._replace(features=None)
        if graphs.degrees is not None:
            ones = jnp.ones(graphs.targets.shape) if graphs.weights is None else graphs.weights
            graphs = graphs._replace(weights=scaled_to(graphs.degrees, graphs.targets, ones))
        graphs = graphs.with_loops()
        weights = jnp.ones(graphs.targets.shape) if graphs.weights is None else graphs.weights
        degree = graphs.aggregate(weights) if graphs.degrees is None else graphs.degrees + 1.0
        scale = jnp.where(degree > 0, jax.lax.rsqrt(jnp.where(degree > 0, degree, 1)), 0)
        weights = weights * graphs.of_sources(scale) * graphs.of_targets(scale)
        x = graphs.aggregate(graphs.of_sources(x) * weights[..., None].astype(x.dtype))
        return x + self.param("bias", nn.initializers.zeros, (self.width,), param_dtype(self.dtype)).astype(x.dtype)


class SampleAndAggregate(nn.Module):
    """X U + aggregate(neighbours) W + b (Hamilton et al., 2017)."""

    width: int
    aggregation: Aggregation = "mean"
    dtype: DType = "float32"

    @nn.compact
    def __call__(self, graphs: Graphs, x: Features, *, train: bool = False) -> jax.Array:
        x = as_dense(x, self.dtype)
        neighbours = graphs.aggregate(graphs.of_sources(x), self.aggregation)
        own = dense(self.width, use_bias=False, dtype=self.dtype, name="own")(x)
        return dense(self.width, dtype=self.dtype, name="neighbours")(neighbours) + own


class GraphAttention(nn.Module):
    """Attention of every node over its neighbours and itself (Veličković et al., 2018; version 2: Brody et al., 2022).

    The score of an edge with features e is LeakyReLU(a·W x_source + b·W x_target + c·V e), and in version 2
    a·LeakyReLU(W x_source + U x_target + V e).  A node's edge to itself has the mean features of the edges that reach
    it.

    Sows "attention", [rows, edges + nodes, heads]: that of the edges, then that of each node to itself.

    Attributes:
      width: the features of a head.
      heads: the number of heads.
      average: average the heads instead of concatenating them.
      dropout: the dropout rate of the attention, in training.
      edge_features: use the features of edges.
      version: 1 or 2.
    """

    width: int
    heads: int = 1
    average: bool = False
    dropout: float = 0.0
    edge_features: bool = False
    version: Literal[1, 2] = 1
    dtype: DType = "float32"

    @nn.compact
    def __call__(self, graphs: Graphs, x: Features, *, train: bool = False) -> jax.Array:
        graphs = graphs.with_loops()
        source = self._heads(x, "source")
        edge = self._heads(edge_features(graphs, self.dtype), "edge") if self.edge_features else None
        if self.version == 1:
            logits = graphs.of_sources(self._scores(source, "attend_source"))
            logits += graphs.of_targets(self._scores(source, "attend_target"))
            logits = nn.leaky_relu(logits if edge is None else logits + self._scores(edge, "attend_edge"), 0.2)
        else:
            inside = graphs.of_sources(source) + graphs.of_targets(self._heads(x, "target"))
            logits = self._scores(nn.leaky_relu(inside if edge is None else inside + edge, 0.2), "attend")
        attention = segment_softmax(logits, graphs.targets, graphs.count)
        self.sow("intermediates", "attention", attention)
        attention = nn.Dropout(self.dropout, deterministic=not train)(attention)
        y = graphs.aggregate(graphs.of_sources(source) * attention[..., None])
        y = y.mean(-2) if self.average else y.reshape(*y.shape[:-2], -1)
        return y + self.param("bias", nn.initializers.zeros, y.shape[-1:], param_dtype(self.dtype)).astype(y.dtype)

    def _heads(self, x: Features, name: str) -> jax.Array:
        """A linear map to [..., heads, width]."""
        width = self.heads * self.width
        if self.version == 1 or name == "edge":
            y = Linear(width, GLOROT, self.dtype, name=name)(x)
        else:
            y = dense(width, init=GLOROT, dtype=self.dtype, name=name)(as_dense(x, self.dtype))
        return y.reshape(*y.shape[:-1], self.heads, self.width)

    def _scores(self, x: jax.Array, name: str) -> jax.Array:
        """The product of [..., heads, width] with a vector of each head."""
        return (x * self.param(name, GLOROT, (self.heads, self.width), param_dtype(self.dtype)).astype(x.dtype)).sum(-1)


class Isomorphism(nn.Module):
    """MLP((1 + ε) x + Σ neighbours) (Xu et al., 2019); with edge features e, Σ ReLU(neighbour + V e) (Hu et al., 2020).

    The MLP is dense → norm → ReLU → dense.

    Attributes:
      width: of both layers of the MLP.
      aggregation: of the neighbours; "mean" and "max" tell fewer graphs apart.
      edge_features: use the features of edges.
      epsilon: ε before training.
      learn_epsilon: train ε.
      norm: batch norm inside of the MLP.
    """

    width: int
    aggregation: Aggregation = "sum"
    edge_features: bool = False
    epsilon: float = 0.0
    learn_epsilon: bool = True
    norm: bool = True
    dtype: DType = "float32"

    @nn.compact
    def __call__(self, graphs: Graphs, x: Features, *, train: bool = False) -> jax.Array:
        x = as_dense(x, self.dtype)
        messages = graphs.of_sources(x)
        if self.edge_features:
            edge = dense(x.shape[-1], dtype=self.dtype, name="edge")(edge_features(graphs, self.dtype))
            messages = nn.relu(messages + edge)
        epsilon = self.epsilon
        if self.learn_epsilon:
            initial = nn.initializers.constant(self.epsilon)
            epsilon = self.param("epsilon", initial, (1,), param_dtype(self.dtype)).astype(x.dtype)
        y = (1 + epsilon) * x + graphs.aggregate(messages, self.aggregation)
        y = dense(self.width, dtype=self.dtype, name="dense0")(y)
        if self.norm:
            y = batch_norm(train, dtype=self.dtype, name="norm")(y, mask=graphs.node_mask)
        return dense(self.width, dtype=self.dtype, name="dense1")(nn.relu(y))


class EdgeNetwork(nn.Module):
    """X U + aggregate(A(e) neighbour) + b, with a matrix A(e) for each edge from its features (Gilmer et al., 2017).

    A(e) is dense → ReLU → dense of the features.

    Attributes:
      width: the features of the result.
      edge_width: the hidden features of the network for A.
      aggregation: of the neighbours.
    """

    width: int
    edge_width: int = 128
    aggregation: Aggregation = "mean"
    dtype: DType = "float32"

    def setup(self) -> None:
        self.edge0 = dense(self.edge_width, dtype=self.dtype)
        self.edge1 = dense(self.width * self.width, dtype=self.dtype)
        self.own = dense(self.width, use_bias=False, dtype=self.dtype)
        self.bias = self.param("bias", nn.initializers.zeros, (self.width,), param_dtype(self.dtype))

    def matrices(self, graphs: Graphs) -> jax.Array:
        """A(e) of every edge, [rows, edges, features, width]; the same in every round."""
        hidden = nn.relu(self.edge0(edge_features(graphs, self.dtype)))
        return self.edge1(hidden).reshape(*graphs.targets.shape, self.width, self.width)

    def __call__(self, graphs: Graphs, x: jax.Array, matrices: jax.Array) -> jax.Array:
        messages = jnp.einsum("rei,reio->reo", graphs.of_sources(x), matrices)
        return graphs.aggregate(messages, self.aggregation) + self.own(x) + self.bias.astype(x.dtype)


def edge_features(graphs: Graphs, dtype: DType) -> jax.Array:
    """The features of the edges, [rows, edges, features].

    Raises:
      RequestError: there are none.
    """
    require(graphs.features is not None, "edge_features: the model uses them, but the data have none")
    return graphs.features.astype(dtype)
