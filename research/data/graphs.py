"""Many graphs as rows of one shape: several graphs share a row, so that little of it is padding.

    rows = pack(graphs, RowShape(nodes=128, edges=288, places=12))
    rows[0]["nodes"]     # [128, features]; "graph" [128] numbers the graphs of the row, "mask" [12] tells how many

An example of the frame is a row, and a batch is some rows: it has so many nodes and edges, not so many graphs.  All
splits have one shape, so every program is compiled once.  Padding has the first number that does not exist: nodes
belong to graph `places`, edges go from node `nodes` to itself.  Which graphs share a row is drawn once for a split; it
changes no result, except that they are in one batch.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from research.data.source import Columns, canonical
from research.data.spec import Data, Splits
from research.errors import require


class Graph(NamedTuple):
    """One graph: features [nodes, features], (source, target) of edges int [edges, 2], their features or None."""

    nodes: np.ndarray
    edges: np.ndarray
    edge_features: np.ndarray | None = None


class GraphList:
    """Graphs with values of each, before they are packed.

    Attributes:
      graphs: the graphs, all with or all without features of edges.
      values: {name: array [graph, ...]}, such as labels.
      names: where each graph comes from, for errors.
      note: how the graphs were selected, for the run's record.
    """

    def __init__(self, graphs: Sequence[Graph], values: Mapping[str, np.ndarray], names: Sequence[str], note: str = ""):
        self.graphs, self.names, self.note = list(graphs), list(names), note
        self.values = {name: canonical(x, f"column {name!r}") for name, x in values.items()}
        for graph, name in zip(self.graphs, self.names, strict=True):
            _check(graph, name)

    def __len__(self) -> int:
        return len(self.graphs)

    def column(self, name: str) -> np.ndarray | None:
        """One value of every graph; a column of one number is flat, so that splits are stratified by a single label."""
        found = self.values.get(name)
        return found[:, 0] if found is not None and found.shape[1:] == (1,) else found

    def where(self, i: int) -> str:
        return self.names[i]

    def take(self, indices: np.ndarray) -> GraphList:
        values = {name: x[indices] for name, x in self.values.items()}
        return GraphList([self.graphs[i] for i in indices], values, [self.names[i] for i in indices], self.note)

    def sizes(self) -> tuple[np.ndarray, np.ndarray]:
        """The numbers of nodes and of edges of each graph."""
        return np.array([len(g.nodes) for g in self.graphs]), np.array([len(g.edges) for g in self.graphs])


class RowShape(NamedTuple):
    """Nodes, edges and places for graphs of a row."""

    nodes: int
    edges: int
    places: int


class GraphRows(Columns):
    """Rows of packed graphs: see `pack`.

    Attributes:
      graphs: the number of graphs.
      note: the share of padding among nodes and edges, for the run's record.
    """

    def __init__(self, columns: Mapping[str, np.ndarray], names: Sequence[Sequence[str]], note: str = ""):
        super().__init__(columns)
        self.names, self.note, self.graphs = names, note, int(columns["mask"].sum())

    def where(self, i: int) -> str:
        return f"{self.names[i][0]} to {self.names[i][-1]}" if len(self.names[i]) > 1 else self.names[i][0]

    def take(self, indices: np.ndarray) -> GraphRows:
        return GraphRows({n: x[indices] for n, x in self.arrays().items()}, [self.names[i] for i in indices], self.note)


@dataclasses.dataclass(frozen=True, kw_only=True)
class GraphData(Data):
    """The base of data sets of many graphs; `read` returns `GraphList`s, and `load` packs them.

    Examples are rows: `nodes` [nodes, features], `edges` int32 [edges, 2], `edge_features` [edges, features], `graph`
    int32 [nodes], `mask` bool [places], and each value of the graphs, [places, ...], with 0 where there is no graph.
    `validation` and `train_examples` count graphs, and `batch_size` rows.

    Attributes:
      row_nodes: nodes of a row; more if a graph has more.
    """

    row_nodes: int = 128

    def lists(self) -> Splits:
        """The splits as `GraphList`s, before they are packed."""
        return super().load()

    def load(self) -> Splits:
        splits = self.lists()
        there = [split for split in splits if split is not None]
        assigned = shape_of(there, self.row_nodes)
        return Splits(*(split and pack(split, assigned) for split in splits))

    def check(self) -> None:
        super().check()
        require(self.row_nodes >= 1, f"row_nodes={self.row_nodes}: expected at least 1")


def shape_of(lists: Sequence[GraphList], row_nodes: int) -> RowShape:
    """The shape of rows that holds every graph of some lists, with few edges that are padding."""
    nodes, edges = (np.concatenate(x) for x in zip(*(one.sizes() for one in lists), strict=True))
    most = max(row_nodes, int(nodes.max()))
    best = None
    for spare in (1.0, 1.02, 1.05, 1.1):
        room = max(int(np.ceil(most * edges.sum() / nodes.sum() * spare)), int(edges.max()), 1)
        rows = [assign_rows(*one.sizes(), most, room) for one in lists]
        cost = sum(int(row.max()) + 1 for row in rows) * (most + room)
        places = max(int(np.bincount(row).max()) for row in rows)
        if best is None or cost < best[0]:
            best = cost, RowShape(most, room, places)
    return best[1]


def assign_rows(nodes: np.ndarray, edges: np.ndarray, most_nodes: int, most_edges: int) -> np.ndarray:
    """The row of each graph, int [graph]: the fullest row in which there is room, in a random but fixed order.

    >>> assign_rows(np.array([3, 2, 1]), np.array([4, 2, 0]), most_nodes=4, most_edges=8).tolist()
    [0, 1, 0]
    """
    row = np.zeros(len(nodes), int)
    left = np.zeros((len(nodes), 2), int)
    used = 0
    for i in np.random.default_rng(0).permutation(len(nodes)):
        size = nodes[i], edges[i]
        fits = np.flatnonzero((left[:used] >= size).all(1))
        if len(fits):
            row[i] = fits[left[fits, 0].argmin()]
        else:
            row[i], left[used], used = used, (most_nodes, most_edges), used + 1
        left[row[i]] -= size
    return row


def pack(graphs: GraphList, shape: RowShape) -> GraphRows:
    """Packs graphs into rows of one shape.

    Raises:
      RequestError: a graph does not fit a row.
    """
    nodes, edges = graphs.sizes()
    fits = (nodes <= shape.nodes) & (edges <= shape.edges)
    if not fits.all():
        i = int(fits.argmin())
        raise_to = f"{graphs.where(i)}: {nodes[i]} nodes and {edges[i]} edges; expected at most {shape.nodes} and"
        require(False, f"{raise_to} {shape.edges}")
    row = assign_rows(nodes, edges, shape.nodes, shape.edges)
    return filled_rows(graphs, row, shape)


def one_per_row(graphs: GraphList, shape: RowShape) -> GraphRows:
    """A row for each graph, in order, for prediction."""
    return filled_rows(graphs, np.arange(len(graphs)), shape)


def filled_rows(graphs: GraphList, row: np.ndarray, shape: RowShape, count: int | None = None) -> GraphRows:
    """Puts each graph into the row that `row` int [graph] names; `count` rows in all, None for as many as are named."""
    count, first = int(row.max()) + 1 if count is None else count, graphs.graphs[0]
    columns = {
        "nodes": np.zeros((count, shape.nodes, first.nodes.shape[1]), first.nodes.dtype),
        "edges": np.full((count, shape.edges, 2), shape.nodes, np.int32),
        "graph": np.full((count, shape.nodes), shape.places, np.int32),
        "mask": np.zeros((count, shape.places), bool),
    }
    if first.edge_features is not None:
        features = first.edge_features
        columns["edge_features"] = np.zeros((count, shape.edges, features.shape[1]), features.dtype)
    columns |= {name: np.zeros((count, shape.places, *x.shape[1:]), x.dtype) for name, x in graphs.values.items()}
    at = np.zeros((count, 3), int)  # nodes, edges and graphs so far
    names: list[list[str]] = [[] for _ in range(count)]
    for i, (graph, r) in enumerate(zip(graphs.graphs, row, strict=True)):
        n, m, g = at[r]
        at[r] += len(graph.nodes), len(graph.edges), 1
        columns["nodes"][r, n : at[r, 0]] = graph.nodes
        columns["graph"][r, n : at[r, 0]] = g
        columns["edges"][r, m : at[r, 1]] = graph.edges + n
        if first.edge_features is not None:
            columns["edge_features"][r, m : at[r, 1]] = graph.edge_features
        columns["mask"][r, g] = True
        for name, x in graphs.values.items():
            columns[name][r, g] = x[i]
        names[r].append(graphs.where(i))
    padded = 1 - at[:, :2].sum(0) / (count * np.array(shape[:2]))
    said = f"{len(graphs):,} graphs in rows of {shape.nodes} nodes and {shape.edges} edges, of which "
    said += f"{padded[0]:.1%} and {padded[1]:.1%} are padding"
    return GraphRows(columns, names, "; ".join(filter(None, (graphs.note, said))))


def _check(graph: Graph, name: str) -> None:
    count = len(graph.nodes)
    require(count > 0, f"{name}: an empty graph; expected at least one node")
    edges = np.asarray(graph.edges)
    require(edges.ndim == 2 and edges.shape[1] == 2, f"{name}: edges {list(edges.shape)}; expected [edges, 2]")
    outside = (edges < 0) | (edges >= count)
    if outside.any():
        at = int(outside.any(1).argmax())
        require(False, f"{name}: edge {at} is {edges[at].tolist()}; expected nodes from 0 to {count - 1}")
