"""Reads audio into int16 waveforms with one channel at one sample rate, from wav files or arrays."""

from __future__ import annotations

import functools
import io
import numbers
import warnings
from math import gcd

import numpy as np

from research.errors import RequestError, require

_SIZE = {b"RIFF": (slice(4, 8), "little"), b"RIFX": (slice(4, 8), "big"), b"RF64": (slice(20, 28), "little")}
"""Where each kind of wav header stores the file size (less the first eight bytes), and in which byte order."""

_OPEN = b"\xff" * 4
"""The size in the header of a file that was streamed, so that its length was not known when the header was written."""

_FASTEST = 1_000_000
"""The highest sample rate accepted, in samples per second; a higher one is a mistake, and its filter would not fit in
memory.
"""


def decode_wav(data: bytes, name: str, sample_rate: int) -> np.ndarray:
    """Decodes a wav file into a mono int16 waveform [samples] at `sample_rate`.

    A streamed file, whose header does not give its length, is read to the end.

    Raises:
      RequestError: the data are not a wav file, are cut off, or `to_waveform` refuses the samples; begins with `name`.
    """
    from scipy.io import wavfile

    data = _sized(data)
    place, order = _SIZE.get(data[:4], (slice(0), "little"))
    size = 8 + int.from_bytes(data[place], order)
    whole = data[8:12] != b"WAVE" or len(data) >= size - 1  # some writers omit the byte that pads to an even size
    require(whole, f"{name}: cut off: {len(data):,} bytes, but its header says {size:,}")
    try:
        with warnings.catch_warnings(action="ignore"):
            rate, samples = wavfile.read(io.BytesIO(data))
    except Exception as error:  # the parser raises many types on damaged bytes
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise RequestError(f"{name}: cannot be read as a wav file: {reason}") from None
    return to_waveform(samples, rate, sample_rate, name)


def to_waveform(samples: np.ndarray, rate: int, sample_rate: int, name: str) -> np.ndarray:
    """Converts samples [samples] or [samples, channels] to int16 [samples]: averages the channels, then resamples.

    Args:
      samples: full-range signed integers, uint8 centred on 128, or floats in [-1, 1], clipped to that range.
      rate: the sample rate of `samples`, in Hz.
      sample_rate: the sample rate of the result, in Hz.
      name: the start of every error message.

    Raises:
      RequestError: the shape, type or rate is unsupported, or the samples are empty or not finite.
    """
    whole = isinstance(rate, numbers.Integral) and 1 <= rate <= _FASTEST
    require(whole, f"{name}: sample_rate={rate}: expected a whole number, 1 to {_FASTEST:,}, as in 16000")
    shape = f"{name}: shape {list(samples.shape)}, expected [samples] or [samples, channels]"
    require(samples.ndim in (1, 2), shape)
    require(len(samples) > 0, f"{name}: holds no samples")
    channels = 1 if samples.ndim == 1 else samples.shape[1]
    require(channels > 0, shape)
    require(channels <= len(samples), f"{shape}; transpose it if channels come first")
    if samples.dtype == np.uint8:
        x = (samples.astype(np.float64) - 128) / 128
    elif samples.dtype.kind == "i":
        x = samples.astype(np.float64) / (np.iinfo(samples.dtype).max + 1)
    else:
        require(samples.dtype.kind == "f", f"{name}: {samples.dtype}, expected signed integers, uint8 or floats")
        x = samples.astype(np.float64)
    require(bool(np.isfinite(x).all()), f"{name}: holds numbers that are not finite")
    x = resample(x if x.ndim == 1 else x.mean(axis=1), rate, sample_rate)
    return np.clip(np.round(x * 2**15), -(2**15), 2**15 - 1).astype(np.int16)


def resample(x: np.ndarray, rate: int, sample_rate: int) -> np.ndarray:
    """Resamples x [samples] from `rate` to `sample_rate` Hz: [samples · sample_rate / rate, rounded up].

    Frequencies up to 5/6 of the lower Nyquist frequency are kept to within 0.001 dB.  From 1.07 times that Nyquist
    frequency, aliases and images are attenuated by 100 dB.
    """
    from scipy.signal import resample_poly

    if rate == sample_rate:
        return x
    common = gcd(rate, sample_rate)
    up, down = sample_rate // common, rate // common
    return resample_poly(x, up, down, window=_low_pass(max(up, down)))


@functools.lru_cache(maxsize=8)
def _low_pass(factor: int) -> np.ndarray:
    """A Kaiser-windowed sinc filter [64 · factor + 1] that passes the lowest 1/factor of the spectrum.

    It has 32 zero crossings per side; scipy's default has 10 and leaves images and aliases at -12 dB.
    """
    from scipy.signal import firwin

    return firwin(2 * 32 * factor + 1, 0.945 / factor, window=("kaiser", 12))


def _sized(data: bytes) -> bytes:
    """Fills in the sizes that a streamed wav file left open in its headers."""
    samples = data.find(b"data" + _OPEN) if data.startswith(b"RIFF") else -1
    if samples < 0:
        return data
    riff, size = ((len(data) - start - 8).to_bytes(4, "little") for start in (0, samples))
    return data[:4] + riff + data[8 : samples + 4] + size + data[samples + 8 :]
