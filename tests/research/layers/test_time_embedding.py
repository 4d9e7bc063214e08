import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.errors import RequestError
from research.layers.time_embedding import TimeEmbedding, check_labels, class_embedding


def test_waves_are_those_of_the_paper_in_either_order():
    time, width = jnp.array([0.0, 7.0, 999.0]), 8
    frequencies = 10000.0 ** (-np.arange(4) / 3)  # the last is 1 / 10,000
    angles = np.asarray(time)[:, None] * frequencies
    for first, waves in ((False, (np.sin, np.cos)), (True, (np.cos, np.sin))):
        embedding = TimeEmbedding(width=width, waves=8, cosine_first=first, activation="identity")
        variables = embedding.init(jax.random.key(0), time)
        params = jax.tree.map(jnp.zeros_like, variables["params"])
        for layer in ("up", "out"):
            params[layer]["kernel"] = jnp.eye(8)
        found = embedding.apply({"params": params}, time)
        np.testing.assert_allclose(found, np.concatenate([wave(angles) for wave in waves], -1), atol=1e-3)


def test_the_null_class_is_the_last_row():
    for null, rows in ((True, 4), (False, 3)):
        table = class_embedding(3, null, 5, dtype="float32", name="class")
        assert table.init(jax.random.key(0), jnp.zeros(1, int))["params"]["embedding"].shape == (rows, 5)


def test_labels_go_with_classes():
    label = jnp.zeros(2, int)
    for classes, null, given in ((None, True, None), (3, True, None), (3, False, label), (3, True, label)):
        check_labels("Net", classes, null, given)
    with pytest.raises(RequestError, match="^label: Net with classes=none takes no labels"):
        check_labels("Net", None, True, label)
    with pytest.raises(RequestError, match="^label: Net with classes=3 and without a null class needs labels"):
        check_labels("Net", 3, False, None)
