"""long_memory compares models fairly, and its figure is drawn from the right numbers."""

import jax
import numpy as np
import pytest

from experiments.analysis.long_memory_figure import at, longest_chain, token_gradients
from experiments.long_memory import MODELS, experiment, sweeps
from research.sweep import trials


def test_equal_parameters():
    sizes = {}
    for name, model in MODELS.items():
        variables = jax.eval_shape(lambda model=model: model.init(jax.random.key(0), np.zeros((1, 6), np.uint8)))
        sizes[name] = sum(x.size for x in jax.tree.leaves(variables))
    assert max(sizes.values()) <= 1.02 * min(sizes.values())


def test_every_model_gets_the_same_steps_and_examples():
    for sweep in sweeps().values():
        found = [(t.experiment.steps, t.experiment.batch_size, t.experiment.data) for t in trials(experiment(), sweep)]
        assert all(found.count(x) == len(MODELS) for x in found)


@pytest.mark.parametrize(
    ("name", "chains"),
    # one product per token and the head; query, scores, values, out, two of the MLP and the head
    [("RNN", {4: 6 + 1, 9: 11 + 1}), ("LSTM", {4: 7, 9: 12}), ("GRU", {4: 7}), ("Transformer", {4: 7, 9: 7})],
)
def test_longest_chain(name, chains):
    for distance, products in chains.items():
        assert longest_chain(MODELS[name], np.zeros((1, distance + 2), np.uint8)) == products


def test_token_gradients_are_those_of_the_embedding_table():
    model = MODELS["RNN"].clone(width=8)
    columns = at(3, model).data.load().test.arrays()
    tokens, label = columns["tokens"][:1], columns["label"][:1]
    variables = model.init(jax.random.key(0), tokens)

    def loss(table):
        params = variables["params"] | {"token_embedding": {"embedding": table}}
        return -jax.nn.log_softmax(model.apply({"params": params}, tokens)[0, -1])[label[0]]

    table = variables["params"]["token_embedding"]["embedding"]
    wanted = jax.grad(loss)(table)[tokens[0, 0]]  # the cue occurs once
    gradients = token_gradients(model, variables, tokens, label)
    assert gradients.shape == (*tokens.shape, 8)
    np.testing.assert_allclose(gradients[0, 0], wanted, rtol=1e-4, atol=1e-9)
