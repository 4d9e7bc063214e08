"""Graphs as arrays: nodes and directed edges, many graphs packed into rows or one large graph.

A row holds `nodes` nodes and some edges, which are pairs (source, target) of node numbers in their own row.  Several
graphs may share a row: `graph` gives the place of each node's graph in the row, from 0 to `places` - 1.  Padding has
the first number that does not exist: an edge that is padding goes from node `nodes` to node `nodes`, and a node that is
padding belongs to graph `places`.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from research.errors import require
from research.layers import segments


class Graphs(NamedTuple):
    """Rows of graphs, without the features of their nodes.

    Attributes:
      count: nodes in a row, with padding.
      sources, targets: int [rows, edges].
      features: of the edges, [rows, edges, features], or None.
      weights: of the edges, [rows, edges], or None if each weighs 1.
      graph: the place of each node's graph, int [rows, nodes]; None if a row is one graph without padding.
      places: places for graphs in a row.
      degrees: edges that reach each node in the graph from which these edges were sampled, [rows, nodes]; or None.
    """

    count: int
    sources: jax.Array
    targets: jax.Array
    features: jax.Array | None = None
    weights: jax.Array | None = None
    graph: jax.Array | None = None
    places: int = 1
    degrees: jax.Array | None = None

    @property
    def node_mask(self) -> jax.Array | None:
        """False for padding, bool [rows, nodes]; None if there is none."""
        return None if self.graph is None else self.graph < self.places

    def place_of(self, x: jax.Array) -> jax.Array:
        """The place of each node's graph, int [rows, nodes], for nodes x [rows, nodes, features]."""
        return jnp.zeros(x.shape[:2], jnp.int32) if self.graph is None else self.graph

    def of_sources(self, x: jax.Array) -> jax.Array:
        """The source of each edge: [rows, nodes, ...] to [rows, edges, ...]."""
        return segments.take(x, self.sources)

    def of_targets(self, x: jax.Array) -> jax.Array:
        """The target of each edge: [rows, nodes, ...] to [rows, edges, ...]."""
        return segments.take(x, self.targets)

    def aggregate(self, messages: jax.Array, how: str = "sum") -> jax.Array:
        """The sum, mean or max of the messages [rows, edges, ...] that reach each node, [rows, nodes, ...]."""
        return AGGREGATIONS[how](messages, self.targets, self.count)

    def with_loops(self) -> Graphs:
        """These graphs with exactly one edge from each node to itself; loops follow the other edges.

        A loop keeps the weight that it had, of several the last, or weighs 1; its features are the mean of those of the
        other edges that reach the node.
        """
        rows, edges = self.targets.shape
        loop = self.sources == self.targets
        others = self._replace(sources=jnp.where(loop, self.count, self.sources))
        others = others._replace(targets=jnp.where(loop, self.count, self.targets))
        node = jnp.broadcast_to(jnp.arange(self.count, dtype=self.targets.dtype), (rows, self.count))
        features, weights = self.features, self.weights
        if features is not None:
            features = jnp.concatenate([features, others.aggregate(features, "mean")], axis=1)
        if weights is not None:
            number = jnp.where(loop, jnp.arange(1, edges + 1), 0)
            last = jnp.maximum(self.aggregate(number, "max"), 0)
            own = jnp.where(last > 0, segments.take(weights, jnp.maximum(last, 1) - 1), 1)
            weights = jnp.concatenate([weights, own], axis=1)
        return others._replace(
            sources=jnp.concatenate([others.sources, node], axis=1),
            targets=jnp.concatenate([others.targets, node], axis=1),
            features=features,
            weights=weights,
        )


AGGREGATIONS = {"sum": segments.segment_sum, "mean": segments.segment_mean, "max": segments.segment_max}


def graphs_of(
    nodes: jax.Array,
    edges: jax.Array,
    edge_features: jax.Array | None = None,
    edge_weights: jax.Array | None = None,
    graph: jax.Array | None = None,
    mask: jax.Array | None = None,
    degrees: jax.Array | None = None,
) -> Graphs:
    """Makes `Graphs` from a model's arguments; without an axis of rows, they are one row.

    Args:
      nodes: [rows, nodes, features].
      edges: (source, target) of each edge, int [rows, edges, 2].
      edge_features: [rows, edges, features] or [rows, edges].
      edge_weights: [rows, edges].
      graph: int [rows, nodes].
      mask: the places that hold a graph, bool [rows, places].
      degrees: of the nodes before edges were sampled, int [rows, nodes].

    Raises:
      RequestError: the shapes do not fit together.
    """
    shape = list(edges.shape)
    require(
        edges.ndim == nodes.ndim and shape[-1] == 2,
        f"edges of shape {shape}, nodes of shape {list(nodes.shape)}: expected [edges, 2] with [nodes, features], or "
        "both with an axis of rows in front",
    )
    require((graph is None) == (mask is None), "graph and mask: expected both or none of them")
    if edges.ndim == 2:
        given = (nodes, edges, edge_features, edge_weights, graph, mask, degrees)
        given = (None if x is None else x[None] for x in given)
        nodes, edges, edge_features, edge_weights, graph, mask, degrees = given
    if edge_features is not None and edge_features.ndim == 2:
        edge_features = edge_features[..., None]
    sources, targets = jnp.moveaxis(edges.astype(jnp.int32), -1, 0)
    places = 1 if mask is None else mask.shape[-1]
    return Graphs(nodes.shape[1], sources, targets, edge_features, edge_weights, graph, places, degrees)
