"""Batch norms of every idiom hear of the mapped axis and of frozen parts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from research.layers.norms import batch_norm
from research.layers.surroundings import surroundings


class Net(nn.Module):
    """A backbone with a batch norm, inside another module, as in a detector."""

    idiom: str

    @nn.compact
    def __call__(self, x, *, train=False):
        return nn.Dense(2, name="head")(Backbone(self.idiom, name="backbone")(x, train))


class Backbone(nn.Module):
    idiom: str

    @nn.compact
    def __call__(self, x, train):
        x = nn.Dense(4)(x)
        if self.idiom == "constructor":
            return nn.BatchNorm(use_running_average=not train, name="norm")(x)
        if self.idiom == "call":
            return nn.BatchNorm(name="norm")(x, use_running_average=not train)
        return batch_norm(train, dtype="float32", name="norm")(x)


@pytest.fixture(params=["constructor", "call", "ours"])
def case(request):
    model, x = Net(request.param), jax.random.normal(jax.random.key(0), (8, 3))
    return model, model.init(jax.random.key(1), x), x


def train(model, variables, x, **told):
    with surroundings(**told):
        return model.apply(variables, x, train=True, mutable=["batch_stats"])


def test_a_mapped_axis_is_averaged_over(case):
    model, variables, x = case
    y, updated = train(model, variables, x)
    parts, each = jax.vmap(lambda x: train(model, variables, x, axis_name="data"), axis_name="data")(x.reshape(4, 2, 3))
    np.testing.assert_allclose(parts.reshape(8, -1), y, atol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a[3], b, atol=1e-6), each, updated)


def test_a_frozen_norm_normalises_by_its_running_statistics_and_keeps_them(case):
    model, variables, x = case
    variables["batch_stats"]["backbone"]["norm"]["mean"] = jnp.full(4, 0.3)
    y, updated = train(model, variables, x, frozen=lambda path: path == "backbone/norm")
    np.testing.assert_array_equal(y, model.apply(variables, x))
    jax.tree.map(np.testing.assert_array_equal, updated["batch_stats"], variables["batch_stats"])
    other, _ = train(model, variables, x, frozen=lambda path: path == "head")
    assert abs(other - y).max() > 1e-3


def test_nothing_is_told_outside(case):
    model, variables, x = case
    plain = model.apply(variables, x, train=True, mutable=["batch_stats"])
    with surroundings(frozen=lambda path: True):
        pass
    np.testing.assert_array_equal(model.apply(variables, x, train=True, mutable=["batch_stats"])[0], plain[0])
