"""Position encodings along one axis: rotary, sinusoidal and learned."""

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
    """Stretches slow rotations to a longer context and keeps fast ones (Llama 3.1, 2024).

    Attributes:
      factor: the factor by which slow rotations are stretched.
      low_freq_factor: rotations with a wavelength above original_context / low_freq_factor are slow.
      high_freq_factor: rotations with a wavelength below original_context / high_freq_factor are fast; those in between
        are interpolated.
      original_context: the context length, in tokens, before stretching.
    """

    factor: float = 8.0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_context: int = 8192

    def __call__(self, frequencies: jax.Array) -> jax.Array:
        turns = self.original_context * frequencies / (2 * math.pi)  # per original context
        fast = (turns - self.low_freq_factor) / (self.high_freq_factor - self.low_freq_factor)
        fast = jnp.clip(fast, 0.0, 1.0)
        return fast * frequencies + (1 - fast) * frequencies / self.factor

    def check(self) -> None:
        """Raises RequestError if the bands are empty or the factor is below 1."""
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
    """Rotates pairs of features by angles proportional to the position (RoPE, Su et al., 2021).

    Feature i is paired with i + head_dim / 2, as in published Llama-style weights.

    Attributes:
      theta: the slowest rotation turns once in about 2π theta positions.
      scaling: of the frequencies, for contexts longer than in training.
    """

    theta: float = 10000.0
    scaling: Llama3Scaling | None = None

    def __call__(self, x: jax.Array, positions: jax.Array) -> jax.Array:
        """Rotates x [batch, length, heads, head_dim] for positions [batch, length]; angles are in float32."""
        half = x.shape[-1] // 2
        frequencies = self.theta ** (-jnp.arange(half, dtype=jnp.float32) / half)
        if self.scaling is not None:
            frequencies = self.scaling(frequencies)
        angles = positions[..., None, None].astype(jnp.float32) * frequencies
        cos, sin = jnp.cos(angles).astype(x.dtype), jnp.sin(angles).astype(x.dtype)
        a, b = x[..., :half], x[..., half:]
        return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)

    def check(self) -> None:
        """Raises RequestError if theta is not positive or scaling is invalid."""
        if not self.theta > 0:
            raise RequestError(f"theta={self.theta}: expected a number above 0")
        check_part("scaling", self.scaling)


def sinusoidal(
    positions: jax.Array, features: int, *, interleaved: bool = True, shift: float = 0.0, period: float = 10000.0
) -> jax.Array:
    """Sines and cosines of positions [...] at `features` / 2 frequencies: [..., features] in float32.

    Vaswani et al. (2017) interleave sin, cos, sin, cos, ... with frequencies period^(-2i / features).  With
    `interleaved=False` all sines come first (Marian); with `shift=1` as well, the last frequency is exactly 1 / period
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
    """A table of one learned vector per position, [length, features]."""
    init = init or nn.initializers.normal(0.02)
    return nn.Embed(length, features, dtype=dtype, param_dtype=param_dtype(dtype), embedding_init=init, name=name)


def segment_positions(segments: jax.Array) -> jax.Array:
    """Positions [batch, length] that restart at 0 where the segment number changes.

    >>> segment_positions(jnp.array([[1, 1, 1, 2, 2]])).tolist()
    [[0, 1, 2, 0, 1]]
    """
    index = jnp.arange(segments.shape[1])
    begins = segments != jnp.pad(segments, ((0, 0), (1, 0)), constant_values=-1)[:, :-1]
    return index - jax.lax.cummax(jnp.where(begins, index, 0), axis=1)


def text_positions(
    tokens: jax.Array, segments: jax.Array | None, context_length: int, column: str = "tokens"
) -> jax.Array:
    """Positions [1 or batch, length] of tokens [batch, length], counted from 0 in every segment.

    Raises:
      TooLong: there are more tokens than `context_length`; names the `column` of the batch.
    """
    if segments is not None:
        return segment_positions(segments)
    length = tokens.shape[1]
    if length > context_length:
        raise TooLong(column, length, "in a row", f"context_length={context_length}")
    return jnp.arange(length)[None]


def valid_positions(valid: jax.Array) -> jax.Array:
    """Positions [batch, length] that count only valid tokens, so left padding does not shift them; padding gets 0."""
    return jnp.maximum(jnp.cumsum(valid.astype(jnp.int32), axis=1) - 1, 0)
