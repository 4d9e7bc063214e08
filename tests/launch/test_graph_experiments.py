"""Every variant of the graph experiments passes its checks and takes a batch; one trains and predicts."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from command_line import launch, quickly, read

from research.config.override import override
from research.data.graphs import GraphList, pack, shape_of
from research.data.molecule_features import molecule_graph, parse
from research.data.source import Columns
from research.data.sources.graph_pairs import GraphPairs
from research.data.sources.molecules import Molecules
from research.data.sources.planetoid import Planetoid
from research.data.spec import Splits
from research.inference import load
from research.sweep import trials
from research.training.step import make_eval_step, make_init

SWEPT = ("graph_expressiveness", "cora_gnn", "esol_gnn", "tox21_gnn")
NAMES = (*SWEPT, "citeseer_gnn", "lipo_gnn", "bace_gnn", "bbbp_gnn")  # which have the same variants
SMILES = ("CCO", "c1ccccc1C", "C", "CC(=O)N")


@pytest.fixture
def made_up(monkeypatch):
    """Makes data sets return a few graphs in their format."""

    def molecules(data):
        graphs = GraphList([molecule_graph(parse(s)) for s in SMILES], {}, SMILES)
        kind = {"number": ("target", np.float32), "class": ("label", np.int32)}[data.target_type]
        graphs.values[kind[0]] = np.eye(4, len(data.targets), dtype=kind[1])
        rows = pack(graphs, shape_of([graphs], 16))
        return Splits(rows, rows, rows)

    def network(data):
        shared = {"nodes": np.ones((9, 2)), "columns": np.zeros((9, 2), int), "edges": np.array([[0, 1], [1, 0]])}
        nodes = Columns({"node": np.arange(9), "label": np.arange(9) % 6}, shared)
        return Splits(nodes, nodes, nodes)

    monkeypatch.setattr(Molecules, "load", molecules)
    monkeypatch.setattr(Planetoid, "load", network)


@pytest.mark.parametrize("name", NAMES)
def test_every_variant_fits_together(name, made_up):
    if "gnn" in name and name not in ("cora_gnn", "citeseer_gnn"):
        pytest.importorskip("rdkit")
    module = importlib.import_module(f"experiments.{name}")
    small = {"batch_size": 1, "steps": 200}
    if name == "graph_expressiveness":
        small |= {"data.examples": 40, "data.test_examples": 8}
    sweeps = module.sweeps().values() if name in SWEPT else [None]
    for sweep in sweeps:
        for trial in trials(override(module.experiment(), small), sweep):
            experiment = trial.experiment
            experiment.check()
            splits = experiment.data.load()
            fitted = experiment.fit(splits)
            source = splits.train
            batch = {key: jnp.asarray(x[:1]) for key, x in source.arrays().items()} | {"weight": jnp.ones(1)}
            if not isinstance(experiment.data, GraphPairs | Molecules):
                batch["shared"] = {key: jnp.asarray(x) for key, x in source.shared().items()}

            def scores(batch, fitted=fitted):
                state = make_init(fitted)(jax.random.key(0), batch, {})
                return make_eval_step(fitted, averaged=False)(state, batch)

            assert "weight" in jax.eval_shape(scores, batch)


@pytest.mark.slow
def test_the_embedded_default_trains_and_predicts(tmp_path):
    with quickly(tmp_path / "compiled"):
        out = tmp_path / "run"
        launch("run", "graph_expressiveness", "--set", "steps=60", "--out", str(out))
    result = read(out / "trials" / "base-s0" / "result.json")
    assert result["status"] == "finished" and result["metrics"]["test/accuracy"] > 0.9
    data = GraphPairs(pair="degree", examples=20, test_examples=20)
    columns = data.load().test.arrays()
    found = load(out).predict({key: x for key, x in columns.items() if key != "label"})
    assert found["probability"].shape == (*columns["mask"].shape, 1)
