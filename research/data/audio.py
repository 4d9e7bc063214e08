"""Reads audio into int16 waveforms with one channel at one sample rate, from wav files or arrays."""

from __future__ import annotations

import functools
import io
import numbers
import warnings
from math import gcd
from typing import Literal

import numpy as np

from research.errors import RequestError, require

_SIZE = {b"RIFF": (slice(4, 8), "little"), b"RIFX": (slice(4, 8), "big"), b"RF64": (slice(20, 28), "little")}
"""Where each kind of wav header stores the file size (less the first eight bytes), and in which byte order."""

_FASTEST = 1_000_000
"""The highest sample rate accepted, in samples per second; a higher one is a mistake, and its filter would not fit in
memory.
"""


def decode_wav(data: bytes, name: str, sample_rate: int) -> np.ndarray:
    """Decodes a wav file into a mono int16 waveform [samples] at `sample_rate`.

    A file whose header was never finished, since it was streamed or its writer was interrupted, is read to the end.

    Raises:
      RequestError: the data are not a wav file, are cut off, or `to_waveform` refuses the samples; begins with `name`.
    """
    from scipy.io import wavfile

    data = _finished(data)
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


def _finished(data: bytes) -> bytes:
    """Fills in the sizes that the writer of a wav file left open in its header, to come back to it later, and drops the
    part of a last sample.
    """
    order = _SIZE.get(data[:4], (None, None))[1]
    start, frame = _samples(data, order) if order else (None, 1)
    if start is None:
        return data
    riff = _SIZE[data[:4]][0]
    place = slice(28, 36) if data[:4] == b"RF64" else slice(start - 4, start)
    whole, said = (int.from_bytes(data[own], order) for own in (riff, place))
    nothing = said == 0 and (whole + 8 <= start or _is_open(whole) or not _is_chunk(data, start, order))
    if _is_open(said) or nothing:
        said = (len(data) - start) // frame * frame
        data = _with(data[: start + said], place, said, order)
    if _is_open(whole) or whole + 8 < start + said:
        data = _with(data, riff, start + said - 8, order)
    return data


def _samples(data: bytes, order: Literal["little", "big"]) -> tuple[int | None, int]:
    """Returns (where the samples of a wav file start, the bytes of a sample of all channels); None without samples."""
    start, frame = 12, 1
    while start + 8 <= len(data):
        size = int.from_bytes(data[start + 4 : start + 8], order)
        if data[start : start + 4] == b"data":
            return start + 8, frame
        if data[start : start + 4] == b"fmt ":
            frame = max(1, int.from_bytes(data[start + 20 : start + 22], order))
        start += 8 + size + size % 2
    return None, frame


def _is_open(size: int) -> bool:
    """Returns True for the sizes that writers to a pipe put into a header: about 2 GiB (sox) or 4 GiB less a byte."""
    return 0x7FFF0000 <= size <= 0x7FFFFFFF or 0xFFFF0000 <= size <= 0xFFFFFFFF or size >= 2**63


def _is_chunk(data: bytes, start: int, order: Literal["little", "big"]) -> bool:
    """Returns True if `data` ends at `start`, or goes on with the name and the size of something that fits into it."""
    name, size = data[start : start + 4], int.from_bytes(data[start + 4 : start + 8], order)
    return len(name) == 0 or (name.isascii() and name.decode().isprintable() and start + 8 + size <= len(data) + 1)


def _with(data: bytes, place: slice, size: int, order: Literal["little", "big"]) -> bytes:
    return data[: place.start] + size.to_bytes(place.stop - place.start, order) + data[place.stop :]
