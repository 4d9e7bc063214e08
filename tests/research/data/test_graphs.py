"""Packed rows of graphs: every graph is there once, whole, and what is refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from research.data.graphs import Graph, GraphList, RowShape, assign_rows, pack, shape_of
from research.data.sources.graph_pairs import GraphPairs
from research.errors import RequestError


def graphs_of(sizes):
    generator = np.random.default_rng(0)
    graphs = []
    for i, (n, m) in enumerate(sizes):
        graphs.append(Graph(np.full((n, 2), i, np.float32), generator.integers(0, n, (m, 2)), np.full((m, 1), i)))
    return GraphList(
        graphs, {"target": np.arange(len(sizes), dtype=np.float32)}, [f"graph {i}" for i in range(len(sizes))]
    )


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 20)), min_size=1, max_size=30), st.integers(1, 16))
def test_every_graph_is_in_a_row_once_and_whole(sizes, row_nodes):
    graphs = graphs_of(sizes)
    shape = shape_of([graphs], row_nodes)
    rows = pack(graphs, shape)
    columns = rows.arrays()
    assert rows.graphs == len(graphs) == columns["mask"].sum()
    seen = []
    for r in range(len(rows)):
        for place in np.flatnonzero(columns["mask"][r]):
            i = int(columns["target"][r, place])
            at = np.flatnonzero(columns["graph"][r] == place)
            np.testing.assert_array_equal(columns["nodes"][r, at], graphs.graphs[i].nodes)
            inside = np.isin(columns["edges"][r, :, 0], at)
            np.testing.assert_array_equal(columns["edges"][r, inside] - at[0], graphs.graphs[i].edges)
            np.testing.assert_array_equal(columns["edge_features"][r, inside], graphs.graphs[i].edge_features)
            seen.append(i)
        padding = columns["edges"][r, columns["edges"][r, :, 0] == shape.nodes]
        assert (padding == shape.nodes).all()
    assert sorted(seen) == list(range(len(graphs)))


def test_rows_of_like_molecules_are_nearly_full():
    generator = np.random.default_rng(0)
    nodes = np.maximum(generator.normal(27, 7, 4000).astype(int), 3)
    row = assign_rows(nodes, 2 * nodes, 128, 262)
    assert 1 - nodes.sum() / (128 * (row.max() + 1)) < 0.05


def test_a_graph_that_fits_no_row_is_named():
    with pytest.raises(RequestError, match="graph 1: 9 nodes and 3 edges; expected at most 8 and 20"):
        pack(graphs_of([(2, 2), (9, 3)]), RowShape(8, 20, 4))


@pytest.mark.parametrize(
    ("said", "graph"),
    [
        ("g: an empty graph", Graph(np.zeros((0, 2)), np.zeros((0, 2), int))),
        (r"g: edge 1 is \[0, 3\]; expected nodes from 0 to 2", Graph(np.zeros((3, 2)), np.array([[0, 1], [0, 3]]))),
        (r"g: edges \[2\]; expected \[edges, 2\]", Graph(np.zeros((3, 2)), np.array([0, 1]))),
    ],
)
def test_graphs_that_are_none_are_refused(said, graph):
    with pytest.raises(RequestError, match=said):
        GraphList([graph], {}, ["g"])


def test_splits_count_graphs_and_batches_rows():
    splits = GraphPairs(pair="degree", examples=40, test_examples=20, validation=10, row_nodes=24).load()
    assert (splits.train.graphs, splits.validation.graphs, splits.test.graphs) == (30, 10, 20)
    assert {x.shape[1:] for s in splits for name, x in s.arrays().items() if name == "nodes"} == {(24, 4)}
    assert "padding" in splits.train.note
    with pytest.raises(RequestError, match="row_nodes=0"):
        GraphPairs(row_nodes=0).check()


@pytest.mark.parametrize("pair", ["degree", "share", "presence", "cycles"])
def test_the_kinds_of_a_pair_differ_in_what_is_said(pair):
    read = GraphPairs(pair=pair, examples=40, test_examples=20).read().train
    for graph, label in zip(read.graphs, read.values["label"][:, 0], strict=True):
        n, edges = len(graph.nodes), {tuple(edge) for edge in graph.edges.tolist()}
        assert all((b, a) in edges for a, b in edges) and len(edges) == len(graph.edges)
        degree = np.bincount(graph.edges[:, 1], minlength=n)
        colours = graph.nodes.sum(0)
        if pair == "degree":
            assert (degree == (n - 1 if label else 2)).all()
        elif pair == "cycles":
            assert (degree == 2).all() and n % 2 == 0
            reached = {0}
            for _ in range(n):
                reached |= {b for a, b in edges if a in reached}
            assert len(reached) == (n // 2 if label else n)
        elif pair == "share":
            assert colours[0] == (2 if label else 0.5) * colours[1]
        else:
            assert colours[1 + label] > 0 and colours[2 - label] == 0


def test_splits_are_stratified_by_a_single_label():
    splits = GraphPairs(pair="cycles", examples=40, test_examples=4, validation=10).load()
    columns = splits.validation.arrays()
    assert np.bincount(columns["label"][columns["mask"]][:, 0]).tolist() == [5, 5]
