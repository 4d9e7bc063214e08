"""Log-mel features of speech as used by Whisper: the log energy of frequency bands per frame, inside the program."""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from research.config.checks import check_counts
from research.errors import RequestError, require
from research.layers.rows import on_each_row

_MOST_WEIGHTS = 2**26  # of filters; more take long to make


@dataclasses.dataclass(frozen=True)
class LogMel:
    """Converts waveforms [batch, samples] to features [batch, frames, mels], with one frame per `hop` samples.

    >>> LogMel(mels=80)(jnp.zeros((1, 16000))).shape
    (1, 100, 80)

    Attributes:
      mels: the number of bands, equally spaced on the mel scale from 0 Hz to half the sample rate.
      sample_rate: in Hz.
      window: samples per frame, weighted by a Hann window.
      hop: samples between the starts of consecutive frames.
      dynamic_range: log energies are clipped to this many powers of ten below the maximum of the waveform; None
        disables clipping.
    """

    mels: int = 80
    sample_rate: int = 16000
    window: int = 400
    hop: int = 160
    dynamic_range: float | None = 8.0

    def check(self) -> None:
        """Raises RequestError for counts below 1, bands that contain no frequency, or a range that is not positive."""
        check_counts(self, "mels", "sample_rate", "window", "hop")
        require(
            self.dynamic_range is None or self.dynamic_range > 0,
            f"dynamic_range={self.dynamic_range}: expected a number above 0, or none",
        )
        require(
            self.mels * self.window <= _MOST_WEIGHTS,
            f"mels={self.mels}, window={self.window}: expected a product of at most {_MOST_WEIGHTS:,}",
        )
        empty = int((mel_filters(self.mels, self.window, self.sample_rate).max(axis=0) == 0).sum())
        if empty:
            raise RequestError(
                f"mels={self.mels}: {empty} bands are too narrow for window={self.window}; expected fewer bands"
            )

    def __call__(self, waveforms: jax.Array) -> jax.Array:
        """Converts waveforms [batch, samples] in [-1, 1] to [batch, samples // hop, mels] of order 1, in float32.

        Raises:
          RequestError: a waveform is at most half a window long, too short to be reflected at its ends, or shorter than
            one hop.
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
        power = jnp.square(jnp.abs(on_each_row(jnp.fft.rfft, frames)))
        bands = power @ mel_filters(self.mels, self.window, self.sample_rate)
        log = jnp.log10(jnp.maximum(bands, 1e-10))
        if self.dynamic_range is not None:
            log = jnp.maximum(log, log.max(axis=(1, 2), keepdims=True) - self.dynamic_range)
        return (log + 4) / 4

    def frames(self, samples: int) -> int:
        """The number of frames of a waveform."""
        return samples // self.hop

    def mask(self, lengths: jax.Array, samples: int) -> jax.Array:
        """True for frames whose centre lies within the first `lengths` [batch] of `samples` samples: bool [batch,
        frames].
        """
        return jnp.arange(self.frames(samples)) * self.hop < lengths[:, None]


@functools.cache
def hann(length: int) -> np.ndarray:
    """A periodic Hann window, [length]."""
    return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)).astype(np.float32)


@functools.cache
def mel_filters(mels: int, window: int, sample_rate: int) -> np.ndarray:
    """Overlapping triangular filters of area 1 over the frequencies of a spectrum, [window // 2 + 1, mels] (Slaney,
    1998).
    """
    frequencies = np.arange(window // 2 + 1) * sample_rate / window
    edges = mel_to_hertz(np.linspace(0, hertz_to_mel(np.array(sample_rate / 2)), mels + 2))
    low, peak, high = edges[:-2], edges[1:-1], edges[2:]
    rising = (frequencies[:, None] - low) / (peak - low)
    falling = (high - frequencies[:, None]) / (high - peak)
    triangles = np.maximum(0, np.minimum(rising, falling))
    return (triangles * 2 / (high - low)).astype(np.float32)


# Slaney's scale: linear up to 1000 Hz, which is 15 mels; above that, 27 mels are a factor of 6.4.
_KNEE, _STEP = 15.0, np.log(6.4) / 27


def hertz_to_mel(hertz: np.ndarray) -> np.ndarray:
    """Converts Hz to Slaney's mel scale."""
    above = np.log(np.maximum(hertz, 1000) / 1000) / _STEP
    return np.where(hertz < 1000, hertz * _KNEE / 1000, _KNEE + above)


def mel_to_hertz(mel: np.ndarray) -> np.ndarray:
    """Converts Slaney's mel scale to Hz."""
    return np.where(mel < _KNEE, mel * 1000 / _KNEE, 1000 * np.exp(_STEP * np.maximum(mel - _KNEE, 0)))
