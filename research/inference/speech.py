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
    """Returns the text of a recording, or a list of texts for a list of recordings.

    Long recordings are not cut into pieces.

    Args:
      predictor: a run trained by `Transcription` or `CTCTranscription`.
      recordings: paths of wav files, or arrays [samples] or [samples, channels] (signed integers of full range, or
        floats in -1 ... 1).
      sample_rate: sample rate of arrays in Hz; None takes the rate of the training data.

    Raises:
      RequestError: the run was not trained to transcribe; a recording cannot be read, or is longer than the model's
        `audio_length`.
    """
    check_predictor(predictor, "transcribe", Transcription, CTCTranscription)
    columns = predictor.experiment.data.encode(recordings, sample_rate=sample_rate)
    texts = write(predictor, columns, example="recording")
    return texts if isinstance(recordings, list | tuple) else texts[0]
