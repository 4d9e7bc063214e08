"""The MLP against PyTorch's: logits, gradients, batch norm in training, five steps of training."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import parity
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from research import paths
from research.errors import RequestError
from research.layers.activations import Activation
from research.models.mlp import MLP

NORMS = {None: "none", "batch": "batch", "layer": "layer"}


def build(name):
    """(model, variables, arrays, {our path: PyTorch's key}) of a fixture."""
    arrays, metadata = parity.load(name)
    config = metadata["config"]
    model = MLP(
        widths=tuple(config["hidden"]), classes=config["d_out"], activation=config["act"], norm=NORMS[config["norm"]]
    )
    modules = sorted({int(key.split(".")[1]) for key in parity.under(arrays, "param/")})
    has_matrix = [arrays[f"param/net.{i}.weight"].ndim == 2 for i in modules]
    norm_class = {"batch": "BatchNorm", "layer": "LayerNorm"}.get(config["norm"])
    keys, counts = {}, {True: 0, False: 0}
    for module, dense in zip(modules, has_matrix, strict=True):
        ours = f"{'Dense' if dense else norm_class}_{counts[dense]}"
        counts[dense] += 1
        keys[f"params/{ours}/{'kernel' if dense else 'scale'}"] = f"net.{module}.weight"
        keys[f"params/{ours}/bias"] = f"net.{module}.bias"
        if not dense and config["norm"] == "batch":
            keys[f"batch_stats/{ours}/mean"] = f"net.{module}.running_mean"
            keys[f"batch_stats/{ours}/var"] = f"net.{module}.running_var"
    shapes = jax.eval_shape(model.init, jax.random.key(0), arrays["input/x"])
    variables = paths.map_with_path(lambda path, _: jnp.asarray(arrays[f"param/{keys[path]}"].T), shapes)
    return model, variables, arrays, keys


@pytest.mark.parametrize("name", ["mlp", "mlp_batchnorm", "mlp_layernorm"])
def test_logits_and_gradients_equal_pytorchs(name):
    model, variables, arrays, keys = build(name)
    x, labels = arrays["input/x"], arrays["input/labels"]

    def loss(params):
        logits = model.apply({**variables, "params": params}, x)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean(), logits

    (value, logits), gradients = jax.value_and_grad(loss, has_aux=True)(variables["params"])
    np.testing.assert_allclose(logits, arrays["output/logits"], atol=1e-5)
    np.testing.assert_allclose(value, arrays["output/loss"], atol=1e-6)
    for path, gradient in paths.flatten({"params": gradients}).items():
        expected = arrays[f"gradnorm/{keys[path]}"]
        np.testing.assert_allclose(jnp.linalg.norm(gradient), expected, rtol=1e-4, atol=1e-7, err_msg=path)


def test_batch_norm_in_training_equals_pytorchs():
    model, variables, arrays, keys = build("mlp_batchnorm")
    x = arrays["input/x"]
    logits, updated = model.apply(variables, x, train=True, mutable=["batch_stats"])
    np.testing.assert_allclose(logits, arrays["train/output/logits"], atol=1e-5)
    for path, found in paths.flatten(updated).items():
        expected, old = arrays[f"train/param/{keys[path]}"], arrays[f"param/{keys[path]}"]
        if path.endswith("var"):  # PyTorch keeps the unbiased variance
            found = 0.9 * old + (found - 0.9 * old) * len(x) / (len(x) - 1)
        np.testing.assert_allclose(found, expected, atol=1e-5, err_msg=path)


@given(
    activation=st.sampled_from(Activation.__args__), norm=st.sampled_from(["none", "batch", "layer"]), data=st.data()
)
@settings(max_examples=15, deadline=None)
def test_shapes_and_number_of_parameters(activation, norm, data):
    widths = tuple(data.draw(st.lists(st.integers(1, 5), max_size=3)))
    model = MLP(widths=widths, classes=2, activation=activation, norm=norm)
    x = jnp.ones((3, 2, 2))
    variables = jax.eval_shape(model.init, jax.random.key(0), x)
    sizes = (4, *widths, 2)
    expected = sum(a * b + b for a, b in zip(sizes, sizes[1:], strict=False)) + (norm != "none") * 2 * sum(widths)
    assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) == expected
    assert jax.eval_shape(model.apply, variables, x).shape == (3, 2)


def test_residual_adds_the_input_where_widths_agree():
    model = MLP(widths=(6, 6), classes=2, residual=True, activation="tanh")
    x = jax.random.normal(jax.random.key(0), (3, 4))
    params = model.init(jax.random.key(1), x)["params"]
    dense = lambda i, x: x @ params[f"Dense_{i}"]["kernel"] + params[f"Dense_{i}"]["bias"]  # noqa: E731
    first = jnp.tanh(dense(0, x))
    expected = dense(2, first + jnp.tanh(dense(1, first)))
    np.testing.assert_allclose(model.apply({"params": params}, x), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("fields", "says"),
    [({"widths": (4, 0)}, r"widths=\(4, 0\)"), ({"classes": -1}, "classes=-1"), ({"dropout": 1.0}, "dropout=1.0")],
)
def test_impossible_fields_are_refused(fields, says):
    with pytest.raises(RequestError, match=says):
        MLP(**{"widths": (4,), "classes": 2, **fields}).check()


def test_a_module_is_a_value():
    assert dataclasses.replace(MLP(widths=(3,), classes=2), widths=(4,)) == MLP(widths=(4,), classes=2)
    assert hash(MLP(widths=(3,), classes=2)) == hash(MLP(widths=(3,), classes=2))
