"""Edge lists with a table of nodes: the shared graph, splits, and tables that are refused."""

import numpy as np
import pytest

from research.data.sources.edge_list import EdgeList
from research.errors import RequestError

NODES = ["a,red,1,0.5", "b,blue,2,1.5", "c,,3,2.5", "d,red,4,3.5", "e,blue,5,4.5"]
EDGES = ["a,b", "b,c", "b,a", "d,d"]


def saved(tmp_path, nodes=NODES, edges=EDGES, header="id,label,x,y", **changes):
    (tmp_path / "nodes.csv").write_text("\n".join([header, *nodes]) + "\n")
    (tmp_path / "edges.csv").write_text("\n".join(["source,target", *edges]) + "\n")
    paths = {"nodes": str(tmp_path / "nodes.csv"), "edges": str(tmp_path / "edges.csv")}
    return EdgeList(**paths, **{"test": 1, "validation": 1, **changes})


@pytest.mark.usefixtures("nothing_misspelled")
def test_nodes_and_edges_are_those_of_the_tables(tmp_path):
    data = saved(tmp_path)
    splits = data.load()
    shared = splits.train.shared()
    np.testing.assert_array_equal(shared["nodes"], [[i + 1, i + 0.5] for i in range(5)])
    assert shared["edges"].tolist() == [[1, 0], [0, 1], [2, 1], [1, 2]]  # each once, by target
    found = {int(x["node"]): int(x["label"]) for s in splits for x in (s[i] for i in range(len(s)))}
    assert found == {0: 1, 1: 0, 3: 1, 4: 0}
    assert data.fit(splits.train).class_names == ("blue", "red")
    assert data.encode(["e", "a"])["node"].tolist() == [4, 0]


def test_directions_and_loops_are_kept_if_asked_for(tmp_path):
    shared = saved(tmp_path, directed=True, loops=True, features=("y",)).load().train.shared()
    assert shared["edges"].tolist() == [[1, 0], [0, 1], [1, 2], [3, 3]] and shared["nodes"].shape == (5, 1)


@pytest.mark.parametrize(
    ("said", "changes"),
    [
        ("edges.csv, row 2: no node has id 'z', the target of the edge", {"edges": ["a,b", "b,z"]}),
        ("row 2: a second node with id 'a'", {"nodes": ["a,red,1,2", "a,red,1,2"]}),
        ("column 'x' of", {"nodes": ["a,red,soft,2", *NODES[1:]]}),
        ("no node has a label", {"nodes": [f"{name},,1,2" for name in "abcde"]}),
        ("label 'red' is not in class_names", {"class_names": ("blue", "green")}),
        ("no column 'topic'", {"label": "topic"}),
    ],
)
def test_tables_that_do_not_fit_are_one_line(tmp_path, said, changes):
    with pytest.raises(RequestError) as error:
        saved(tmp_path, **changes).load()
    assert said in str(error.value) and "\n" not in str(error.value)


def test_unknown_ids_are_named(tmp_path):
    with pytest.raises(RequestError, match="node 'f'"):
        saved(tmp_path).encode(["f"])
