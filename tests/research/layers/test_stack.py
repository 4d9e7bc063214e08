"""A stack of blocks gives the same result written out, scanned, and recomputed in the backward pass."""

from __future__ import annotations

from typing import get_args

import chex
import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn

from research.layers.stack import Remat, policy, stack
from research.training.flops import flops_of


class Block(nn.Module):
    width: int

    @nn.compact
    def __call__(self, x, memory, *, train):
        x = x + nn.Dense(self.width, name="dense")(jnp.tanh(x) + memory)
        self.sow("intermediates", "x", x)
        return nn.Dropout(0.5, deterministic=not train)(x)


class Net(nn.Module):
    scan_layers: bool = False
    remat: bool = False

    @nn.compact
    def __call__(self, x, memory, train=False):
        return stack(
            lambda name: Block(x.shape[-1], name=name),
            3,
            x,
            lambda block, x: block(x, memory, train=train),
            scan_layers=self.scan_layers,
            remat=self.remat,
        )


X, MEMORY = jax.random.normal(jax.random.key(0), (2, 4, 5))


def layerwise(params):
    """{"blocks": leading axis} from {"block0": …, "block1": …, …}."""
    return {"blocks": jax.tree.map(lambda *leaves: jnp.stack(leaves), *(params[f"block{i}"] for i in range(3)))}


@pytest.mark.parametrize("remat", [False, True])
def test_scanned_is_written_out(remat):
    params = jax.jit(Net().init)(jax.random.key(1), X, MEMORY)["params"]
    assert set(params) == {"block0", "block1", "block2"}

    def loss(net):
        return lambda params, memory: (net.apply({"params": params}, X, memory) ** 2).mean()

    def value_and_gradients(net):
        return jax.jit(jax.value_and_grad(loss(net), argnums=(0, 1)))

    value, (gradient, of_memory) = value_and_gradients(Net())(params, MEMORY)
    scanned = Net(scan_layers=True, remat=remat)
    chex.assert_trees_all_equal_shapes(
        jax.eval_shape(scanned.init, jax.random.key(1), X, MEMORY)["params"], layerwise(params)
    )
    again, (gradients, of_memory_again) = value_and_gradients(scanned)(layerwise(params), MEMORY)
    chex.assert_trees_all_close(
        (value, layerwise(gradient), of_memory), (again, gradients, of_memory_again), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("scan_layers", [False, True])
def test_recomputing_changes_nothing(scan_layers):
    net, again = Net(scan_layers), Net(scan_layers, remat=True)
    variables = jax.jit(net.init)(jax.random.key(1), X, MEMORY)
    rngs = {"dropout": jax.random.key(2)}

    def gradient(net):
        return jax.jit(jax.grad(lambda v: (net.apply(v, X, MEMORY, train=True, rngs=rngs) ** 2).mean()))(variables)

    chex.assert_trees_all_close(gradient(net), gradient(again), rtol=1e-5, atol=1e-6)


def test_layers_are_initialised_and_dropped_differently():
    net = Net(scan_layers=True)
    variables = jax.jit(net.init)(jax.random.key(1), X, MEMORY)
    kernels = variables["params"]["blocks"]["dense"]["kernel"]
    assert abs(kernels[0] - kernels[1]).min() > 0
    ones = jnp.ones((200, 5))
    zeroed = jax.tree.map(jnp.zeros_like, variables)  # only dropout has an effect: kept values are 1, 2, 4 or 8
    kept = net.apply(zeroed, ones, jnp.zeros_like(ones), True, rngs={"dropout": jax.random.key(3)})
    assert 0.05 < (kept != 0).mean() < 0.2  # one in eight; with one mask for all layers it would be one in two


def test_inner_values_have_a_layer_axis():
    net = Net(scan_layers=True)
    variables = jax.jit(net.init)(jax.random.key(1), X, MEMORY)
    _, seen = net.apply(variables, X, MEMORY, mutable=["intermediates"])
    assert seen["intermediates"]["blocks"]["x"][0].shape == (3, 4, 5)


@pytest.mark.parametrize("scan_layers", [False, True])
def test_a_policy_stores_products_and_changes_no_gradient(scan_layers):
    class Deep(nn.Module):
        @nn.compact
        def __call__(self, x):
            return x + nn.Dense(5)(jnp.tanh(nn.Dense(5)(x)))

    class Deeper(nn.Module):
        remat: Remat

        @nn.compact
        def __call__(self, x):
            options = {"scan_layers": scan_layers, "remat": self.remat}
            return stack(lambda name: Deep(name=name), 3, x, lambda block, x: block(x), **options)

    params = Deeper(False).init(jax.random.key(1), X)["params"]
    flops, gradients = {}, []
    for remat in (False, "dots_saveable", "dots_with_no_batch_dims_saveable", True):
        net = Deeper(remat)
        gradient = jax.grad(lambda params: (net.apply({"params": params}, X) ** 2).mean())  # noqa: B023
        flops[remat] = flops_of(gradient, params)
        gradients.append(gradient(params))
    assert flops[False] == flops["dots_saveable"] == flops["dots_with_no_batch_dims_saveable"]
    assert flops[True] == flops[False] + 3 * 2 * X.size * 5  # the first product of each block
    for other in gradients[1:]:
        chex.assert_trees_all_close(other, gradients[0], rtol=1e-5)


def test_every_policy_is_one_of_jax():
    for name in get_args(get_args(Remat)[1]):
        assert callable(policy(name))
    assert policy(True) is None
