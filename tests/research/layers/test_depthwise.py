import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from convolutions import with_gradients, xla

from research.layers.convolve import convolve


def ours(strides, padding, groups):
    return functools.partial(convolve, strides=strides, padding=padding, groups=groups, platform="cpu")


@pytest.mark.parametrize(
    ("batch", "size", "extent", "strides", "padding"),
    [
        (2, (6, 6), (3, 3), (1, 1), ((1, 1), (1, 1))),
        (16, (6, 6), (3, 3), (1, 1), ((1, 1), (1, 1))),
        (11, (5, 7), (3, 5), (1, 1), ((1, 1), (2, 2))),
        (12, (7, 6), (3, 3), (2, 2), ((1, 1), (1, 1))),
        (3, (8, 8), (5, 5), (2, 2), ((1, 2), (1, 2))),  # "SAME" at stride 2
        (3, (9, 8), (3, 3), (3, 2), ((0, 2), (1, 0))),
        (3, (6, 6), (3, 3), (1, 1), ((0, 0), (0, 0))),
        (3, (4, 4), (7, 7), (1, 1), ((3, 3), (3, 3))),
        (3, (2, 2), (7, 7), (1, 1), ((3, 3), (3, 3))),  # the kernel's border sees padding only
        (3, (3, 3), (2, 2), (2, 2), ((3, 3), (3, 3))),  # some windows see padding only
    ],
)
def test_every_channel_is_convolved_by_itself_and_so_are_its_gradients(batch, size, extent, strides, padding):
    generator = np.random.default_rng(0)
    x = generator.normal(size=(batch, *size, 4)).astype(np.float32)
    weights = generator.normal(size=(*extent, 1, 4)).astype(np.float32)
    found = jax.jit(functools.partial(with_gradients, ours(strides, padding, 4)))(x, weights)
    expected = with_gradients(functools.partial(xla, strides=strides, padding=padding), x, weights)
    for result, reference in zip(found, expected, strict=True):
        np.testing.assert_allclose(result, reference, atol=1e-4)


def test_no_convolution_is_left_for_xla():
    x, weights = jnp.ones((4, 8, 8, 6)), jnp.ones((3, 3, 1, 6))
    run = functools.partial(with_gradients, ours((1, 1), "SAME", 6))
    assert "conv_general_dilated" not in str(jax.make_jaxpr(run)(x, weights))


def test_low_precision_is_summed_in_float32():
    """Sums of 49 products, and of 4,096 for the weights' gradient, would have much larger errors in bfloat16."""
    x = jax.random.uniform(jax.random.key(0), (16, 16, 16, 4), jnp.bfloat16)
    weights = jax.random.uniform(jax.random.key(1), (7, 7, 1, 4), jnp.bfloat16)
    found = with_gradients(ours((1, 1), "SAME", 4), x, weights)
    exact = with_gradients(ours((1, 1), "SAME", 4), x.astype(jnp.float32), weights.astype(jnp.float32))
    assert [result.dtype for result in found] == [jnp.bfloat16] * 3
    for result, reference in zip(found, exact, strict=True):
        np.testing.assert_allclose(result.astype(jnp.float32), reference, rtol=2**-8)


def test_models_side_by_side_each_have_their_own_kernel():
    """Stacked trials: mapped over weights and maps."""
    x = jax.random.normal(jax.random.key(0), (3, 5, 6, 6, 4))
    weights = jax.random.normal(jax.random.key(1), (3, 3, 3, 1, 4))
    run = functools.partial(with_gradients, ours((1, 1), "SAME", 4))
    together = jax.vmap(run)(x, weights)
    for i in range(3):
        for result, reference in zip(together, run(x[i], weights[i]), strict=True):
            np.testing.assert_allclose(result[i], reference, atol=1e-4)


def test_a_batch_over_devices_gives_the_gradients_of_the_whole():
    x = jax.random.normal(jax.random.key(0), (16, 6, 6, 4))
    weights = jax.random.normal(jax.random.key(1), (3, 3, 1, 4))
    run = jax.jit(functools.partial(with_gradients, ours((1, 1), "SAME", 4)))
    expected = run(x, weights)
    over = jax.sharding.NamedSharding(
        jax.make_mesh((8,), ("data",), (jax.sharding.AxisType.Auto,)), jax.sharding.PartitionSpec("data")
    )
    for result, reference in zip(run(jax.device_put(x, over), weights), expected, strict=True):
        np.testing.assert_allclose(result, reference, atol=1e-4)
