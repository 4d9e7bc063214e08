"""Log-mel features against Whisper's, their masks, and refusals."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import parity
import pytest

from research.errors import RequestError
from research.layers.log_mel import LogMel, hertz_to_mel, mel_filters, mel_to_hertz


def test_features_and_masks_are_whispers():
    arrays, metadata = parity.load("mel_whisper")
    assert metadata["config"]["feature_size"] == 80
    lengths = np.array([len(arrays[f"input/wave{i}"]) for i in range(2)])
    waves = np.zeros((2, 16000), np.float32)
    for i, length in enumerate(lengths):
        waves[i, :length] = arrays[f"input/wave{i}"]
    front = LogMel()
    front.check()
    np.testing.assert_allclose(mel_filters(80, 400, 16000), arrays["output/mel_filters"], atol=1e-7)
    features = jax.jit(front)(waves)
    np.testing.assert_allclose(features, arrays["output/input_features"].transpose(0, 2, 1), atol=1e-4)
    np.testing.assert_array_equal(front.mask(lengths, 16000), arrays["output/attention_mask"])


def test_a_pure_tone_is_loudest_in_its_band():
    seconds = np.arange(8000) / 8000
    front = LogMel(mels=40, sample_rate=8000, window=256, hop=80, dynamic_range=None)
    front.check()
    bands = mel_to_hertz(np.linspace(0, hertz_to_mel(np.array(4000.0)), 42))[1:-1]
    for hertz in (500.0, 1500.0, 3000.0):
        features = np.asarray(front(np.sin(2 * np.pi * hertz * seconds)[None]))
        assert features.shape == (1, 100, 40)
        assert (abs(bands[features[0, 5:-5].argmax(axis=1)] - hertz) < 0.08 * hertz).all()


def test_the_mel_scale():
    hertz = np.array([0.0, 440.0, 1000.0, 6400.0])
    np.testing.assert_allclose(hertz_to_mel(hertz), [0, 6.6, 15, 42])
    np.testing.assert_allclose(mel_to_hertz(hertz_to_mel(hertz)), hertz)
    areas = mel_filters(20, 4096, 16000).sum(axis=0) * 16000 / 4096
    np.testing.assert_allclose(areas, 1, atol=1e-3)


def test_silence_and_loudness():
    """Silence gives finite values; the dynamic range keeps only values near the maximum."""
    front = LogMel()
    wave = np.random.default_rng(0).normal(size=(1, 4000)).astype(np.float32) * 0.1
    quiet = np.concatenate([wave, np.zeros_like(wave)], axis=1)
    assert np.isfinite(front(np.zeros((1, 4000)))).all()
    features = np.asarray(front(quiet))
    assert np.isclose(features.max() - features.min(), 2)  # 8 powers of ten in units of 4
    free = np.asarray(dataclasses.replace(front, dynamic_range=None)(quiet))
    np.testing.assert_allclose(free.min(), (np.log10(1e-10) + 4) / 4, atol=1e-6)


BAD = [
    ({"mels": 0}, "mels=0: expected at least 1"),
    ({"hop": -1}, "hop=-1: expected at least 1"),
    ({"dynamic_range": 0.0}, "dynamic_range=0.0: expected a number above 0"),
    ({"mels": 200}, "mels=200: "),
    ({"window": 2**31}, "mels=80, window=2147483648: expected a product of at most"),
    ({"mels": 2**40}, "mels=1099511627776, window=400: expected a product of at most"),
]


@pytest.mark.parametrize(("fields", "line"), BAD, ids=str)
def test_impossible_front_ends_are_refused(fields, line):
    with pytest.raises(RequestError) as refusal:
        LogMel(**fields).check()
    assert str(refusal.value).startswith(line)


@pytest.mark.parametrize(("window", "hop", "least"), [(400, 160, 201), (400, 500, 500)])
def test_a_waveform_that_is_too_short_is_refused(window, hop, least):
    front = LogMel(window=window, hop=hop)
    line = f"waveforms: {least - 1} samples, expected at least {least}, for window={window} and hop={hop}"
    with pytest.raises(RequestError, match=line):
        front(np.zeros((1, least - 1)))
    assert front(np.zeros((1, least))).shape == (1, 1, 80)
