"""Speech to text: word and character error rates by jiwer; by an encoder-decoder, or by an encoder alone with CTC.

A recording is read whole: one that is longer than the model's `audio_length` is refused, not cut into pieces.
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
    """The text of `features`, token by token (Whisper).  Metrics of text: `wer` and `cer`, shares of the reference."""

    better: ClassVar[Mapping[str, Direction]] = {**SequenceToSequence.better, "wer": "min", "cer": "min"}

    input: str = "features"

    verb: ClassVar[str] = "transcribe"

    def check(self) -> None:
        super().check()
        _jiwer()

    def text_metrics(self, hypotheses: Sequence[str], references: Sequence[str]) -> dict[str, float]:
        return error_rates(hypotheses, references)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CTCTranscription(Texts):
    """The text of `features`, as the sum over its alignments with them (Graves et al., 2006).

    The loss is per token of the text.  A text that is too long for its features counts neither in the loss nor in its
    weight; evaluation gives the share of them as `too_long`.  The blank is token 0, "<pad>".

    Attributes:
      beams: 1 reads off the likeliest alignment; more search for the likeliest text.
    """

    better: ClassVar[Mapping[str, Direction]] = {"loss": "min", "wer": "min", "cer": "min", "too_long": "min"}

    input: str = "features"
    beams: int = 1

    verb: ClassVar[str] = "transcribe"

    def check(self) -> None:
        super().check()
        require(self.beams >= 1, f"beams={self.beams}: expected at least 1")
        _jiwer()

    def text_metrics(self, hypotheses: Sequence[str], references: Sequence[str]) -> dict[str, float]:
        return error_rates(hypotheses, references)

    def inputs(self, batch: Batch) -> dict[str, jax.Array]:
        features, mask = self._input(batch)
        return {self.input: features, f"{self.input}_mask": mask}

    def _losses(self, apply: Apply, batch: Batch, **kwargs: Any) -> tuple[jax.Array, jax.Array, jax.Array]:
        """The loss of each example, the tokens of its text, and whether the text fits its features: each [batch]."""
        logits, mask = apply(**self.inputs(batch), **kwargs)
        self._vocabulary(logits)
        target, target_mask = batch[self.target].astype(jnp.int32), batch[f"{self.target}_mask"]
        labels_mask = jnp.pad(target_mask[:, 1:], ((0, 0), (0, 1)))  # all but the end, which the blanks tell
        fits = ctc.fits(mask, target, labels_mask)
        return ctc.ctc_loss(logits, mask, target, labels_mask), labels_mask.sum(axis=1), fits

    def loss(self, apply: Apply, batch: Batch) -> Terms:
        losses, tokens, fits = self._losses(apply, batch, train=True)
        counted = batch["weight"] * fits
        return {"loss": ((losses * counted).sum(), (tokens * counted).sum())}

    def eval_outputs(self, apply: Apply, batch: Batch) -> dict[str, jax.Array]:
        losses, tokens, fits = self._losses(apply, batch, train=False)
        return {"loss": losses, "tokens": tokens * fits, "too_long": ~fits, **self._texts(apply, batch)}

    def finalize(self, outputs: Mapping[str, np.ndarray]) -> dict[str, float]:
        loss = float(outputs["loss"].sum(dtype=np.float64)) / max(1, int(outputs["tokens"].sum()))
        return {"loss": loss, "too_long": float(outputs["too_long"].mean()), **self._finalized(outputs)}

    def written(self, apply: Apply, batch: Batch) -> jax.Array:
        logits, mask = apply(**self.inputs(batch), train=False)
        logits = logits if self.tokenizer is None else logits[..., : self.tokenizer.vocab_size]
        if self.beams == 1:
            return ctc.greedy(logits, mask).tokens
        return ctc.prefix_beam_search(logits, mask, beams=self.beams).tokens


def error_rates(hypotheses: Sequence[str], references: Sequence[str]) -> dict[str, float]:
    """Word and character error rate: edits from the references, over all of them, for each word or character there."""
    jiwer = _jiwer()
    return {
        "wer": float(jiwer.wer(list(references), list(hypotheses))),
        "cer": float(jiwer.cer(list(references), list(hypotheses))),
    }


def _jiwer() -> ModuleType:
    return from_extra("jiwer", "speech", "the word error rate")
