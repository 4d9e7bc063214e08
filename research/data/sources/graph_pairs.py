"""Generated graphs that differ in what an aggregation can see (after Xu et al., 2019, figure 3)."""

from __future__ import annotations

import dataclasses
from typing import Literal

import numpy as np

from research.data.graphs import Graph, GraphData, GraphList
from research.data.spec import Splits
from research.errors import require

Pair = Literal["degree", "share", "presence", "cycles"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class GraphPairs(GraphData):
    """Two kinds of graphs, label 0 and 1, which a network tells apart or does not.

    >>> splits = GraphPairs(pair="cycles", examples=100).load()
    >>> splits.train.graphs + splits.validation.graphs, splits.train[0]["nodes"].shape
    (100, (128, 4))

    "degree": regular graphs of equal nodes, cycles against complete graphs; only sums see the number of neighbours.
    "share": stars of equal size, whose leaves have one of two colours, in shares of 1 to 2 or 2 to 1; sums and means
    see it.
    "presence": stars that have leaves of colours 0 and 1, or 0 and 2, in any number; sums, means and maxima see it.
    "cycles": one cycle of 2n nodes against two of n: the Weisfeiler-Lehman test cannot tell them apart, nor can any
    network of message passing without further features.

    Nodes have `nodes` float32 [nodes, 4], one of four colours; nodes are numbered at random.

    Attributes:
      pair: what differs.
      least, most: bounds of the size n of a graph.
      examples, test_examples: numbers of graphs for training (including `validation`) and for testing.
    """

    pair: Pair = "degree"
    least: int = 4
    most: int = 10
    examples: int = 1000
    test_examples: int = 500

    def check(self) -> None:
        super().check()
        require(3 <= self.least <= self.most, f"least={self.least}, most={self.most}: expected 3 <= least <= most")
        for name in ("examples", "test_examples"):
            require(getattr(self, name) >= 2, f"{name}={getattr(self, name)}: expected at least 2")

    def read(self) -> Splits:
        return Splits(train=self._drawn("train", self.examples), test=self._drawn("test", self.test_examples))

    def _drawn(self, split: str, examples: int) -> GraphList:
        generator = np.random.default_rng([self.split_seed, *split.encode()])
        labels = np.arange(examples, dtype=np.int32) % 2
        sizes = generator.integers(self.least, self.most + 1, size=examples)
        graphs = [self._graph(generator, int(n), int(label)) for n, label in zip(sizes, labels, strict=True)]
        return GraphList(graphs, {"label": labels[:, None]}, [f"{split} graph {i}" for i in range(examples)])

    def _graph(self, generator: np.random.Generator, n: int, label: int) -> Graph:
        """Two graphs of one n have the same number of nodes, except for "degree" and "presence"."""
        if self.pair == "degree":
            colours, edges = [0] * n, _complete(n) if label else _cycle(range(n + 1))
            colours = [0] * (n if label else n + 1)
        elif self.pair == "cycles":
            colours = [0] * (2 * n)
            edges = _cycle(range(n)) + _cycle(range(n, 2 * n)) if label else _cycle(range(2 * n))
        elif self.pair == "share":
            one, two = (2 * n, n) if label else (n, 2 * n)
            colours = [3] + [0] * one + [1] * two
            edges = [(0, i) for i in range(1, len(colours))]
        else:
            others = generator.integers(1, n + 1, size=2)
            colours = [3] + [0] * int(others[0]) + [1 + label] * int(others[1])
            edges = [(0, i) for i in range(1, len(colours))]
        number = generator.permutation(len(colours))
        nodes = np.zeros((len(colours), 4), np.float32)
        nodes[number, colours] = 1
        pairs = number[np.array(edges)]
        return Graph(nodes, np.concatenate([pairs, pairs[:, ::-1]]).astype(np.int32))


def _cycle(nodes: range) -> list[tuple[int, int]]:
    return list(zip(nodes, [*nodes[1:], nodes[0]], strict=True))


def _complete(n: int) -> list[tuple[int, int]]:
    return [(i, j) for i in range(n) for j in range(i)]
