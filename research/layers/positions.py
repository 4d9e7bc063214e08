"""Where a token stands: rotary, sinusoidal and learned positions along one axis."""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp
from flax import linen as nn

from research.config.checks import check_part
from research.errors import RequestError, TooLong
from research.layers.dtypes import param_dtype


@dataclasses.dataclass(frozen=True)
class Llama3Scaling:
    """Stretches the slow rotations to a longer context and leaves the fast ones alone (Llama 3.1, 2024).

    Attributes:
      factor: how many times longer the slow rotations become.
      low_freq_factor: rotations with a wavelength above original_context / low_freq_factor are slow.
      high_freq_factor: those with a wavelength below original_context / high_freq_factor are fast; between, a mixture.
      original_context: tokens of the context before it was stretched.
    """

    factor: float = 8.0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_context: int = 8192

    def __call__(self, frequencies: jax.Array) -> jax.Array:
        turns = self.original_context * frequencies / (2 * math.pi)  # over the original context
        fast = (turns - self.low_freq_factor) / (self.high_freq_factor - self.low_freq_factor)
        fast = jnp.clip(fast, 0.0, 1.0)
        return fast * frequencies + (1 - fast) * frequencies / self.factor

    def check(self) -> None:
        """Raises `RequestError` where the bands are empty or the factor shrinks."""
        if not self.factor >= 1:
            raise RequestError(f"factor={self.factor}: expected at least 1")
        if not 0 < self.low_freq_factor < self.high_freq_factor:
            raise RequestError(
                f"low_freq_factor={self.low_freq_factor}: expected more than 0 and less than "
                f"high_freq_factor={self.high_freq_factor}"
            )
        if self.original_context < 1:
            raise RequestError(f"original_context={self.original_context}: expected at least 1")


@dataclasses.dataclass(frozen=True)
class Rotary:
    """Turns pairs of features by angles in proportion to the position (RoPE, Su et al., 2021).

    Feature i is paired with i + head_dim / 2, as published Llama-style weights have it.

    Attributes:
      theta: the slowest rotation turns once in about 2π theta positions.
      scaling: of the frequencies, for contexts longer than those of the training.
    """

    theta: float = 10000.0
    scaling: Llama3Scaling | None = None

    def __call__(self, x: jax.Array, positions: jax.Array) -> jax.Array:
        """x [batch, length, heads, head_dim] turned by positions [batch, length]; the angles in float32."""
        half = x.shape[-1] // 2
        frequencies = self.theta ** (-jnp.arange(half, dtype=jnp.float32) / half)
        if self.scaling is not None:
            frequencies = self.scaling(frequencies)
        angles = positions[..., None, None].astype(jnp.float32) * frequencies
        cos, sin = jnp.cos(angles).astype(x.dtype), jnp.sin(angles).astype(x.dtype)
        a, b = x[..., :half], x[..., half:]
        return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)

    def check(self) -> None:
        """Raises `RequestError` for a theta that is not above 0, or scaling that does not hold."""
        if not self.theta > 0:
            raise RequestError(f"theta={self.theta}: expected a number above 0")
        check_part("scaling", self.scaling)


def sinusoidal(
    positions: jax.Array, features: int, *, interleaved: bool = True, shift: float = 0.0, period: float = 10000.0
) -> jax.Array:
    """Sines and cosines of positions [...] at `features` / 2 frequencies, [..., features] in float32.

    Vaswani et al. (2017) interleave: sin, cos, sin, cos, ... of frequencies period^(-2i / features).  With
    `interleaved=False` all sines come first (Marian); with `shift=1` too, the last frequency is 1 / period exactly
    (tensor2tensor, Whisper).
    """
    half = features // 2
    frequencies = period ** (-jnp.arange(half, dtype=jnp.float32) / (half - shift))
    angles = positions[..., None].astype(jnp.float32) * frequencies
    waves = jnp.sin(angles), jnp.cos(angles)
    if interleaved:
        return jnp.stack(waves, axis=-1).reshape(*positions.shape, features)
    return jnp.concatenate(waves, axis=-1)


def learned(
    length: int, features: int, *, dtype: str, name: str, init: nn.initializers.Initializer | None = None
) -> nn.Embed:
    """A table of one learned vector a position, [length, features], looked up by positions."""
    init = init or nn.initializers.normal(0.02)
    return nn.Embed(length, features, dtype=dtype, param_dtype=param_dtype(dtype), embedding_init=init, name=name)


def segment_positions(segments: jax.Array) -> jax.Array:
    """[batch, length] positions that start again at 0 wherever the segment number changes."""
    index = jnp.arange(segments.shape[1])
    begins = segments != jnp.pad(segments, ((0, 0), (1, 0)), constant_values=-1)[:, :-1]
    return index - jax.lax.cummax(jnp.where(begins, index, 0), axis=1)


def text_positions(
    tokens: jax.Array, segments: jax.Array | None, context_length: int, column: str = "tokens"
) -> jax.Array:
    """[1 or batch, length] positions of tokens [batch, length], counted from 0 in every segment.

    Raises:
      TooLong: more tokens than `context_length`; it names the `column` of the batch that they are.
    """
    if segments is not None:
        return segment_positions(segments)
    length = tokens.shape[1]
    if length > context_length:
        raise TooLong(column, length, "in a row", f"context_length={context_length}")
    return jnp.arange(length)[None]


def valid_positions(valid: jax.Array) -> jax.Array:
    """[batch, length] positions that count valid tokens only, so that padding on the left moves nothing; pads get 0."""
    return jnp.maximum(jnp.cumsum(valid.astype(jnp.int32), axis=1) - 1, 0)
