"""2-D convolution with three interchangeable kernels, chosen separately for the output and for each gradient.

XLA's own convolution is fast for large maps with many channels.  On a CPU it is slower than a matrix product for maps
of a few pixels, and many times slower than a sum of shifted maps for depthwise convolutions.  The timings are in
experiments/speed/convolution_kernels.py.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from research.layers import kernels
from research.layers.depthwise import depthwise
from research.layers.window import Pads, Window, cropped, output_size, shifted, tiles

Kernel = Literal["auto", "xla", "patches", "shifts"]
"""xla: lax.conv_general_dilated.  patches: every window becomes a row of a matrix, for one product.  shifts: one
product per pixel of the kernel, with the map shifted by it, summed; elementwise if depthwise.
"""


class Kernels(NamedTuple):
    """The kernels for the output, for the gradient of the input, and for the gradient of the weights."""

    output: str
    input_gradient: str
    weight_gradient: str


XLA = Kernels("xla", "xla", "xla")
PATCHES = Kernels("patches", "patches", "patches")
SHIFTS = Kernels("shifts", "shifts", "shifts")


def convolve(
    x: jax.Array,
    weights: jax.Array,
    *,
    strides: tuple[int, int] = (1, 1),
    padding: Pads | str = "VALID",
    groups: int = 1,
    kernel: Kernel = "auto",
    platform: str | None = None,
) -> jax.Array:
    """Convolves [batch, height, width, channels] with weights [rows, columns, channels // groups, features].

    Returns [batch, height, width, features].

    Args:
      padding: zeros around the map, ((top, bottom), (left, right)), or "SAME" or "VALID" as in `lax`.
      kernel: "auto" uses the table's choice.  Groups need "xla"; depthwise convolutions can also use "shifts".
      platform: the platform to compile for; None means this machine.
    """
    if isinstance(padding, str):
        padding = tuple(lax.padtype_to_pads(x.shape[1:3], weights.shape[:2], strides, padding))
    window = Window(tuple(strides), tuple((int(low), int(high)) for low, high in padding), groups)
    weights, window = cropped(x, weights, window)
    if kernel == "auto":
        chosen, reason = choose_kernels(x.shape, weights.shape, window, kernels.target_platform(platform))
    else:
        able = groups == 1 or (kernel == "shifts" and _depthwise(x.shape, weights.shape, window))
        chosen, reason = Kernels(kernel, kernel, kernel) if able else XLA, "asked for"
    names = dict.fromkeys(chosen)
    kernels.note("convolution", f"{' + '.join(names)} ({reason})")
    if len(names) == 1:
        return _KERNELS[chosen.output](x, weights, window)
    return _convolve(x, weights, window, chosen)


def choose_kernels(
    shape: tuple[int, ...], weights: tuple[int, ...], window: Window, platform: str
) -> tuple[Kernels, str]:
    """Returns the table's kernels for a map and weights of these shapes, and the reason."""
    reason = f"the table's for {platform}"
    if platform != "cpu":
        return XLA, reason
    if window.groups > 1:
        return SHIFTS if _depthwise(shape, weights, window) else XLA, reason
    rows, columns, channels, _ = weights
    height, width = output_size(shape, weights, window)
    if rows == columns == 1 or tiles(shape, weights, window) or height * width <= 4:
        return PATCHES, reason
    if channels == 1:
        return Kernels("shifts", "patches", "patches"), reason
    if max(window.strides) > 1 and channels >= 32:
        return Kernels("xla", "patches", "shifts"), reason
    return XLA, reason


def _depthwise(shape: tuple[int, ...], weights: tuple[int, ...], window: Window) -> bool:
    """True if every channel has its own kernel and one output."""
    return window.groups == shape[-1] == weights[-1]


# -- kernels -------------------------------------------------------------------------------------------------------


def _xla(x: jax.Array, weights: jax.Array, window: Window) -> jax.Array:
    return lax.conv_general_dilated(
        x,
        weights,
        window.strides,
        window.padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=window.groups,
    )


def _patches(x: jax.Array, weights: jax.Array, window: Window) -> jax.Array:
    batch, channels = len(x), x.shape[-1]
    rows, columns, _, features = weights.shape
    height, width = output_size(x.shape, weights.shape, window)
    if tiles(x.shape, weights.shape, window):
        patches = x.reshape(batch, height, rows, width, columns, channels).swapaxes(2, 3)
    else:
        patches = jnp.concatenate(shifted(x, weights.shape, window), axis=-1)
    out = patches.reshape(-1, rows * columns * channels) @ weights.reshape(-1, features)
    return out.reshape(batch, height, width, features)


def _shifts(x: jax.Array, weights: jax.Array, window: Window) -> jax.Array:
    if window.groups > 1:
        return depthwise(x, weights, window)
    taps = weights.reshape(-1, *weights.shape[2:])
    products = (view @ tap for view, tap in zip(shifted(x, weights.shape, window), taps, strict=True))
    return functools.reduce(jnp.add, products)


_KERNELS: dict[str, Callable[[jax.Array, jax.Array, Window], jax.Array]] = {
    "xla": _xla,
    "patches": _patches,
    "shifts": _shifts,
}


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _convolve(x: jax.Array, weights: jax.Array, window: Window, chosen: Kernels) -> jax.Array:
    return _KERNELS[chosen.output](x, weights, window)


def _forward(x, weights, window, chosen):
    return _convolve(x, weights, window, chosen), (x, weights)


def _backward(window, chosen, saved, gradient):
    """The transposes of the chosen kernels; XLA removes their unused forward computation."""
    x, weights = saved
    by_input = jax.vjp(lambda x: _KERNELS[chosen.input_gradient](x, weights, window), x)[1]
    by_weights = jax.vjp(lambda weights: _KERNELS[chosen.weight_gradient](x, weights, window), weights)[1]
    return *by_input(gradient), *by_weights(gradient)


_convolve.defvjp(_forward, _backward)
