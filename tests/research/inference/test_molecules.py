"""Importance of atoms and bonds: exact for a linear model, whichever method; what is refused."""

import jax
import numpy as np
import pytest
import toys

from research.data.sources.molecules import Molecules
from research.errors import RequestError
from research.inference import Predictor
from research.inference.molecules import importance
from research.models.gnn import GIN, GraphSAGE
from research.tasks.graphs import GraphRegression

pytest.importorskip("rdkit")


def predictor(model):
    data = Molecules(path="not_read.csv")
    experiment = toys.experiment(model=model, task=GraphRegression(shift=1.0, scale=2.0), data=data)
    columns = data.encode(["CCO"])
    names = ("nodes", "edges", "edge_features", "graph", "mask")
    return Predictor(experiment, model.init(jax.random.key(0), **{name: columns[name] for name in names}))


@pytest.fixture(scope="module")
def linear():
    """The sum of a linear function of each atom and its neighbours."""
    return predictor(GraphSAGE(widths=(4,), classes=1, output="graphs", activation="identity", readout="sum"))


def test_predictions_are_one_for_each_molecule(linear):
    found = linear.predict(["CCO", "C", "c1ccccc1"])["target"]
    alone = [linear.predict([smiles])["target"][0] for smiles in ("CCO", "C", "c1ccccc1")]
    assert found.shape == (3, 1)
    np.testing.assert_allclose(found, alone, rtol=1e-4)


def test_parts_of_a_linear_model_add_up(linear):
    by_gradient, by_occlusion = (importance(linear, "CCO", method=m) for m in ("gradient", "occlusion"))
    np.testing.assert_allclose(by_gradient.atoms, by_occlusion.atoms, atol=1e-4)
    bias = linear.variables["params"]["head"]["bias"]
    output = (linear.predict(["CCO"])["target"][0, 0] - 1.0) / 2.0
    np.testing.assert_allclose(by_gradient.atoms.sum(), output - float(bias[0]), atol=1e-4)  # its inner bias is 0
    assert not by_gradient.bonds.any()
    assert by_gradient.draw(200).size == (200, 200)


def test_bonds_count_where_the_model_uses_them():
    model = GIN(widths=(4,), classes=1, output="graphs", edge_features=True, inner_norm=False)
    one = predictor(model)
    for method in ("gradient", "occlusion"):
        found = importance(one, "CC=O", method=method)
        assert found.atoms.shape == (3,) and found.bonds.shape == (2,) and found.bonds.any()
    assert importance(one, "C").bonds.shape == (0,)


def test_what_is_refused(linear):
    with pytest.raises(RequestError, match="output=1: expected 0 to 0"):
        importance(linear, "C", output=1)
    with pytest.raises(RequestError, match="'C1' is no SMILES"):
        importance(linear, "C1")
    with pytest.raises(RequestError, match="method"):
        importance(linear, "C", method="saliency")
