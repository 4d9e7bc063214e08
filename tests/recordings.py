"""Recordings of tones, as the bytes of wav files."""

import io

import numpy as np
from scipy.io import wavfile


def wav(seconds: float = 0.1, rate: int = 8000, channels: int = 1, dtype=np.int16, hertz: float = 440.0) -> bytes:
    """A tone at half the full range."""
    tone = 0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)
    tone = np.stack([tone] * channels, 1) if channels > 1 else tone
    scale = {"i": lambda: np.iinfo(dtype).max, "u": lambda: 127, "f": lambda: 1}[np.dtype(dtype).kind]()
    file = io.BytesIO()
    levels = tone * scale + (128 if dtype is np.uint8 else 0)
    wavfile.write(file, rate, levels.astype(dtype) if np.dtype(dtype).kind == "f" else levels.round().astype(dtype))
    return file.getvalue()
