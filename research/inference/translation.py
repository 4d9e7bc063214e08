"""Translates sentences with a run trained by `Translation`.

from research.inference import load, translate

translate(load("runs/multi30k_translation/base"), ["Ein Hund läuft."])
"""

from __future__ import annotations

from collections.abc import Sequence

from research.inference.predictor import Predictor
from research.inference.writing import check_predictor, write
from research.tasks.translation import Translation


def translate(predictor: Predictor, sentences: str | Sequence[str]) -> str | list[str]:
    """Returns the translation of a sentence, or a list of translations for a list of sentences.

    The run's task holds the settings of decoding.

    Raises:
      RequestError: the run was not trained by `Translation`; a sentence is empty, has characters that the tokenizer
        does not know, or is longer than the model's `context_length`.
    """
    check_predictor(predictor, "translate", Translation)
    texts = write(predictor, predictor.experiment.data.encode(sentences), example="sentence")
    return texts[0] if isinstance(sentences, str) else texts
