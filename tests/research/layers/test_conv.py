import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.layers.conv import conv


@pytest.mark.parametrize(
    ("padding", "size", "stride", "expected"),
    [
        ("symmetric", 8, 1, 8),
        ("symmetric", 8, 2, 4),
        ("symmetric", 7, 2, 4),
        ("same", 8, 2, 4),
        ("same", 7, 2, 4),
        ("valid", 8, 1, 6),
        (((0, 1), (0, 1)), 8, 2, 4),
    ],
)
def test_sizes(padding, size, stride, expected):
    layer = conv(4, 3, stride=stride, padding=padding, dtype="float32")
    out = jax.eval_shape(lambda x: layer.init_with_output(jax.random.key(0), x)[0], jnp.ones((1, size, size, 2)))
    assert out.shape == (1, expected, expected, 4)


def test_symmetric_and_same_differ_at_stride_two_on_even_maps():
    """One pixel more at the start against one more at the end: the sampling points are shifted by a pixel."""
    x = jnp.arange(8.0)[None, None, :, None] * jnp.ones((1, 8, 1, 1))
    kernel = jnp.zeros((3, 3, 1, 1)).at[1, 1].set(1.0)  # picks the pixel in the middle of the window

    def picked(padding):
        return conv(1, 3, stride=2, padding=padding, dtype="float32").apply({"params": {"kernel": kernel}}, x)[
            0, 1, :, 0
        ]

    np.testing.assert_array_equal(picked("symmetric"), [0, 2, 4, 6])
    np.testing.assert_array_equal(picked("same"), [1, 3, 5, 7])


def test_initial_kernels_have_hes_variance_in_full_and_depthwise_convolutions():
    full = conv(64, 3, dtype="float32").init(jax.random.key(0), jnp.ones((1, 4, 4, 32)))["params"]["kernel"]
    np.testing.assert_allclose(full.var(), 2 / (9 * 64), rtol=0.05)
    layer = conv(512, 3, groups=512, dtype="float32")
    depthwise = layer.init(jax.random.key(0), jnp.ones((1, 4, 4, 512)))["params"]["kernel"]
    assert depthwise.shape == (3, 3, 1, 512)
    np.testing.assert_allclose(depthwise.var(), 2 / 9, rtol=0.1)


@pytest.mark.parametrize(("kernel_size", "sides"), [(2, (0, 1)), (3, (1, 1)), (4, (1, 2))])
def test_symmetric_padding_keeps_the_size_of_the_map_at_stride_one(kernel_size, sides):
    assert conv(4, kernel_size, dtype="float32").padding == (sides, sides)
    half = kernel_size // 2
    assert conv(4, kernel_size, stride=2, dtype="float32").padding == ((half, half), (half, half))


def test_dilation_spreads_the_pixels_of_the_kernel_and_keeps_the_size():
    """It is a convolution with a kernel that has zeros in between."""
    x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 7, 8, 2)), jnp.float32)
    dilated, wide = conv(3, 3, dilation=2, dtype="float32"), conv(3, 5, dtype="float32")
    variables = dilated.init(jax.random.key(0), x)
    kernel = jnp.zeros((5, 5, 2, 3)).at[::2, ::2].set(variables["params"]["kernel"])
    expected = wide.apply({"params": {"kernel": kernel}}, x)
    np.testing.assert_allclose(dilated.apply(variables, x), expected, atol=1e-5)
    assert expected.shape == (1, 7, 8, 3)
