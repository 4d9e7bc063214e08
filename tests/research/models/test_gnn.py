"""Graph networks: PyTorch Geometric's outputs and gradients, and the same results for any padding and packing."""

import graph_networks
import jax
import jax.numpy as jnp
import numpy as np
import parity
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from research.data.graphs import Graph, GraphList, RowShape, filled_rows
from research.errors import RequestError
from research.models.gnn import GAT, GCN, GIN, GraphSAGE
from research.models.mpnn import MPNN
from research.pretrained import mapping
from research.pretrained.gnn import gat, gin


@pytest.fixture(scope="module", params=("gcn", "gat", "gin", "mpnn"))
def ref(request):
    return request.param, *graph_networks.load(request.param)


def test_outputs_and_gradients_are_those_of_the_reference(ref):
    name, arrays, model, key_map, variables, inputs = ref
    key = {"gin": "graph_logits", "mpnn": "graph_out"}.get(name, "logits")
    output, seen = jax.jit(lambda v: model.apply(v, **inputs, mutable=["intermediates"]))(variables)
    np.testing.assert_allclose(output, arrays[f"output/{key}"], atol=1e-5)
    seen = seen["intermediates"]
    if name == "gat":
        loop = np.equal(*arrays["input/edge_index"])
        attention = np.delete(seen["layer0"]["attention"][0][0], np.flatnonzero(loop), 0)
        np.testing.assert_allclose(attention, arrays["output/conv1_attention"], atol=1e-5)
    if name == "gin":
        np.testing.assert_allclose(seen["nodes1"][0][0], arrays["output/node_features"], atol=1e-5)
    if name == "mpnn":
        np.testing.assert_allclose(seen["nodes"][0][0], arrays["output/node_features"], atol=1e-5)
        np.testing.assert_allclose(seen["read"][0][0], arrays["output/set2set"], atol=1e-5)
    loss = lambda v: jnp.square(model.apply(v, **inputs)).mean()  # noqa: E731
    graph_networks.check_gradients(arrays, key_map, variables, loss)


def test_the_published_weights_come_back_bit_for_bit(ref):
    _, arrays, _, key_map, variables, _ = ref
    published = parity.under(arrays, "param/")
    back = mapping.to_theirs(key_map, variables)
    assert back.keys() == published.keys()
    for name, x in published.items():
        np.testing.assert_array_equal(back[name], x)


def test_weighted_edges_are_those_of_the_reference():
    arrays, model, _, variables, inputs = graph_networks.load("gcn")
    output = model.apply(variables, **inputs, edge_weights=jnp.asarray(arrays["input/edge_weight"]))
    np.testing.assert_allclose(output, arrays["output/logits_weighted"], atol=1e-5)


def test_batch_norm_in_training_is_that_of_the_reference():
    arrays, model, _, variables, inputs = graph_networks.load("gin")
    output, changed = model.apply(variables, **inputs, train=True, mutable=["batch_stats", "intermediates"])
    np.testing.assert_allclose(output, arrays["train/output/graph_logits"], atol=2e-5)
    seen = changed["intermediates"]["nodes1"][0][0]
    np.testing.assert_allclose(seen, arrays["train/output/node_features"], atol=2e-5)
    nodes = len(arrays["input/x"])
    for i in (0, 1):
        ours, key = changed["batch_stats"][f"layer{i}"]["norm"], f"train/param/convs.{i}.nn.1.running"
        np.testing.assert_allclose(ours["mean"], arrays[f"{key}_mean"], atol=1e-5)
        before = 0.9 * variables["batch_stats"][f"layer{i}"]["norm"]["var"]
        unbiased = before + (ours["var"] - before) * nodes / (nodes - 1)
        np.testing.assert_allclose(unbiased, arrays[f"{key}_var"], rtol=1e-4)


# -- padding and packing ---------------------------------------------------------------------------------------------

GRAPHS, SHAPE = 4, RowShape(nodes=20, edges=40, places=4)
INPUTS = ("nodes", "edges", "edge_features", "graph", "mask")
MODELS = {
    "gcn": GCN(widths=(4, 4), classes=2, output="graphs", readout="attention", jumping="concat"),
    "sage": GraphSAGE(widths=(4, 4), classes=2, output="graphs", aggregation="max", readout="max", norm="layer"),
    "gat": GAT(widths=(3,), heads=2, classes=2, output="graphs", edge_features=True),
    "gatv2": GAT(widths=(3, 3), heads=2, classes=2, output="graphs", version=2, edge_features=True, residual=True),
    "gin": GIN(widths=(4, 4), classes=2, output="graphs", readout="sum", edge_features=True, norm="batch"),
    "mpnn": MPNN(width=4, classes=2, edge_width=5, rounds=2, aggregation="sum"),
}


@st.composite
def graph_lists(draw):
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    graphs = []
    for _ in range(GRAPHS):
        n, m = draw(st.integers(1, 5)), draw(st.integers(0, 10))
        edges = generator.integers(0, n, (m, 2))  # loops, double edges and lone nodes among them
        graphs.append(Graph(generator.normal(size=(n, 3)), edges, generator.normal(size=(m, 2))))
    return GraphList(graphs, {"target": generator.normal(size=(GRAPHS, 2))}, [str(i) for i in range(GRAPHS)])


@pytest.mark.parametrize("name", MODELS)
def test_neither_padding_nor_packing_changes_a_result(name):
    model = MODELS[name]
    shapes = {"nodes": (4, 20, 3), "edges": (4, 40, 2), "edge_features": (4, 40, 2), "graph": (4, 20), "mask": (4, 4)}
    whole = {"edges": np.int32, "graph": np.int32, "mask": bool}
    zeros = {key: jnp.zeros(shape, whole.get(key, np.float32)) for key, shape in shapes.items()}
    variables = model.init(jax.random.key(1), **zeros)
    params, rest = variables["params"], {key: x for key, x in variables.items() if key != "params"}

    def loss_of(params, rows):
        inputs = {key: rows[key] for key in INPUTS}
        out, changed = model.apply({"params": params, **rest}, **inputs, train=True, mutable=["batch_stats"])
        return (jnp.square(out - rows["target"]).sum(-1) * rows["mask"]).sum(), (out, changed)

    of = jax.jit(jax.value_and_grad(loss_of, has_aux=True))

    @settings(max_examples=12, deadline=None, derandomize=True)
    @given(graph_lists(), st.permutations(range(GRAPHS)), st.lists(st.integers(0, 3), min_size=GRAPHS, max_size=GRAPHS))
    def check(graphs, order, row):
        found = []
        for kept, rows in ((range(GRAPHS), range(GRAPHS)), (order, row)):
            packed = filled_rows(graphs.take(np.array(kept)), np.array(rows), SHAPE, count=GRAPHS).arrays()
            (loss, (out, changed)), gradients = of(params, packed)
            mask = packed["mask"]
            by_target = np.argsort(packed["target"][mask][:, 0])
            found.append((loss, np.asarray(out)[mask][by_target], gradients, changed))
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=2e-3, atol=2e-4), *found)
        assert np.isfinite(found[0][1]).all()

    check()


def test_loops_double_edges_and_lone_nodes_are_those_of_the_matrix():
    """A loop keeps its weight, of several the last; equal edges add up; a lone node has its own loop alone."""
    edges = np.array([[0, 1], [1, 0], [0, 1], [2, 2], [1, 1], [2, 1], [1, 1]])
    weights = np.array([0.5, 2.0, 1.5, 3.0, 7.0, 1.0, 0.25])
    matrix = np.diag([1.0, 0.25, 3.0, 1.0])  # [target, source]
    for (source, target), weight in zip(edges, weights, strict=True):
        matrix[target, source] += weight * (source != target)
    scale = matrix.sum(1) ** -0.5
    nodes = np.random.default_rng(0).normal(size=(4, 3))
    model = GCN(widths=(), classes=2)
    inputs = {"nodes": jnp.asarray(nodes), "edges": jnp.asarray(edges), "edge_weights": jnp.asarray(weights)}
    variables = model.init(jax.random.key(0), **inputs)
    kernel = np.asarray(variables["params"]["layer0"]["linear"]["kernel"])
    expected = (scale[:, None] * matrix * scale) @ nodes @ kernel
    np.testing.assert_allclose(model.apply(variables, **inputs), expected, rtol=1e-4)


def test_a_lone_node_keeps_its_own_features_alone():
    model = GCN(widths=(), classes=2)
    inputs = {"nodes": jnp.ones((3, 4)), "edges": jnp.array([[1, 2], [2, 1]])}
    variables = model.init(jax.random.key(0), **inputs)
    out = model.apply(variables, **inputs)
    kernel = variables["params"]["layer0"]["linear"]["kernel"]
    np.testing.assert_allclose(out[0], inputs["nodes"][0] @ kernel, rtol=1e-5)
    none = model.apply(variables, nodes=inputs["nodes"], edges=jnp.zeros((0, 2), jnp.int32))
    np.testing.assert_allclose(none[0], out[0], rtol=1e-6)


@pytest.mark.parametrize(
    "model",
    [
        GCN(widths=(4,), classes=2, input_width=6),
        GCN(widths=(), classes=2, input_width=6),
        GAT(widths=(4,), heads=2, classes=2, input_width=6),
        GAT(widths=(4,), heads=2, classes=2, version=2, input_width=6),
        GraphSAGE(widths=(6,), classes=2, input_width=6, residual=True),
    ],
    ids=lambda model: type(model).__name__,
)
def test_sparse_features_are_the_dense_ones(model):
    dense = np.zeros((3, 6), np.float32)
    dense[0, 1], dense[0, 5], dense[2, 2] = 1, 2, 3
    sparse = {"nodes": jnp.array([[1.0, 2], [0, 0], [3, 0]]), "columns": jnp.array([[1, 5], [6, 6], [2, 6]])}
    edges = jnp.array([[0, 1], [1, 0]])
    variables = model.init(jax.random.key(0), jnp.asarray(dense), edges)
    one = model.apply(variables, jnp.asarray(dense), edges)
    np.testing.assert_allclose(model.apply(variables, edges=edges, **sparse), one, rtol=1e-6)


def test_pairs_of_nodes_have_the_product_of_their_features():
    model = GCN(widths=(4,), classes=1, output="edges", activation="identity")
    nodes, edges = jnp.eye(3), jnp.array([[0, 1], [1, 0]])
    pairs = jnp.array([[0, 1], [2, 2]])
    variables = model.init(jax.random.key(0), nodes, edges, pairs=pairs)
    out, seen = model.apply(variables, nodes, edges, pairs=pairs, mutable=["intermediates"])
    h = seen["intermediates"]["nodes0"][0][0]
    head = variables["params"]["head"]
    expected = (h[pairs[:, 0]] * h[pairs[:, 1]]) @ head["kernel"] + head["bias"]
    np.testing.assert_allclose(out, expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("said", "make"),
    [
        ("dropout=1.0", lambda: GCN(widths=(4,), classes=2, dropout=1.0).check()),
        ("jumping='max' with widths=(4, 5)", lambda: GIN(widths=(4, 5), classes=2, jumping="max").check()),
        ("heads=0", lambda: GAT(widths=(4,), classes=2, heads=0).check()),
        ("rounds=0", lambda: MPNN(width=4, classes=2, rounds=0).check()),
        ("pool='most'", lambda: gin({"d_in": 3, "pool": "most"})),
        ("d_in: missing", lambda: gat({})),
    ],
)
def test_wrong_settings_are_one_line(said, make):
    with pytest.raises(RequestError) as error:
        make()
    assert said in str(error.value) and "\n" not in str(error.value)


def test_edges_of_another_shape_and_missing_features_are_refused():
    with pytest.raises(RequestError, match=r"edges of shape \[2, 4\]"):
        GCN(widths=(), classes=2).init(jax.random.key(0), jnp.ones((3, 4)), jnp.zeros((2, 4), jnp.int32))
    with pytest.raises(RequestError, match="the data have none"):
        MPNN(width=4, classes=2).init(jax.random.key(0), jnp.ones((3, 4)), jnp.zeros((2, 2), jnp.int32))


@pytest.mark.parametrize("version", [1, 2])
def test_attention_with_features_of_edges_is_that_of_numpy(version):
    """Loops are replaced by one for each node, with the mean features of the edges that reach it, or zeros."""
    generator = np.random.default_rng(0)
    nodes, edges = generator.normal(size=(4, 3)), np.array([[0, 1], [2, 1], [1, 0], [1, 1], [2, 1]])
    features = generator.normal(size=(5, 2))
    model = GAT(widths=(), classes=2, out_heads=3, edge_features=True, version=version)
    inputs = {name: jnp.asarray(x) for name, x in {"nodes": nodes, "edges": edges, "edge_features": features}.items()}
    zeros = model.init(jax.random.key(0), **inputs)["params"]
    params = jax.tree.map(lambda x: generator.normal(size=x.shape).astype(np.float32), zeros)
    own = params["layer0"]
    kept = edges[:, 0] != edges[:, 1]
    reach = [kept & (edges[:, 1] == i) for i in range(4)]
    loops = np.array([features[at].sum(0) / max(at.sum(), 1) for at in reach])
    ends = np.concatenate([edges[kept], np.stack([np.arange(4)] * 2, 1)])
    e = np.concatenate([features[kept], loops]) @ own["edge"]["kernel"]

    def heads(x):
        return x.reshape(-1, 3, 2)

    leaky = lambda x: np.where(x > 0, x, 0.2 * x)  # noqa: E731
    h = heads(nodes @ own["source"]["kernel"] + (own["source"]["bias"] if version == 2 else 0))
    if version == 1:
        score = leaky(
            (h * own["attend_source"]).sum(-1)[ends[:, 0]]
            + (h * own["attend_target"]).sum(-1)[ends[:, 1]]
            + (heads(e) * own["attend_edge"]).sum(-1)
        )
    else:
        to = heads(nodes @ own["target"]["kernel"] + own["target"]["bias"])
        score = (leaky(h[ends[:, 0]] + to[ends[:, 1]] + heads(e)) * own["attend"]).sum(-1)
    expected = np.zeros((4, 2))
    for i in range(4):
        at = ends[:, 1] == i
        weights = np.exp(score[at]) / np.exp(score[at]).sum(0)
        expected[i] = (weights[..., None] * h[ends[at, 0]]).sum(0).mean(0) + own["bias"]
    np.testing.assert_allclose(model.apply({"params": params}, **inputs), expected, rtol=1e-4, atol=1e-5)


def test_a_gine_layer_is_that_of_numpy():
    generator = np.random.default_rng(0)
    nodes, edges = generator.normal(size=(3, 4)), np.array([[0, 1], [2, 1], [1, 1], [0, 1]])
    features = generator.normal(size=(4, 2))
    model = GIN(widths=(), classes=2, edge_features=True, inner_norm=False)
    inputs = {name: jnp.asarray(x) for name, x in {"nodes": nodes, "edges": edges, "edge_features": features}.items()}
    zeros = model.init(jax.random.key(0), **inputs)["params"]
    params = jax.tree.map(lambda x: generator.normal(size=x.shape).astype(np.float32), zeros)
    own = params["layer0"]
    relu = lambda x: np.maximum(x, 0)  # noqa: E731
    messages = relu(nodes[edges[:, 0]] + features @ own["edge"]["kernel"] + own["edge"]["bias"])
    y = (1 + own["epsilon"]) * nodes
    np.add.at(y, edges[:, 1], messages)
    y = relu(y @ own["dense0"]["kernel"] + own["dense0"]["bias"]) @ own["dense1"]["kernel"] + own["dense1"]["bias"]
    np.testing.assert_allclose(model.apply({"params": params}, **inputs), y, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "model",
    [
        GCN(widths=(4, 4), classes=2, input_width=3, norm="layer", output="graphs"),
        GraphSAGE(widths=(4,), classes=2, input_width=3, norm="batch"),
        GAT(widths=(4,), heads=2, classes=2, input_width=3, version=2, edge_features=True, edge_input_width=2),
        GIN(widths=(4,), classes=1, input_width=3, edge_features=True, edge_input_width=2, output="edges"),
    ],
    ids=lambda model: type(model).__name__,
)
def test_every_parameter_has_a_published_name(model):
    family = graph_networks.OF[{GCN: "gcn", GraphSAGE: "sage", GAT: "gat", GIN: "gin"}[type(model)]]
    generator = np.random.default_rng(0)
    shapes = family.shapes(model)
    ours = jax.tree.map(lambda x: generator.normal(size=x.shape).astype(np.float32), shapes)
    (key_map,) = family.key_maps(model)
    theirs = mapping.to_theirs(key_map, ours)
    jax.tree.map(np.testing.assert_array_equal, mapping.to_ours(key_map, theirs, shapes), ours)
    leaves = {name.rpartition(".")[2] for name in theirs}
    assert leaves <= {"weight", "bias", "att", "eps", "running_mean", "running_var", "num_batches_tracked"}
