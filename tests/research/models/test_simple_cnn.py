import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from image_parity import apply, random_variables

from research.errors import RequestError
from research.models.simple_cnn import SimpleCNN


def convolved(x, kernel, bias):
    """The definition: at every pixel, the sum over the window around it, with zeros beyond the border."""
    size = kernel.shape[0]
    height, width = x.shape[1:3]
    padded = np.pad(x, ((0, 0), (size // 2, size // 2), (size // 2, size // 2), (0, 0)))
    out = np.zeros((*x.shape[:3], kernel.shape[-1]))
    for row in range(size):
        for column in range(size):
            out += padded[:, row : row + height, column : column + width] @ kernel[row, column]
    return out + bias


def test_it_computes_what_the_textbook_says():
    model = SimpleCNN(classes=4, channels=(5, 6), hidden=(7,))
    x = np.asarray(jax.random.normal(jax.random.key(0), (2, 8, 8, 3)))
    variables = random_variables(model, x)
    p = jax.tree.map(np.asarray, variables["params"])
    y = x
    for name in ("conv0", "conv1"):
        y = np.maximum(convolved(y, p[name]["kernel"], p[name]["bias"]), 0)
        y = np.max([y[:, i::2, j::2] for i in (0, 1) for j in (0, 1)], axis=0)
    y = np.maximum(y.reshape(2, -1) @ p["dense0"]["kernel"] + p["dense0"]["bias"], 0)
    expected = y @ p["head"]["kernel"] + p["head"]["bias"]
    np.testing.assert_allclose(apply(model, variables, x), expected, atol=1e-4)


@pytest.mark.parametrize(
    ("fields", "parameters"),
    [
        ({}, 320 + 18_496 + 401_536 + 1_290),  # 28 × 28: 7 × 7 × 64 pixels into 128
        ({"hidden": ()}, 320 + 18_496 + 31_370),
        ({"hidden": (), "readout": "average"}, 320 + 18_496 + 650),
        ({"hidden": (), "readout": "average", "norm": "batch"}, 288 + 64 + 18_432 + 128 + 650),
    ],
)
def test_parameters(fields, parameters):
    variables = jax.eval_shape(SimpleCNN(**fields).init, jax.random.key(0), jnp.ones((1, 28, 28, 1)))
    assert sum(x.size for x in jax.tree.leaves(variables["params"])) == parameters


@pytest.mark.parametrize("pool", ["max", "average", "stride"])
def test_every_pooling_halves_the_map(pool):
    model = SimpleCNN(pool=pool)
    x = jnp.ones((1, 28, 28, 1))
    init = functools.partial(model.init_with_output, mutable=["params", "intermediates"])
    _, seen = jax.eval_shape(init, jax.random.key(0), x)
    sizes = [seen["intermediates"][name][0].shape[1] for name in ("conv0_out", "conv1_out")]
    assert sizes == ([14, 7] if pool == "stride" else [28, 14])
    assert seen["params"]["dense0"]["kernel"].shape[0] == 7 * 7 * 64


def test_average_readout_does_not_see_where():
    """Apart from the border, a shift by the pooling stride does not change the mean over pixels."""
    model = SimpleCNN(channels=(4,), hidden=(), readout="average")
    x = np.zeros((1, 16, 16, 1), np.float32)
    x[:, 4:8, 4:8] = np.asarray(jax.random.normal(jax.random.key(0), (1, 4, 4, 1)))
    variables = random_variables(model, x)
    np.testing.assert_allclose(
        apply(model, variables, x), apply(model, variables, np.roll(x, (2, 4), (1, 2))), atol=1e-6
    )


def test_dropout_and_batch_norm_know_training():
    model = SimpleCNN(norm="batch", dropout=0.5)
    x = jax.random.normal(jax.random.key(0), (4, 28, 28, 1))
    variables = random_variables(model, x)
    rngs = {"dropout": jax.random.key(2)}
    trained, new = apply(model, variables, x, train=True, mutable=["batch_stats"], rngs=rngs)
    assert not np.allclose(trained, apply(model, variables, x))
    assert not np.array_equal(new["batch_stats"]["norm0"]["mean"], variables["batch_stats"]["norm0"]["mean"])


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"classes": 0}, "classes=0"),
        ({"channels": (32, 0)}, "channels=(32, 0)"),
        ({"hidden": (-1,)}, "hidden=(-1,)"),
        ({"kernel_size": 0}, "kernel_size=0"),
        ({"dropout": 1.0}, "dropout=1.0"),
    ],
)
def test_bad_fields_are_named(fields, said):
    with pytest.raises(RequestError, match="expected") as error:
        SimpleCNN(**fields).check()
    assert said in str(error.value)


def test_images_too_small_for_every_pooling():
    with pytest.raises(RequestError, match="^images of 28×28: SimpleCNN .* needs at least 64×64"):
        jax.eval_shape(SimpleCNN(channels=(8,) * 6).init, jax.random.key(0), jnp.ones((1, 28, 28, 1)))
