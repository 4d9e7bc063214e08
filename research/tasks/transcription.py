"""Speech recognition with an encoder-decoder or with CTC; word and character error rates by jiwer.

The model reads a recording as a whole; a recording longer than its `audio_length` is refused, not split.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from research.config.extras import from_extra
from research.errors import require
from research.losses import ctc
from research.tasks.sequence_to_sequence import SequenceToSequence, Texts
from research.tasks.task import Apply, Batch, Direction, Terms


@dataclasses.dataclass(frozen=True, kw_only=True)
class Transcription(SequenceToSequence):
    """Writes the text of `features` token by token (Whisper).

    >>> Transcription(beams=5, max_new_tokens=200).input
    'features'

    Metrics: those of `SequenceToSequence`, and "wer" and "cer", the word and character error rates: edits as a fraction
    of the reference.

    Attributes:
      input: the input column, features [batch, frames, mels]; "features_mask" is its mask.
    """

    better: ClassVar[Mapping[str, Direction]] = {**SequenceToSequence.better, "wer": "min", "cer": "min"}

    input: str = "features"

    def check(self) -> None:
        super().check()
        _jiwer()

    def text_metrics(self, hypotheses: Sequence[str], references: Sequence[str]) -> dict[str, float]:
        return error_rates(hypotheses, references)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CTCTranscription(Texts):
    """Writes the text of `features` with CTC, which sums over the alignments of the text (Graves et al., 2006).

    >>> CTCTranscription(beams=8).beams
    8

    Training term: "loss", nats per token of the text; a text that is too long for its features is left out.  Metrics:
    "loss", "wer" and "cer" (error rates, as fractions), and "too_long", the fraction of texts that are too long.  The
    blank is token 0, "<pad>".

    Attributes:
      input: the input column, features [batch, frames, mels]; "features_mask" is its mask.
      beams: 1 decodes the most probable alignment; more search for the most probable text.
    """

    better: ClassVar[Mapping[str, Direction]] = {"loss": "min", "wer": "min", "cer": "min", "too_long": "min"}

    input: str = "features"
    beams: int = 1

    def check(self) -> None:
        super().check()
        require(self.beams >= 1, f"beams={self.beams}: expected at least 1")
        _jiwer()

    def text_metrics(self, hypotheses: Sequence[str], references: Sequence[str]) -> dict[str, float]:
        return error_rates(hypotheses, references)

    def inputs(self, batch: Batch) -> dict[str, jax.Array]:
        """Returns {"features": [batch, frames, mels], "features_mask": bool [batch, frames]}."""
        features, mask = self._input(batch)
        return {self.input: features, f"{self.input}_mask": mask}

    def _losses(self, apply: Apply, batch: Batch, **kwargs: Any) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Returns the loss, the number of text tokens, and whether the text fits its features, each [batch]."""
        logits, mask = apply(**self.inputs(batch), **kwargs)
        self._vocabulary(logits)
        target, target_mask = batch[self.target].astype(jnp.int32), batch[f"{self.target}_mask"]
        labels_mask = jnp.pad(target_mask[:, 1:], ((0, 0), (0, 1)))  # without the end token, which CTC does not need
        fits = ctc.fits(mask, target, labels_mask)
        return ctc.ctc_loss(logits, mask, target, labels_mask), labels_mask.sum(axis=1), fits

    def loss(self, apply: Apply, batch: Batch) -> Terms:
        """Returns the term "loss", in nats per token."""
        losses, tokens, fits = self._losses(apply, batch, train=True)
        counted = batch["weight"] * fits
        return {"loss": ((losses * counted).sum(), (tokens * counted).sum())}

    def eval_outputs(self, apply: Apply, batch: Batch) -> dict[str, jax.Array]:
        """Returns {"loss" (nats), "tokens", "too_long"}, each [batch], and decoded texts as in `SequenceToSequence`."""
        losses, tokens, fits = self._losses(apply, batch, train=False)
        return {"loss": losses, "tokens": tokens * fits, "too_long": ~fits, **self._texts(apply, batch)}

    def finalize(self, outputs: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Returns "loss", "too_long", "wer" and "cer"; see the class."""
        loss = float(outputs["loss"].sum(dtype=np.float64)) / max(1, int(outputs["tokens"].sum()))
        return {"loss": loss, "too_long": float(outputs["too_long"].mean()), **self._finalized(outputs)}

    def written(self, apply: Apply, batch: Batch) -> jax.Array:
        logits, mask = apply(**self.inputs(batch), train=False)
        logits = logits if self.tokenizer is None else logits[..., : self.tokenizer.vocab_size]
        if self.beams == 1:
            return ctc.greedy(logits, mask).tokens
        return ctc.prefix_beam_search(logits, mask, beams=self.beams).tokens


def error_rates(hypotheses: Sequence[str], references: Sequence[str]) -> dict[str, float]:
    """Computes word and character error rates: edits, divided by the words or characters of all references."""
    jiwer = _jiwer()
    return {
        "wer": float(jiwer.wer(list(references), list(hypotheses))),
        "cer": float(jiwer.cer(list(references), list(hypotheses))),
    }


def _jiwer() -> ModuleType:
    return from_extra("jiwer", "speech", "the word error rate")
