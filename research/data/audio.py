"""Audio as it is kept here: int16 of one channel at one sample rate, from wav files and arrays of every other kind."""

from __future__ import annotations

import functools
import io
import numbers
import warnings
from math import gcd

import numpy as np

from research.errors import RequestError, require

_SIZE = {b"RIFF": (slice(4, 8), "little"), b"RIFX": (slice(4, 8), "big"), b"RF64": (slice(20, 28), "little")}
"""Where the kinds of wav files say how many bytes follow, the first eight not counted, and in what order."""

_OPEN = b"\xff" * 4
"""The size that a file has which was written as a stream, by who could not go back and say it."""

_FASTEST = 1_000_000
"""Samples a second, over which a sample rate is a mistake, and its filter would take the memory."""


def decode_wav(data: bytes, name: str, sample_rate: int) -> np.ndarray:
    """The waveform in a wav file, int16 [samples], of one channel and this sample rate.

    A file that was streamed, and does not say how long it is, is read to its end.

    Raises:
      RequestError: it is no wav file, is cut off, or `to_waveform` refuses its samples; `name` is said first.
    """
    from scipy.io import wavfile

    data = _sized(data)
    place, order = _SIZE.get(data[:4], (slice(0), "little"))
    size = 8 + int.from_bytes(data[place], order)
    whole = data[8:12] != b"WAVE" or len(data) >= size - 1  # some do not write the byte that makes a size even
    require(whole, f"{name}: cut off: {len(data):,} bytes of the {size:,} that it says it has")
    try:
        with warnings.catch_warnings(action="ignore"):
            rate, samples = wavfile.read(io.BytesIO(data))
    except Exception as error:  # of whatever its bytes make it stumble over
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise RequestError(f"{name}: cannot be read as a wav file: {reason}") from None
    return to_waveform(samples, rate, sample_rate, name)


def to_waveform(samples: np.ndarray, rate: int, sample_rate: int, name: str) -> np.ndarray:
    """Samples [samples] or [samples, channels] as int16 [samples]: the mean of the channels, resampled.

    Args:
      samples: signed integers of full range, uint8 around 128, or floats in -1 ... 1, of which what is beyond is cut.
      rate: how many there are in a second.
      sample_rate: how many there are to be.
      name: what an error begins with.

    Raises:
      RequestError: another shape, type or rate; no samples, or some that are not finite.
    """
    whole = isinstance(rate, numbers.Integral) and 1 <= rate <= _FASTEST
    require(whole, f"{name}: sample_rate={rate}: expected a whole number, 1 to {_FASTEST:,}, as in 16000")
    shape = f"{name}: shape {list(samples.shape)}, expected [samples] or [samples, channels]"
    require(samples.ndim in (1, 2), shape)
    require(len(samples) > 0, f"{name}: no samples in it")
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
    """Samples [samples] of `rate` in a second as samples [samples · sample_rate / rate, rounded up] of `sample_rate`.

    Frequencies up to 5/6 of what both rates can carry stay as they are, to 0.001 dB; from 1.07 times that on, what
    would be folded back or mirrored is 100 dB down.
    """
    from scipy.signal import resample_poly

    if rate == sample_rate:
        return x
    common = gcd(rate, sample_rate)
    up, down = sample_rate // common, rate // common
    return resample_poly(x, up, down, window=_low_pass(max(up, down)))


@functools.lru_cache(maxsize=8)
def _low_pass(factor: int) -> np.ndarray:
    """[64 · factor + 1], a sinc under Kaiser's window that lets one part in `factor` of the frequencies through.

    scipy's own has 10 zeros on a side where this has 32, and leaves images and aliases at -12 dB.
    """
    from scipy.signal import firwin

    return firwin(2 * 32 * factor + 1, 0.945 / factor, window=("kaiser", 12))


def _sized(data: bytes) -> bytes:
    """A wav file, with the sizes that it has where it left them open."""
    samples = data.find(b"data" + _OPEN) if data.startswith(b"RIFF") else -1
    if samples < 0:
        return data
    riff, size = ((len(data) - start - 8).to_bytes(4, "little") for start in (0, samples))
    return data[:4] + riff + data[8 : samples + 4] + size + data[samples + 8 :]
