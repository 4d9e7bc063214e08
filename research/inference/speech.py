"""Transcribes recordings with a run trained by `Transcription` or `CTCTranscription`.

from research.inference import load, transcribe

transcribe(load("runs/spoken_digits/base"), "seven.wav")
"""

from __future__ import annotations

from typing import Any

from research.inference.predictor import Predictor
from research.inference.writing import check_predictor, write
from research.tasks.transcription import CTCTranscription, Transcription


def transcribe(predictor: Predictor, recordings: Any, sample_rate: int | None = None) -> str | list[str]:
    """The text of a recording, or of each of a list of them.

    A recording longer than the model's `audio_length` is an error; none is cut into pieces.

    Args:
      recordings: paths of wav files, or arrays [samples] or [samples, channels] (signed integers of full range, or
        floats in -1 ... 1).
      sample_rate: that of arrays, in Hz; None for that of the training data.

    Raises:
      RequestError: the run was not trained to transcribe; a recording cannot be read, or is too long.
    """
    check_predictor(predictor, "transcribe", Transcription, CTCTranscription)
    columns = predictor.experiment.data.encode(recordings, sample_rate=sample_rate)
    texts = write(predictor, columns, example="recording")
    return texts if isinstance(recordings, list | tuple) else texts[0]
