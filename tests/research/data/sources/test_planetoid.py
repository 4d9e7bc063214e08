"""Citation networks: the shared graph, its splits, and files that are refused."""

import numpy as np
import pytest

from research.data.sources.planetoid import Planetoid
from research.errors import RequestError


def arrays(**changes):
    made = {
        "x_indptr": np.array([0, 2, 2, 3, 4]),
        "x_indices": np.array([0, 2, 1, 2]),
        "x_data": np.array([1.0, 3.0, 1.0, 2.0]),
        "x_shape": np.array([4, 3]),
        "edges": np.array([[0, 1], [1, 2], [3, 3]]),
        "labels": np.array([0, 1, -1, 1]),
        "split": np.array([1, 2, 0, 3]),
    }
    return made | changes


def saved(tmp_path, **changes):
    np.savez(tmp_path / "graph.npz", **arrays(**changes))
    return Planetoid(path=str(tmp_path / "graph.npz"))


def test_the_graph_is_shared_and_nodes_are_examples(tmp_path):
    splits = saved(tmp_path).load()
    shared = splits.train.shared()
    np.testing.assert_allclose(shared["nodes"], [[0.25, 0.75], [0, 0], [1, 0], [1, 0]])
    assert shared["columns"].tolist() == [[0, 2], [3, 3], [1, 3], [2, 3]]
    assert sorted(map(tuple, shared["edges"].tolist())) == [(0, 1), (1, 0), (1, 2), (2, 1)]
    assert [(s[0]["node"], s[0]["label"]) for s in splits] == [(0, 0), (1, 1), (3, 1)]


def test_loops_and_raw_counts_are_kept_if_asked_for(tmp_path):
    data = saved(tmp_path)
    shared = Planetoid(path=data.path, loops=True, normalize=False).load().train.shared()
    assert [3, 3] in shared["edges"].tolist() and len(shared["edges"]) == 5
    np.testing.assert_allclose(shared["nodes"][0], [1, 3])


def test_numbers_of_nodes_are_encoded_with_the_graph(tmp_path):
    data = saved(tmp_path)
    columns = data.encode([2, 0])
    assert columns["node"].tolist() == [2, 0] and set(columns["shared"]) == {"nodes", "columns", "edges"}
    with pytest.raises(RequestError, match=r"node \[4\]: expected 0 to 3"):
        data.encode([4])


@pytest.mark.parametrize(
    ("said", "changes"),
    [
        ("edge 1 is [1, 4]; expected nodes from 0 to 3", {"edges": np.array([[0, 1], [1, 4]])}),
        ("no labelled node in the validation split", {"split": np.array([1, 1, 0, 3])}),
        ("3 rows of features for 5 nodes", {"x_shape": np.array([5, 3]), "x_indptr": np.array([0, 2, 2, 4])}),
    ],
)
def test_files_that_do_not_fit_are_one_line(tmp_path, said, changes):
    with pytest.raises(RequestError) as error:
        saved(tmp_path, **changes).load()
    assert said in str(error.value) and "\n" not in str(error.value)


def test_files_that_are_no_graph_are_refused(tmp_path):
    np.savez(tmp_path / "other.npz", edges=np.zeros((1, 2), int))
    with pytest.raises(RequestError, match="no array x_indptr, x_indices"):
        Planetoid(path=str(tmp_path / "other.npz")).load()
    with pytest.raises(RequestError, match="does not exist"):
        Planetoid(path=str(tmp_path / "none.npz")).load()


def test_cora_is_as_published(data_root):
    splits = Planetoid(path=str(data_root / "planetoid" / "cora.npz")).load()
    assert [len(s) for s in splits] == [140, 500, 1000]
    shared = splits.train.shared()
    assert len(shared["nodes"]) == 2708 and len(shared["edges"]) == 2 * 5278
    assert np.bincount(splits.train.arrays()["label"]).tolist() == [20] * 7
