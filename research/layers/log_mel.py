"""Log-mel features of speech, as Whisper sees them: how loud each band of pitch is in each frame; in the program."""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from research.config.checks import check_counts
from research.errors import RequestError, require


@dataclasses.dataclass(frozen=True)
class LogMel:
    """Waveforms [batch, samples] to features [batch, frames, mels]; there is a frame for every `hop` samples.

    Attributes:
      mels: bands, equally wide to the ear, from 0 Hz to half the sample rate.
      sample_rate: samples in a second.
      window: samples that a frame looks at, under a Hann window in its middle.
      hop: samples from one frame to the next.
      dynamic_range: what is so many powers of ten below the loudest band and frame of a waveform, or more, counts as so
        many; None keeps it.
    """

    mels: int = 80
    sample_rate: int = 16000
    window: int = 400
    hop: int = 160
    dynamic_range: float | None = 8.0

    def check(self) -> None:
        """Raises `RequestError` for counts below 1, bands without a frequency in them, or a range not above 0."""
        check_counts(self, "mels", "sample_rate", "window", "hop")
        require(
            self.dynamic_range is None or self.dynamic_range > 0,
            f"dynamic_range={self.dynamic_range}: expected a number above 0, or none",
        )
        empty = int((mel_filters(self.mels, self.window, self.sample_rate).max(axis=0) == 0).sum())
        if empty:
            raise RequestError(
                f"mels={self.mels}: {empty} bands are too narrow for window={self.window}; expected fewer bands"
            )

    def __call__(self, waveforms: jax.Array) -> jax.Array:
        """[batch, samples] in -1 ... 1 to [batch, samples // hop, mels], of size 1; computed in float32.

        Raises:
          RequestError: a waveform of half a window or less, which is too short to be reflected at its ends, or shorter
            than a hop, which has no frame.
        """
        samples = waveforms.shape[-1]
        half = self.window // 2
        least = max(half + 1, self.hop)
        require(
            samples >= least,
            f"waveforms: {samples} samples, expected at least {least}, for window={self.window} and hop={self.hop}",
        )
        x = jnp.pad(waveforms.astype(jnp.float32), ((0, 0), (half, half)), mode="reflect")
        starts = np.arange(self.frames(samples)) * self.hop
        frames = x[:, starts[:, None] + np.arange(self.window)] * hann(self.window)
        power = jnp.square(jnp.abs(jnp.fft.rfft(frames)))
        bands = power @ mel_filters(self.mels, self.window, self.sample_rate)
        log = jnp.log10(jnp.maximum(bands, 1e-10))
        if self.dynamic_range is not None:
            log = jnp.maximum(log, log.max(axis=(1, 2), keepdims=True) - self.dynamic_range)
        return (log + 4) / 4

    def frames(self, samples: int) -> int:
        """Frames of a waveform."""
        return samples // self.hop

    def mask(self, lengths: jax.Array, samples: int) -> jax.Array:
        """[batch, frames] bool: the frames of `samples` whose middle lies in the first `lengths` [batch] of them."""
        return jnp.arange(self.frames(samples)) * self.hop < lengths[:, None]


@functools.cache
def hann(length: int) -> np.ndarray:
    """[length], a periodic Hann window."""
    return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)).astype(np.float32)


@functools.cache
def mel_filters(mels: int, window: int, sample_rate: int) -> np.ndarray:
    """[window // 2 + 1, mels]: overlapping triangles of area 1 over the frequencies of a spectrum (Slaney, 1998)."""
    frequencies = np.arange(window // 2 + 1) * sample_rate / window
    edges = mel_to_hertz(np.linspace(0, hertz_to_mel(np.array(sample_rate / 2)), mels + 2))
    low, peak, high = edges[:-2], edges[1:-1], edges[2:]
    rising = (frequencies[:, None] - low) / (peak - low)
    falling = (high - frequencies[:, None]) / (high - peak)
    triangles = np.maximum(0, np.minimum(rising, falling))
    return (triangles * 2 / (high - low)).astype(np.float32)


# Slaney's scale: 15 mels are 1000 Hz, linear below; above, 27 more are a factor of 6.4.
_KNEE, _STEP = 15.0, np.log(6.4) / 27


def hertz_to_mel(hertz: np.ndarray) -> np.ndarray:
    """Slaney's mel scale."""
    above = np.log(np.maximum(hertz, 1000) / 1000) / _STEP
    return np.where(hertz < 1000, hertz * _KNEE / 1000, _KNEE + above)


def mel_to_hertz(mel: np.ndarray) -> np.ndarray:
    """The inverse of `hertz_to_mel`."""
    return np.where(mel < _KNEE, mel * 1000 / _KNEE, 1000 * np.exp(_STEP * np.maximum(mel - _KNEE, 0)))
