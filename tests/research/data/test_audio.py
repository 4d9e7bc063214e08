"""Wav files of every kind hold the same tone; resampling gives no aliases or images; one line per invalid file."""

import wave
from io import BytesIO

import numpy as np
import pytest
from recordings import wav

from research.data.audio import decode_wav, resample, to_waveform
from research.errors import RequestError


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.uint8, np.float32])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("rate", [8000, 16000, 44100])
def test_every_format_becomes_the_same_tone(dtype, channels, rate):
    x = decode_wav(wav(0.2, rate, channels, dtype), "a.wav", 16000)
    assert x.dtype == np.int16 and len(x) == pytest.approx(3200, abs=1)
    expected = 0.5 * np.sin(2 * np.pi * 440 * np.arange(len(x)) / 16000)
    middle = slice(400, 2800)  # the filter of resampling rings at the ends
    np.testing.assert_allclose(x[middle] / 2**15, expected[middle], atol=0.008)


def test_stereo_is_the_mean_of_its_channels():
    left, right = np.arange(100, dtype=np.int16), np.full(100, 50, np.int16)
    mixed = to_waveform(np.stack([left, right], 1), 16000, 16000, "x")
    np.testing.assert_array_equal(mixed, np.round((left + 50) / 2))


def test_24_bits_are_read():
    file = BytesIO()
    with wave.open(file, "wb") as out:
        out.setparams((1, 3, 16000, 0, "NONE", ""))
        out.writeframes(b"".join((2**16 * i).to_bytes(3, "little", signed=True) for i in (-100, 0, 100)))
    np.testing.assert_array_equal(decode_wav(file.getvalue(), "a.wav", 16000), [-25600, 0, 25600])


def test_a_stream_is_read_to_its_end():
    """A writer to a pipe cannot go back to write the length."""
    whole = wav()
    streamed = whole[:4] + b"\xff" * 4 + whole[8:40] + b"\xff" * 4 + whole[44:]
    assert whole[36:40] == b"data"
    np.testing.assert_array_equal(decode_wav(streamed, "a.wav", 8000), decode_wav(whole, "a.wav", 8000))


def sized(data, riff=None, samples=None, order="little"):
    """A wav file with other sizes in its header; None keeps one."""
    at = data.find(b"data") + 4
    for place, size in ((4, riff), (at, samples)):
        data = data if size is None else data[:place] + size.to_bytes(4, order) + data[place + 4 :]
    return data


@pytest.mark.parametrize(
    ("riff", "samples"),
    [
        (0xFFFFFFFF, 0xFFFFFFFF),
        (0xFFFFFFFF, 0xFFFFFFFF - 36),
        (0x7FFFFFFF, 0x7FFFFFFF - 36),
        (0x7FFFF024, 0x7FFFF000),
        (0, 0),
        (36, 0),
        (None, 0),
        (0, None),
        (0xFFFFFFFF, None),
        (0x7FFFF024, 0),
    ],
)
@pytest.mark.parametrize("dtype", [np.int16, np.float32, np.uint8])
@pytest.mark.parametrize("channels", [1, 2])
def test_a_header_that_was_never_finished_is_read_to_the_end(riff, samples, dtype, channels):
    whole = wav(0.1, 8000, channels, dtype)
    expected = decode_wav(whole, "a.wav", 8000)
    np.testing.assert_array_equal(decode_wav(sized(whole, riff, samples), "a.wav", 8000), expected)
    if samples is not None:  # interrupted in the middle of a sample, whose part is dropped
        part = sized(whole, riff, samples)[:-1]
        if (riff, samples) != (None, 0):  # there the header says how long the file was to be
            np.testing.assert_array_equal(decode_wav(part, "a.wav", 8000), expected[:-1])


def test_what_lies_beside_the_samples_is_none_of_them():
    whole = wav()
    at = whole.find(b"data")
    note = b"LIST" + (12).to_bytes(4, "little") + b"data" + b"\xff" * 8
    told = whole[:at] + note + whole[at:]
    told = told[:4] + (len(told) - 8).to_bytes(4, "little") + told[8:]
    np.testing.assert_array_equal(decode_wav(told, "a.wav", 8000), decode_wav(whole, "a.wav", 8000))
    hollow = whole[:at] + b"data" + bytes(4) + note
    hollow = hollow[:4] + (len(hollow) - 8).to_bytes(4, "little") + hollow[8:]
    with pytest.raises(RequestError, match="^a.wav: "):
        decode_wav(hollow, "a.wav", 8000)


@pytest.mark.parametrize("lost", [2, 1000])
def test_a_file_whose_samples_are_cut_off_says_so_without_the_size_of_the_whole(lost):
    with pytest.raises(RequestError, match=f"^a.wav: cut off: {1644 - lost:,} bytes, but its header says 1,644$"):
        decode_wav(sized(wav(), 0)[:-lost], "a.wav", 8000)


@pytest.mark.parametrize("lost", [1, 100, 1599])
@pytest.mark.parametrize("kind", [b"RIFF", b"RIFX"])
def test_a_file_that_is_cut_off_says_so(lost, kind):
    whole = wav()
    size = whole[4:8] if kind == b"RIFF" else whole[4:8][::-1]
    with pytest.raises(RequestError, match=f"^a.wav: cut off: {1643 - lost:,} bytes, but its header says 1,644$"):
        decode_wav((kind + size + whole[8:])[: -lost - 1], "a.wav", 8000)


def test_what_makes_a_size_even_may_be_missing():
    data = wav(0.1 + 1 / 8000, dtype=np.uint8)
    counted = data[:4] + (len(data) - 8 + 1).to_bytes(4, "little") + data[8:]
    assert len(decode_wav(counted, "a.wav", 8000)) == 801


@pytest.mark.parametrize(
    ("samples", "line"),
    [
        (np.zeros(0, np.int16), "holds no samples"),
        (np.zeros((0, 2), np.int16), "holds no samples"),
        (np.zeros((2, 3, 4)), r"shape \[2, 3, 4\], expected \[samples\] or \[samples, channels\]"),
        (np.zeros((5, 0)), r"shape \[5, 0\], expected \[samples\] or \[samples, channels\]"),
        (np.float32(1), r"shape \[\], expected"),
        (np.zeros((2, 800), np.int16), r"shape \[2, 800\], expected .*channels\]; transpose it if channels come first"),
        (np.zeros(9, np.uint16), "uint16, expected signed integers, uint8 or floats"),
        (np.zeros(9, bool), "bool, expected signed integers, uint8 or floats"),
        (np.zeros(9, complex), "complex128, expected signed integers, uint8 or floats"),
        (np.array([0, np.inf]), "holds numbers that are not finite"),
    ],
    ids=str,
)
def test_samples_that_cannot_be_are_one_line(samples, line):
    with pytest.raises(RequestError, match=f"^x: {line}"):
        to_waveform(samples, 8000, 16000, "x")


def test_a_file_without_a_sample_rate_is_one_line():
    data = wav()
    with pytest.raises(RequestError, match="^a.wav: sample_rate=0: expected a whole number, 1 to 1,000,000"):
        decode_wav(data[:24] + bytes(8) + data[32:], "a.wav", 16000)


def loudness(x: np.ndarray, rate: int, hertz: float) -> tuple[float, float]:
    """The level in decibels of a tone of amplitude 1 at that frequency, and of the loudest other frequency."""
    x = x[len(x) // 4 : -len(x) // 4]  # the filter rings at the ends
    window = np.blackman(len(x))
    spectrum = np.abs(np.fft.rfft(x * window)) / (window.sum() / 2)
    near = abs(np.fft.rfftfreq(len(x), 1 / rate) - hertz) < 50
    return tuple(20 * np.log10(spectrum[part].max(initial=1e-9)) for part in (near, ~near))


def tone(hertz: float, rate: int) -> np.ndarray:
    return np.sin(2 * np.pi * hertz * np.arange(rate) / rate)


@pytest.mark.parametrize(("rate", "sample_rate", "hertz"), [
    (8000, 16000, 1000), (8000, 16000, 3300), (44100, 16000, 6500), (22050, 16000, 6500), (16000, 8000, 3000),
])  # fmt: skip
def test_tones_that_both_rates_carry_stay_alone_and_as_loud(rate, sample_rate, hertz):
    heard, other = loudness(resample(tone(hertz, rate), rate, sample_rate), sample_rate, hertz)
    assert abs(heard) < 0.1 and other < -60


def test_a_tone_near_the_old_limit_has_no_image_above_it():
    assert loudness(resample(tone(3800, 8000), 8000, 16000), 16000, 3800)[1] < -60


@pytest.mark.parametrize("rate", [44100, 48000, 22050])
@pytest.mark.parametrize("hertz", [8500, 10000])
def test_a_tone_above_the_new_limit_is_not_folded_below_it(rate, hertz):
    assert max(loudness(resample(tone(hertz, rate), rate, 16000), 16000, 0)) < -60


def test_the_same_rate_changes_nothing():
    x = tone(100, 8000)
    assert resample(x, 8000, 8000) is x
