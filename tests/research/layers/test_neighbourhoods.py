"""Sampled neighbourhoods: the whole graph where the fan-out allows it, and never more than it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.layers.neighbourhoods import places, sample_neighbourhoods, sampled_inputs
from research.models.gnn import GAT, GCN, GIN, GraphSAGE

NODES, MOST = 12, 5


def random_graph():
    """Nodes of 0 to `MOST` neighbours; edges in the order of targets."""
    generator = np.random.default_rng(0)
    drawn = [generator.permutation([m for m in range(NODES) if m != n])[: n % (MOST + 1)] for n in range(NODES)]
    edges = np.array([(source, n) for n, own in enumerate(drawn) for source in own], np.int32)
    return {"nodes": jnp.asarray(generator.normal(size=(NODES, 3)), jnp.float32), "edges": jnp.asarray(edges)}


def keys(seed, count=NODES):
    return jax.random.split(jax.random.key(seed), count)


def test_a_neighbour_is_drawn_once_and_is_one():
    graph, nodes = random_graph(), jnp.arange(NODES)
    pairs = {tuple(edge) for edge in graph["edges"].tolist()}
    counts = np.zeros(NODES, int)
    for seed in range(40):
        found = jax.tree.map(np.asarray, sample_neighbourhoods(keys(seed), nodes, graph["edges"], (3, 2)))
        assert found.nodes.shape == (NODES, places((3, 2))) == (NODES, 10)
        for row in range(NODES):
            kept = found.edges[row][found.inside[row, 1:]]
            assert (found.edges[row][~found.inside[row, 1:]] == 10).all()
            for parent in range(4):
                own = found.nodes[row, kept[kept[:, 1] == parent, 0]].tolist()
                assert len(set(own)) == len(own)
                assert {(source, int(found.nodes[row, parent])) for source in own} <= pairs
                if found.inside[row, parent]:
                    degree = int(found.nodes[row, parent]) % (MOST + 1)
                    assert found.degrees[row, parent] == degree
                    assert len(own) == min(degree, 3 if parent == 0 else 2)
        np.add.at(counts, found.nodes[5, 1:4], 1)
    assert (counts > 0).sum() == 5 and counts.max() < 40  # each of its neighbours is drawn at times


def test_the_key_of_a_node_decides():
    graph = random_graph()
    first, again, other = (sample_neighbourhoods(keys(s), jnp.arange(NODES), graph["edges"], (2, 2)) for s in (0, 0, 1))
    np.testing.assert_array_equal(first.nodes, again.nodes)
    assert (np.asarray(first.nodes) != np.asarray(other.nodes)).any()
    some = jnp.array([7, 3])
    part = sample_neighbourhoods(keys(0)[some], some, graph["edges"], (2, 2))
    np.testing.assert_array_equal(part.nodes, first.nodes[some])


@pytest.mark.parametrize("model", [GCN, GraphSAGE, GAT, GIN])
@pytest.mark.parametrize("spare", [0, 2])
def test_a_full_fan_out_has_outputs_and_gradients_of_the_whole_graph(model, spare):
    graph, options = random_graph(), {"inner_norm": False} if model is GIN else {}
    network = model(widths=(4,), classes=2, **options)
    variables = network.init(jax.random.key(0), **graph)
    given = sampled_inputs(keys(0), jnp.arange(NODES), graph, (MOST + spare, MOST))
    weights = jax.random.normal(jax.random.key(1), (NODES, 2))

    def total(variables, sampled):
        logits = network.apply(variables, **given)[:, 0] if sampled else network.apply(variables, **graph)
        return (logits * weights).sum(), logits

    (_, found), own = jax.value_and_grad(total, has_aux=True)(variables, True)
    (_, whole), expected = jax.value_and_grad(total, has_aux=True)(variables, False)
    np.testing.assert_allclose(found, whole, atol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), own, expected)


def test_padding_enters_no_result():
    graph = random_graph()
    given = sampled_inputs(keys(0), jnp.arange(NODES), graph, (MOST + 2, MOST))
    network = GCN(widths=(4,), classes=2, norm="batch")
    variables = network.init(jax.random.key(0), **given)
    inside = (given["graph"] == 0)[..., None]
    changed = given | {"nodes": jnp.where(inside, given["nodes"], 1e6)}
    for train in (False, True):
        results = [
            network.apply(variables, **x, train=train, mutable=["batch_stats"])[0][:, 0] for x in (given, changed)
        ]
        np.testing.assert_array_equal(*results)


def test_a_sampled_sum_is_that_of_all_edges_in_the_mean():
    graph = random_graph()
    network = GCN(widths=(), classes=1)
    variables = network.init(jax.random.key(0), **graph)

    @jax.jit
    def sampled(seed):
        return network.apply(variables, **sampled_inputs(keys(seed), jnp.arange(NODES), graph, (2,)))[:, 0]

    found = np.stack([sampled(seed) for seed in range(600)])
    spread = found.std(0) / np.sqrt(len(found))
    assert (np.abs(found.mean(0) - network.apply(variables, **graph)) < 5 * spread + 1e-5).all()
