"""Recurrent layers: PyTorch's outputs, states and gradients, packed ones included; masks and packed sequences."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp
import numpy as np
import parity
import pytest

from research.layers import kernels
from research.layers.recurrent import Recurrent
from research.pretrained import mapping, rnn

FIXTURES = ("rnn", "lstm", "gru", "rnn_relu_bidirectional", "lstm_bidirectional", "gru_bidirectional")


def reference(name):
    arrays, metadata = parity.load(name)
    model = rnn.from_config(metadata["config"])
    names = ("cell", "width", "depth", "bidirectional", "activation", "input_width")
    layers = Recurrent(**{name: getattr(model, name) for name in names})
    torch = {key: x for key, x in parity.under(arrays, "param/").items() if key.startswith("rnn.")}
    (key_map,) = rnn.recurrent_key_maps(layers)
    expected = rnn.FAMILIES[2].shapes(layers)
    variables = mapping.to_ours(key_map, {key.removeprefix("rnn."): x for key, x in torch.items()}, expected)
    states = tuple(arrays[f"input/{s}0"].swapaxes(0, 1) for s in "hc" if f"input/{s}0" in arrays)
    return arrays, layers, key_map, jax.tree.map(jnp.asarray, variables), states


@pytest.mark.parametrize("packed", [False, True], ids=["whole", "packed"])
@pytest.mark.parametrize("name", FIXTURES)
def test_outputs_and_states(name, packed):
    arrays, layers, _, variables, states = reference(name)
    x, tag = arrays["input/x"], "_packed" if packed else ""
    mask = jnp.arange(x.shape[1]) < arrays["input/lengths"][:, None] if packed else None
    y, finals = jax.jit(layers.apply)(variables, x, states, mask=mask)
    np.testing.assert_allclose(y, arrays[f"output/y{tag}"], atol=1e-5)
    for final, s in zip(finals, "hc", strict=False):
        np.testing.assert_allclose(final.swapaxes(0, 1), arrays[f"output/{s}_n{tag}"], atol=1e-5)
    if packed:
        assert (np.asarray(y)[~np.asarray(mask)] == 0).all()


@pytest.mark.parametrize("name", FIXTURES)
def test_gradient_norms(name):
    arrays, layers, key_map, variables, states = reference(name)

    def loss(variables):
        return (layers.apply(variables, arrays["input/x"], states)[0] ** 2).mean()

    value, gradients = jax.jit(jax.value_and_grad(loss))(variables)
    np.testing.assert_allclose(value, arrays["loss_for_grad"], rtol=1e-5)
    for key, gradient in mapping.to_theirs(key_map, gradients).items():
        np.testing.assert_allclose(np.linalg.norm(gradient), arrays[f"gradnorm/rnn.{key}"], rtol=1e-4, atol=1e-7)


CELLS = ("elman", "lstm", "gru")


def small(cell, **fields):
    layers = Recurrent(cell, width=4, depth=2, bidirectional=True, **fields)
    x = jax.random.normal(jax.random.key(1), (3, 6, 5))
    return layers, x, jax.jit(layers.init)(jax.random.key(0), x)


@pytest.mark.parametrize("left", [False, True], ids=["right", "left"])
@pytest.mark.parametrize("cell", CELLS)
def test_padding_on_either_side_changes_nothing(cell, left):
    layers, x, variables = small(cell)
    apply = jax.jit(layers.apply)
    mask = np.arange(6) < np.array([6, 4, 4])[:, None]
    mask = mask[:, ::-1] if left else mask
    y, states = apply(variables, x, mask=jnp.asarray(mask))
    alone, state = apply(variables, x[1:][:, mask[1]])
    np.testing.assert_allclose(y[1:][:, mask[1]], alone, atol=1e-6)
    chex.assert_trees_all_close(tuple(s[1:] for s in states), state, atol=1e-6)
    noisy = jnp.where(mask[..., None], x, 1e3)
    chex.assert_trees_all_equal(apply(variables, noisy, mask=jnp.asarray(mask))[0], y)


@pytest.mark.parametrize("cell", CELLS)
def test_packed_sequences_do_not_see_each_other(cell):
    layers, x, variables = small(cell)
    begins = jnp.zeros((3, 6), bool).at[:, jnp.array([0, 4])].set(True)
    apply = jax.jit(layers.apply)
    y, _ = apply(variables, x, begins=begins)
    apart = [apply(variables, part)[0] for part in (x[:, :4], x[:, 4:])]
    np.testing.assert_allclose(y, np.concatenate(apart, axis=1), atol=1e-6)


@pytest.mark.parametrize("cell", CELLS)
def test_a_state_carries_over(cell):
    layers = Recurrent(cell, width=4, depth=2)
    x = jax.random.normal(jax.random.key(1), (3, 6, 5))
    variables = jax.jit(layers.init)(jax.random.key(0), x)
    apply = jax.jit(layers.apply)
    whole, final = apply(variables, x)
    first, state = apply(variables, x[:, :2])
    second, last = apply(variables, x[:, 2:], state)
    np.testing.assert_allclose(np.concatenate([first, second], axis=1), whole, atol=1e-6)
    chex.assert_trees_all_close(last, final, atol=1e-6)


def test_forget_bias_is_on_the_forget_gate():
    x = jnp.zeros((1, 2, 3))
    biases = [
        Recurrent("lstm", 4, forget_bias=b).init(jax.random.key(0), x)["params"]["forward0"]["input_bias"]
        for b in (0.0, 1.0)
    ]
    np.testing.assert_allclose(biases[1] - biases[0], [0] * 4 + [1] * 4 + [0] * 8, atol=1e-6)


def test_bfloat16_keeps_the_state_in_float32():
    layers = Recurrent("lstm", 4, dtype="bfloat16")
    x = jnp.ones((1, 2, 3))
    variables = layers.init(jax.random.key(0), x)
    y, (h, c) = layers.apply(variables, x)
    assert (y.dtype, h.dtype, c.dtype) == (jnp.bfloat16, jnp.float32, jnp.float32)
    assert all(p.dtype == jnp.float32 for p in jax.tree.leaves(variables))


COUNTS = {"elman": 263_168, "lstm": 1_052_672, "gru": 789_504}


@pytest.mark.parametrize("cell", CELLS)
def test_parameters_of_two_layers_of_256(cell):
    shapes = rnn.FAMILIES[2].shapes(Recurrent(cell, 256, 2, input_width=256))
    assert sum(x.size for x in jax.tree.leaves(shapes)) == COUNTS[cell]


def test_a_recurrence_is_recorded_and_compiled_with_xlas_own_products():
    x = jnp.zeros((2, 3, 4))
    with kernels.recording() as record:
        jax.eval_shape(lambda: Recurrent("lstm", 4).init(jax.random.key(0), x))
    assert "recurrence" in record
    assert kernels.compiler_options("cpu", record) == kernels.compiler_options("tpu", {}) == {}
    assert kernels.compiler_options("cpu", {}) != {}
