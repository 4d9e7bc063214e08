"""2-D convolution with common conventions: NHWC, explicit padding, and initialisation for the following activation."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Literal

import jax
from flax import linen as nn

from research.layers.convolve import Kernel, convolve
from research.layers.dtypes import param_dtype

Padding = Literal["symmetric", "same", "valid"]


def conv(
    features: int,
    kernel_size: int,
    *,
    stride: int = 1,
    groups: int = 1,
    dilation: int = 1,
    padding: Padding | tuple[tuple[int, int], tuple[int, int]] = "symmetric",
    use_bias: bool = False,
    dtype: str,
    kernel_init: nn.initializers.Initializer | None = None,
    kernel: Kernel = "auto",
    name: str | None = None,
) -> nn.Conv:
    """A square 2-D convolution, [batch, height, width, channels] to [..., features].

    Args:
      features: the number of output channels.
      kernel_size: the side of the kernel in pixels.
      dilation: pixels between neighbouring pixels of the kernel; padding "symmetric" grows with it.
      groups: 1 for a full convolution, the number of channels for a depthwise one.
      padding: "symmetric" pads kernel_size // 2 zeros on every side, as in PyTorch models; at stride 1 with an even
        kernel, one less at the start, which keeps the size of the map.  "same" is TensorFlow's and XLA's, which may pad
        the end more than the start at stride 2.  "valid" pads nothing.  Or ((top, bottom), (left, right)).
      kernel_init: None uses He initialisation for relu, by fan-out (He et al., 2015).
      kernel: the implementation; see `research.layers.convolve`.
    """
    half = dilation * (kernel_size // 2)
    sides = (dilation * ((kernel_size - 1) // 2) if stride == 1 else half, half)
    named = {"symmetric": (sides, sides), "same": "SAME", "valid": "VALID"}
    # Flax's fan-out counts the outputs of all groups, but an input reaches only those of its own group.
    he = nn.initializers.variance_scaling(2.0 * groups, "fan_out", "truncated_normal")
    return nn.Conv(
        features,
        (kernel_size, kernel_size),
        strides=stride,
        padding=named[padding] if isinstance(padding, str) else padding,
        kernel_dilation=dilation,
        feature_group_count=groups,
        use_bias=use_bias,
        dtype=dtype,
        param_dtype=param_dtype(dtype),
        kernel_init=kernel_init or he,
        conv_general_dilated=_by(kernel) if dilation == 1 else None,  # the other kernels know no dilation
        name=name,
    )


@functools.cache
def _by(kernel: Kernel) -> Callable[..., jax.Array]:
    """Wraps `convolve` for Flax; caches the function, so that equal layers compare equal."""

    def run(x: jax.Array, weights: jax.Array, strides, padding, *, feature_group_count: int, **_) -> jax.Array:
        return convolve(x, weights, strides=strides, padding=padding, groups=feature_group_count, kernel=kernel)

    return run
