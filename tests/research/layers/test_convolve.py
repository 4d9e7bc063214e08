import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from convolutions import with_gradients, xla

from research.layers import kernels
from research.layers.convolve import PATCHES, SHIFTS, XLA, Kernels, choose_kernels, convolve
from research.layers.window import Window


@pytest.mark.parametrize(
    ("size", "extent", "stride", "padding", "channels"),
    [
        (6, 3, 1, ((1, 1), (1, 1)), 3),
        (6, 3, 2, ((1, 1), (1, 1)), 33),  # another kernel for each gradient
        (5, 3, 1, ((1, 1), (1, 1)), 1),
        (5, 3, 2, ((0, 2), (1, 0)), 3),
        (6, 3, 3, ((0, 0), (0, 0)), 2),  # windows side by side
        (2, 3, 2, ((1, 1), (1, 1)), 3),  # the first row and column of the kernel see padding only
        (1, 3, 1, ((1, 1), (1, 1)), 3),
        (7, 1, 2, ((0, 0), (0, 0)), 3),
        (3, 4, 1, ((2, 1), (1, 2)), 2),
    ],
)
def test_every_kernel_means_the_same_and_so_do_its_gradients(size, extent, stride, padding, channels):
    strides = (stride, stride)
    generator = np.random.default_rng(0)
    x = generator.normal(size=(2, size, size, channels)).astype(np.float32)
    weights = generator.normal(size=(extent, extent, channels, 5)).astype(np.float32)

    @jax.jit
    def run(x, weights):
        ours = {
            kernel: functools.partial(convolve, strides=strides, padding=padding, kernel=kernel, platform="cpu")
            for kernel in ("patches", "shifts", "auto")
        }
        found = {kernel: with_gradients(f, x, weights) for kernel, f in ours.items()}
        return found, with_gradients(functools.partial(xla, strides=strides, padding=padding), x, weights)

    found, expected = run(x, weights)
    for kernel, results in found.items():
        for result, reference in zip(results, expected, strict=True):
            np.testing.assert_allclose(result, reference, atol=1e-4, err_msg=kernel)


@pytest.mark.parametrize(
    ("shape", "weights", "window", "expected"),
    [
        ((32, 16, 16, 64), (3, 3, 64, 64), Window((1, 1), ((1, 1), (1, 1))), XLA),
        ((32, 2, 2, 64), (3, 3, 64, 64), Window((1, 1), ((1, 1), (1, 1))), PATCHES),
        ((32, 16, 16, 64), (1, 1, 64, 64), Window((1, 1), ((0, 0), (0, 0))), PATCHES),
        ((32, 32, 32, 3), (4, 4, 3, 64), Window((4, 4), ((0, 0), (0, 0))), PATCHES),
        ((32, 28, 28, 1), (3, 3, 1, 64), Window((1, 1), ((1, 1), (1, 1))), Kernels("shifts", "patches", "patches")),
        ((32, 16, 16, 64), (7, 7, 1, 64), Window((1, 1), ((3, 3), (3, 3)), 64), SHIFTS),
        ((32, 16, 16, 64), (3, 3, 2, 64), Window((1, 1), ((1, 1), (1, 1)), 32), XLA),
        ((32, 16, 16, 64), (3, 3, 1, 128), Window((1, 1), ((1, 1), (1, 1)), 64), XLA),
    ],
)
def test_the_table(shape, weights, window, expected):
    assert choose_kernels(shape, weights, window, "cpu")[0] == expected
    assert choose_kernels(shape, weights, window, "cuda")[0] == XLA


def test_pixels_of_the_kernel_that_see_only_padding_are_left_out():
    """A 3×3 kernel on a single pixel is one matrix product."""
    x, weights = jnp.ones((4, 1, 1, 8)), jnp.ones((3, 3, 8, 8))
    program = str(jax.make_jaxpr(lambda x, w: convolve(x, w, padding=((1, 1), (1, 1)), platform="cpu"))(x, weights))
    assert program.count("dot_general") == 1
    assert "conv_general_dilated" not in program
    assert "4,8" in program


def test_what_runs_is_recorded():
    x, weights = jnp.ones((4, 8, 8, 1)), jnp.ones((3, 3, 1, 8))
    with kernels.recording() as record:
        jax.eval_shape(functools.partial(convolve, platform="cpu"), x, weights)
        jax.eval_shape(functools.partial(convolve, kernel="xla"), x, weights)
    assert record == {"convolution": "shifts + patches (the table's for cpu), xla (asked for)"}
