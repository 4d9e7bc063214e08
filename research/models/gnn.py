"""Graph networks: layers of message passing, for nodes, edges and graphs.

    GCN        D^-½ (A + I) D^-½ X W                       Kipf & Welling, 2017
    GraphSAGE  X U + mean(neighbours) W                    Hamilton et al., 2017
    GAT        attention over the neighbours; version 2    Veličković et al., 2018; Brody et al., 2022
    GIN        MLP((1 + ε) x + Σ neighbours); with edges   Xu et al., 2019; Hu et al., 2020

They differ in the layer alone (research/layers/message_passing.py).  All take one large graph, or rows of packed graphs
as `research.data.GraphRows` makes them.
"""

from __future__ import annotations

from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from research.config.checks import check_counts, check_rates
from research.config.inherited import describe_inherited
from research.errors import require
from research.layers.activations import Activation, activation
from research.layers.dense import dense
from research.layers.dtypes import DType
from research.layers.graphs import Graphs, graphs_of
from research.layers.message_passing import (
    Aggregation,
    GraphAttention,
    GraphConvolution,
    Isomorphism,
    SampleAndAggregate,
)
from research.layers.norms import batch_norm, layer_norm
from research.layers.readouts import Kind, Readout
from research.layers.sparse import SparseFeatures, as_dense
from research.models.model import Model


class GraphNetwork(Model):
    """Layers of message passing, each layer → norm → activation, with dropout before every layer.

    >>> class SumNetwork(GraphNetwork):
    ...     def layer(self, width, name, *, last=False):
    ...         return SampleAndAggregate(width, "sum", self.dtype, name=name)
    >>> nodes, edges = jnp.ones((5, 32)), jnp.array([[0, 1], [1, 0], [3, 4], [4, 3]])
    >>> SumNetwork(widths=(16,), classes=7).init_with_output(jax.random.key(0), nodes, edges)[0].shape
    (5, 7)

    Subclasses define `layer`.  For `output="nodes"`, a last layer maps to the outputs, or a dense one if `jumping`
    joins all layers (Xu et al., 2018).  For "edges", a dense layer maps the product of the features of two nodes.  For
    "graphs", a dense layer maps what `readout` reads from the nodes.

    Attributes:
      widths: the features of each layer of message passing before the output.
      classes: the number of outputs for each node, edge or graph.
      output: what the outputs belong to.
      readout: of a graph from its nodes.
      activation: after each layer.
      norm: batch norm, layer norm or none after each layer.
      residual: add the input of a layer to its output where the shapes agree.
      jumping: "concat" or "max" joins the features of all layers; "none" takes the last.
      dropout: the dropout rate of the features before every layer but the first, and before the output.
      input_dropout: the dropout rate of the input features; None for `dropout`.
      input_width: the number of input features; None infers it, unless they are given sparsely, by `columns`.
      edge_input_width: the number of features of edges; None infers it.
      dtype: of the computation; parameters have at least float32.
    """

    widths: tuple[int, ...]
    classes: int
    output: Literal["nodes", "edges", "graphs"] = "nodes"
    readout: Kind = "mean"
    activation: Activation = "relu"
    norm: Literal["none", "batch", "layer"] = "none"
    residual: bool = False
    jumping: Literal["none", "concat", "max"] = "none"
    dropout: float = 0.0
    input_dropout: float | None = None
    input_width: int | None = None
    edge_input_width: int | None = None
    dtype: DType = "float32"

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        describe_inherited(cls)

    def check(self) -> None:
        super().check()
        check_counts(self, "widths", "classes", "input_width", "edge_input_width")
        check_rates(self, "dropout", "input_dropout")
        same = len(set(self.widths)) == 1
        require(self.jumping != "max" or same, f"jumping='max' with widths={self.widths}: expected equal ones")

    def layer(self, width: int, name: str, *, last: bool = False) -> nn.Module:
        """The layer of message passing with `width` features; `last` maps to the outputs of nodes."""
        raise TypeError(f"{type(self).__name__} does not define layer")

    @nn.compact
    def __call__(
        self,
        nodes: jax.Array,
        edges: jax.Array,
        edge_features: jax.Array | None = None,
        edge_weights: jax.Array | None = None,
        graph: jax.Array | None = None,
        mask: jax.Array | None = None,
        columns: jax.Array | None = None,
        pairs: jax.Array | None = None,
        degrees: jax.Array | None = None,
        *,
        train: bool = False,
    ) -> jax.Array:
        """Returns [rows, nodes, classes], [rows, pairs, classes] or [rows, places, classes].

        Every argument may lack the axis of rows, if there is one row; so does the result then.

        Args:
          nodes: features [rows, nodes, features], or with `columns` the values that are not 0, [rows, nodes, values].
          edges: (source, target) of each edge, int [rows, edges, 2]; padding has the number of nodes.
          edge_features: [rows, edges, features]; for the models that use them.
          edge_weights: [rows, edges]; for GCN.
          graph: the place of each node's graph, int [rows, nodes]; padding has the number of places.
          mask: the places that hold a graph, bool [rows, places].
          columns: the feature that each value belongs to, int [rows, nodes, values]; padding has `input_width`.
          pairs: the two nodes of each output, int [rows, pairs, 2], for `output="edges"`.
          degrees: the edges that reach each node where `edges` are a sample of them, int [rows, nodes]; for GCN.
        """
        one, graphs = nodes.ndim == 2, graphs_of(nodes, edges, edge_features, edge_weights, graph, mask, degrees)
        if one:
            nodes, columns, pairs = (None if x is None else x[None] for x in (nodes, columns, pairs))
        first = self.dropout if self.input_dropout is None else self.input_dropout
        x = nn.Dropout(first, deterministic=not train)(nodes.astype(self.dtype))
        if columns is not None:
            require(
                self.input_width is not None, "input_width=none: set it to the number of features, which are sparse"
            )
            x = SparseFeatures(x, columns.astype(jnp.int32), self.input_width)
        kept = []
        for i, width in enumerate(self.widths):
            x = x if i == 0 else nn.Dropout(self.dropout, deterministic=not train)(x)
            y = self.layer(width, f"layer{i}")(graphs, x, train=train)
            if self.norm == "batch":
                y = batch_norm(train, dtype=self.dtype, name=f"norm{i}")(y, mask=graphs.node_mask)
            elif self.norm == "layer":
                y = layer_norm(dtype=self.dtype, name=f"norm{i}")(y)
            y = activation(self.activation)(y)
            x = as_dense(x, self.dtype) + y if self.residual and x.shape == y.shape else y
            self.sow("intermediates", f"nodes{i}", x)
            kept.append(x)
        if self.jumping != "none" and kept:
            x = jnp.concatenate(kept, -1) if self.jumping == "concat" else jnp.stack(kept).max(0)
        y = self._outputs(graphs, x, pairs, train)
        return y[0] if one else y

    def _outputs(self, graphs: Graphs, x: jax.Array, pairs: jax.Array | None, train: bool) -> jax.Array:
        def drop(x: jax.Array) -> jax.Array:
            return nn.Dropout(self.dropout, deterministic=not train)(x) if self.widths else x

        if self.output == "nodes" and self.jumping == "none":
            return self.layer(self.classes, f"layer{len(self.widths)}", last=True)(graphs, drop(x), train=train)
        x = as_dense(x, self.dtype)
        if self.output == "graphs":
            x = Readout(self.readout, dtype=self.dtype, name="readout")(graphs, x)
            self.sow("intermediates", "read", x)
        elif self.output == "edges":
            require(pairs is not None, "output='edges': expected a task that gives pairs of nodes")
            sources, targets = jnp.moveaxis(pairs.astype(jnp.int32), -1, 0)
            take = graphs._replace(sources=sources, targets=targets)
            x = take.of_sources(x) * take.of_targets(x)
        return dense(self.classes, dtype=self.dtype, name="head")(drop(x))


class GCN(GraphNetwork):
    """The graph convolutional network (Kipf & Welling, 2017); with the fields of `GraphNetwork`.

    On Cora, the paper has widths=(16,) and dropout=0.5.  It takes weights of edges, but no features.

    >>> model = GCN(widths=(16,), classes=7, dropout=0.5)
    >>> nodes, edges = jnp.ones((5, 32)), jnp.array([[0, 1], [1, 0], [3, 4], [4, 3]])
    >>> variables = model.init(jax.random.key(0), nodes, edges)
    >>> model.apply(variables, nodes, edges).shape
    (5, 7)
    """

    def layer(self, width: int, name: str, *, last: bool = False) -> nn.Module:
        return GraphConvolution(width, self.dtype, name=name)


class GraphSAGE(GraphNetwork):
    """Samples and aggregates neighbours (Hamilton et al., 2017); with the fields of `GraphNetwork`.

    >>> model = GraphSAGE(widths=(16, 16), classes=7)
    >>> nodes, edges = jnp.ones((5, 32)), jnp.array([[0, 1], [1, 0], [3, 4], [4, 3]])
    >>> variables = model.init(jax.random.key(0), nodes, edges)
    >>> model.apply(variables, nodes, edges).shape
    (5, 7)

    Attributes:
      aggregation: "mean", "sum" or "max" of the neighbours.
    """

    aggregation: Aggregation = "mean"

    def layer(self, width: int, name: str, *, last: bool = False) -> nn.Module:
        return SampleAndAggregate(width, self.aggregation, self.dtype, name=name)


class GAT(GraphNetwork):
    """The graph attention network (Veličković et al., 2018; Brody et al., 2022); with the fields of `GraphNetwork`.

    On Cora, the first paper has widths=(8,), heads=8, out_heads=1, activation="elu", dropout=0.6 and
    attention_dropout=0.6.

    >>> model = GAT(widths=(8,), heads=8, classes=7, activation="elu")
    >>> nodes, edges = jnp.ones((5, 32)), jnp.array([[0, 1], [1, 0], [3, 4], [4, 3]])
    >>> variables = model.init(jax.random.key(0), nodes, edges)
    >>> model.apply(variables, nodes, edges).shape
    (5, 7)

    Attributes:
      widths: the features of each head in each layer; the heads are concatenated.
      heads: the number of heads of each layer in `widths`.
      out_heads: the number of heads of the last layer of `output="nodes"`, which are averaged.
      attention_dropout: the dropout rate of the attention.
      edge_features: attend by the features of edges too.
      version: 1, or 2 with attention that depends on the query (Brody et al., 2022).
    """

    heads: int = 8
    out_heads: int = 1
    attention_dropout: float = 0.0
    edge_features: bool = False
    version: Literal[1, 2] = 1

    def check(self) -> None:
        super().check()
        check_counts(self, "heads", "out_heads")
        check_rates(self, "attention_dropout")

    def layer(self, width: int, name: str, *, last: bool = False) -> nn.Module:
        heads = self.out_heads if last else self.heads
        shared = (self.attention_dropout, self.edge_features, self.version, self.dtype)
        return GraphAttention(width, heads, last, *shared, name=name)


class GIN(GraphNetwork):
    """The graph isomorphism network (Xu et al., 2019; with edges Hu et al., 2020); with the fields of `GraphNetwork`.

    With aggregation="sum" and readout="sum" it tells apart all graphs that the Weisfeiler-Lehman test does.

    >>> model = GIN(widths=(16, 16), classes=2, output="graphs", readout="sum", inner_norm=False)
    >>> nodes, edges = jnp.ones((5, 32)), jnp.array([[0, 1], [1, 0], [3, 4], [4, 3]])
    >>> variables = model.init(jax.random.key(0), nodes, edges)
    >>> model.apply(variables, nodes, edges).shape
    (1, 2)

    Attributes:
      aggregation: "sum", "mean" or "max" of the neighbours.
      edge_features: add the features of edges to the neighbours (GINE).
      learn_epsilon: train ε, from 0.
      inner_norm: batch norm inside of the MLP of each layer.
    """

    aggregation: Aggregation = "sum"
    edge_features: bool = False
    learn_epsilon: bool = True
    inner_norm: bool = True

    def layer(self, width: int, name: str, *, last: bool = False) -> nn.Module:
        return Isomorphism(
            width, self.aggregation, self.edge_features, 0.0, self.learn_epsilon, self.inner_norm, self.dtype, name=name
        )
