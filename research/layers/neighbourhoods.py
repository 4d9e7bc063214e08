"""Sampled neighbourhoods in one large graph (Hamilton et al., 2017): a small tree around each node that is asked for.

With fan-outs (10, 5), up to 10 neighbours of a node are drawn without replacement, and up to 5 of each of these.  A
network of two layers needs no more of the graph to compute the node: if no node has more neighbours than the fan-out,
its outputs are those of the whole graph.  All trees have one shape, so a program is compiled once.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from research.layers import segments


class Neighbourhoods(NamedTuple):
    """A tree of `size` places for each node; the node itself has place 0.  A node may have several places.

    Attributes:
      nodes: the number of the node at each place, int32 [rows, size]; any if there is none.
      inside: the places that hold a node, bool [rows, size].
      edges: from each node but the first to the one it was drawn for, int32 [rows, size - 1, 2]; padding has `size`.
      degrees: the number of edges that reach each node in the whole graph, int32 [rows, size].
    """

    nodes: jax.Array
    inside: jax.Array
    edges: jax.Array
    degrees: jax.Array


def places(fan_out: tuple[int, ...]) -> int:
    """The places of a tree.

    >>> places((10, 5))
    61
    """
    return 1 + sum(math.prod(fan_out[:depth]) for depth in range(1, len(fan_out) + 1))


def sample_neighbourhoods(
    keys: jax.Array, nodes: jax.Array, edges: jax.Array, fan_out: tuple[int, ...]
) -> Neighbourhoods:
    """Draws the neighbourhoods of nodes.

    >>> edges = jnp.array([[1, 0], [2, 0], [0, 1]])
    >>> found = sample_neighbourhoods(jax.random.split(jax.random.key(0), 1), jnp.array([0]), edges, (2, 1))
    >>> found.nodes[found.inside].tolist(), found.inside.tolist()
    ([0, 1, 2, 0], [[True, True, True, True, False]])

    Args:
      keys: a key per node, [rows].
      nodes: int [rows].
      edges: (source, target) of each edge, int [edges, 2], in the order of targets.
      fan_out: the largest number of neighbours to draw, at each distance from the node.
    """
    sources, targets = edges[:, 0], edges[:, 1]
    level, inside = nodes[:, None].astype(jnp.int32), jnp.ones((len(nodes), 1), bool)
    size, first = places(fan_out), 0
    found, there, degrees, ends = [level], [inside], [], []
    for depth, fan in enumerate((*fan_out, 0)):
        start, stop = (jnp.searchsorted(targets, level, side=side).astype(jnp.int32) for side in ("left", "right"))
        degrees.append(stop - start)
        if not fan:
            break
        level_keys = jax.vmap(lambda key, depth=depth: jax.random.fold_in(key, depth))(keys)
        chosen = jax.vmap(lambda key, degree, fan=fan: _distinct(key, degree, fan))(level_keys, stop - start)
        kept = inside[..., None] & (jnp.arange(fan) < (stop - start)[..., None])
        parent = jnp.broadcast_to(first + jnp.arange(level.shape[1])[:, None], kept.shape)
        first += level.shape[1]
        own = first + jnp.arange(kept.shape[1] * fan).reshape(kept.shape[1:])
        ends.append(jnp.where(kept[..., None], jnp.stack([jnp.broadcast_to(own, kept.shape), parent], -1), size))
        level = sources.at[start[..., None] + chosen].get(mode="clip").astype(jnp.int32).reshape(len(nodes), -1)
        inside = kept.reshape(len(nodes), -1)
        found.append(level)
        there.append(inside)
    ends = [x.reshape(len(nodes), -1, 2) for x in ends]
    return Neighbourhoods(
        *(jnp.concatenate(x, 1) for x in (found, there)),
        jnp.concatenate(ends, 1).astype(jnp.int32),
        jnp.concatenate(degrees, 1),
    )


def sampled_inputs(
    keys: jax.Array, nodes: jax.Array, whole: dict[str, jax.Array], fan_out: tuple[int, ...]
) -> dict[str, jax.Array]:
    """A graph network's arguments for the neighbourhoods of nodes, a row each, from those for the whole graph."""
    found = sample_neighbourhoods(keys, nodes, whole["edges"], fan_out)
    rows = {name: whole[name].at[found.nodes].get(mode="clip") for name in ("nodes", "columns") if name in whole}
    graph = jnp.where(found.inside, 0, 1)
    mask = jnp.ones((len(nodes), 1), bool)
    return {**rows, "edges": found.edges, "degrees": found.degrees, "graph": graph, "mask": mask}


def scaled_to(degrees: jax.Array, targets: jax.Array, weights: jax.Array) -> jax.Array:
    """Weights of sampled edges whose sum at each node is, in expectation, that over all its edges, [rows, edges]."""
    drawn = segments.segment_sum(jnp.ones(weights.shape, weights.dtype), targets, degrees.shape[1])
    return weights * segments.take(degrees / jnp.maximum(drawn, 1), targets)


def _distinct(key: jax.Array, degrees: jax.Array, count: int) -> jax.Array:
    """Draws `count` distinct numbers below each of `degrees` [nodes], int32 [nodes, count], in O(count) (Floyd).

    A node of fewer gets 0, 1, ... in order.
    """
    drawn = jnp.full((*degrees.shape, count), -1, jnp.int32)
    for i, own in enumerate(jax.random.split(key, count)):
        last = jnp.maximum(degrees - count + i, 0)
        number = jax.random.randint(own, degrees.shape, 0, last + 1)
        taken = (drawn == number[..., None]).any(-1)
        drawn = drawn.at[..., i].set(jnp.where(taken, last, number))
    return jnp.where((degrees > count)[..., None], drawn, jnp.arange(count))
