"""Tasks on graphs: losses on every layout, missing labels, and what is refused."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys
from training_loops import stopping_changes_nothing

from research.data.feeds import make_feeds
from research.data.source import Columns
from research.data.sources.graph_pairs import GraphPairs
from research.data.spec import Data, Splits
from research.errors import RequestError
from research.inference import Predictor
from research.models.gnn import GCN, GIN
from research.optimizers import SGD
from research.parallel.spec import Parallel
from research.tasks.graphs import GraphLabels, GraphRegression, LinkPrediction, NodeClassification
from research.training.evaluate import evaluate

STEPS = 4


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ring(Data):
    """A ring of 40 nodes with random features; classes are halves of it."""

    links: bool = False

    def read(self):
        generator = np.random.default_rng(0)
        ring = np.stack([np.arange(40), (np.arange(40) + 1) % 40], 1)
        edges = np.concatenate([ring, ring[:, ::-1]])
        shared = {"nodes": generator.normal(size=(40, 5)), "edges": edges[np.argsort(edges[:, 1], kind="stable")]}
        if self.links:
            pairs = np.concatenate([ring[:8], (ring[:8] + [0, 9]) % 40])
            held = Columns({"pair": pairs, "label": np.repeat([1, 0], 8)}, shared)
            return Splits(Columns({"pair": ring[8:], "label": np.ones(32, int)}, shared), held, held)
        parts = np.array_split(generator.permutation(40), [24, 32])
        return Splits(*(Columns({"node": own, "label": own // 20}, shared) for own in parts))


def rows(**changes):
    base = toys.experiment(
        model=GIN(widths=(8, 8), classes=1, output="graphs", readout="sum", norm="batch"),
        task=GraphLabels(),
        data=GraphPairs(pair="share", examples=120, test_examples=40, least=3, most=4, row_nodes=14),
        optimizer=SGD(learning_rate=0.02),
        steps=10,
        batch_size=16,
    )
    return dataclasses.replace(base, **changes)


def whole(**changes):
    base = toys.experiment(
        model=GCN(widths=(8,), classes=2),
        task=NodeClassification(classes=2),
        data=Ring(),
        optimizer=SGD(learning_rate=0.5),
        steps=10,
        batch_size=16,
    )
    return dataclasses.replace(base, **changes)


def sampled(**changes):
    return whole(task=NodeClassification(classes=2, fan_out=(2, 1)), **changes)


def links(**changes):
    model = GCN(widths=(8,), classes=1, output="edges")
    return whole(model=model, task=LinkPrediction(), data=Ring(links=True), **changes)


MADE = {"rows": rows, "whole": whole, "sampled": sampled, "links": links}


@pytest.fixture(scope="module", params=MADE)
def made(request):
    """(how an experiment is made, its splits, its feeds, the losses of the first steps)."""
    make = MADE[request.param]
    splits = make().data.load()
    feeds = make_feeds(splits, make().data)
    return make, splits, feeds, toys.first_steps(make().fit(splits), feeds, STEPS)


@pytest.mark.parametrize(
    "changes",
    [
        {"parallel": Parallel(mesh=(("data", 8),))},
        {"parallel": Parallel(strategy="pmap", mesh=(("data", 8),))},
        pytest.param({"accumulation": 4}, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_losses_do_not_depend_on_the_layout(made, changes):
    make, splits, feeds, reference = made
    if "accumulation" in changes and make is rows:  # batch norm normalises each micro-batch by itself
        changes = {**changes, "model": make().model.clone(norm="none", inner_norm=False)}
        reference = toys.first_steps(make(model=changes["model"]).fit(splits), feeds, STEPS)
    losses = toys.first_steps(make(**changes).fit(splits), feeds, STEPS).losses
    np.testing.assert_allclose(losses.reshape(STEPS), reference.losses.reshape(STEPS), rtol=2e-5)
    assert len(set(losses.reshape(STEPS).round(6).tolist())) == STEPS


def test_stacked_trials_learn_as_each_does_alone(made):
    make, splits, feeds, reference = made
    losses = toys.first_steps(make().fit(splits), feeds, STEPS, trials=2).losses
    np.testing.assert_allclose(losses[:, 0], reference.losses.reshape(STEPS), rtol=1e-5)
    assert abs(losses[:, 0] - losses[:, 1]).max() > 1e-4


def test_metrics_do_not_depend_on_the_batches(made):
    make, splits, feeds, (_, programs, state, *_) = made
    experiment = make().fit(splits)
    scores = [
        evaluate(programs, state, feeds.evaluation["validation"], dataclasses.replace(experiment, eval_batch_size=n))[0]
        for n in (3, 64)
    ]
    assert scores[0] == pytest.approx(scores[1], rel=1e-5)


@pytest.mark.slow
def test_a_stopped_run_ends_as_if_it_had_not(made, tmp_path):
    make, splits, feeds, _ = made
    stopping_changes_nothing(tmp_path, make(steps=8, log_every=2).fit(splits), feeds, stacked=True)


def test_predictions_are_of_nodes_and_of_graphs():
    experiment = whole()
    splits = experiment.data.load()
    fitted, source = experiment.fit(splits), splits.test
    shared = source.shared()
    variables = experiment.model.init(jax.random.key(0), **{k: jnp.asarray(x) for k, x in shared.items()})
    found = Predictor(fitted, variables).predict({"node": np.array([3, 1]), "shared": shared})
    assert found["label"].shape == (2,) and found["probability"].shape == (2, 2)


# -- losses and metrics by NumPy -------------------------------------------------------------------------------------

MASK = np.array([[True, True, False], [True, False, False]])


def test_missing_labels_and_places_have_no_weight():
    label = np.array([[[1, -1], [0, 1], [1, 1]], [[-1, 0], [1, 1], [0, 0]]])
    logit = np.random.default_rng(0).normal(size=(2, 3, 2)).astype(np.float32)
    batch = {"label": label, "mask": MASK, "weight": np.ones(2, np.float32), "nodes": np.zeros((2, 4, 1))}
    total, weight = GraphLabels(labels=2).loss(lambda **_: jnp.asarray(logit), batch)["loss"]
    kept = (label >= 0) & MASK[..., None]
    losses = np.log1p(np.exp(np.where(label == 1, -logit, logit)))[kept]
    assert weight == kept.sum() == 4
    np.testing.assert_allclose(total, losses.sum(), rtol=1e-5)


def test_a_label_of_one_class_is_left_out_of_the_means():
    label = np.array([[[0, 1], [1, 1], [1, 1]]])
    logit = np.array([[[0.0, 1.0], [1.0, 0.0], [-1.0, 0.0]]])
    outputs = {"label": label, "logit": logit, "mask": np.ones((1, 3), bool)}
    found = GraphLabels(labels=2, names=("one", "two")).finalize(outputs)
    assert found["roc_auc"] == found["roc_auc/one"] == 0.5 and found["labels_scored"] == 1
    assert "roc_auc/two" not in found


def test_targets_are_standardised_by_the_training_graphs():
    target = np.array([[[1.0], [3.0], [99.0]], [[5.0], [99.0], [99.0]]], np.float32)
    source = Columns({"nodes": np.zeros((2, 4, 1)), "target": target, "mask": MASK})
    task = GraphRegression().fit(source)
    assert (task.shift, task.scale) == (3.0, pytest.approx(np.std([1, 3, 5])))
    batch = source.arrays() | {"weight": np.ones(2, np.float32)}
    total, weight = task.loss(lambda **_: jnp.zeros((2, 3, 1)), batch)["loss"]
    assert weight == 3 and float(total) == pytest.approx(3.0, rel=1e-5)
    outputs = {k: np.asarray(x) for k, x in task.eval_outputs(lambda **_: jnp.zeros((2, 3, 1)), batch).items()}
    assert task.finalize(outputs)["mae"] == pytest.approx(4 / 3)


# -- what is refused ---------------------------------------------------------------------------------------------------


def refused(said, task, source, split="validation"):
    with pytest.raises(RequestError) as error:
        task.check_examples(source, split)
    assert said in str(error.value) and "\n" not in str(error.value)


def test_wrong_data_are_one_line():
    nodes = {"nodes": np.zeros((2, 4, 1)), "mask": MASK}
    one = np.ones((2, 3, 1), int)
    refused("no label has both classes", GraphLabels(), Columns(nodes | {"label": one}))
    refused(
        "task.labels=2: the validation split has [1] labels", GraphLabels(labels=2), Columns(nodes | {"label": one})
    )
    refused("a label other than 0, 1 and -1", GraphLabels(), Columns(nodes | {"label": 2 * one}))
    graph = {"nodes": np.zeros((3, 2)), "edges": np.zeros((0, 2), int)}
    columns = {"node": np.array([0, 3]), "label": np.array([0, 1])}
    refused("node [3]; expected 0 to 2", NodeClassification(classes=2), Columns(columns, graph))
    refused("no shared column 'nodes'", NodeClassification(classes=2), Columns(columns))
    columns["node"] = np.array([0, 1])
    task = NodeClassification(classes=2, fan_out=(2,))
    for said, edges in (
        ("expected edges in the order of their targets", [[0, 2], [2, 1]]),
        ("an edge from a node to itself; expected none (data.loops=false)", [[1, 1]]),
    ):
        refused(said, task, Columns(columns, graph | {"edges": np.array(edges)}))
    weighted = graph | {"edges": np.array([[0, 1]]), "edge_weights": np.ones(1)}
    refused("expected edges without features and weights", task, Columns(columns, weighted))
    with pytest.raises(RequestError, match=r"fan_out=\(0,\): expected numbers of neighbours, 1 or more"):
        NodeClassification(classes=2, fan_out=(0,)).check()
    pairs = {"pair": np.zeros((2, 2), int), "label": np.array([1, 1])}
    refused("expected pairs with and without an edge", LinkPrediction(), Columns(pairs, graph))
    refused("a pair without an edge", LinkPrediction(), Columns(pairs | {"label": np.array([0, 1])}, graph), "train")
    with pytest.raises(RequestError, match="task.labels=1: the model gives 3 outputs"):
        GraphLabels().loss(lambda **_: jnp.zeros((2, 3, 3)), {"nodes": 0, "label": one, "mask": MASK})
