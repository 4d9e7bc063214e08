"""Translation: BLEU and chrF of detokenised texts against the original references, by sacrebleu."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import ClassVar

from research.config.extras import from_extra
from research.data.source import Source
from research.tasks.sequence_to_sequence import SequenceToSequence
from research.tasks.task import Direction, require_columns


@dataclasses.dataclass(frozen=True, kw_only=True)
class Translation(SequenceToSequence):
    """Translates `source` into `target`.

    >>> Translation(beams=4, length_penalty=0.6).input
    'source'

    Metrics: those of `SequenceToSequence`, and "bleu" (cased), "bleu_lowercase" and "chrf", each 0 to 100; `scoring`
    returns sacrebleu's signatures.  Texts are compared detokenised: all tokenizers here decode a text back exactly, so
    the reference is the line of the file.
    """

    better: ClassVar[Mapping[str, Direction]] = {
        **SequenceToSequence.better, "bleu": "max", "bleu_lowercase": "max", "chrf": "max",
    }  # fmt: skip

    def check(self) -> None:
        super().check()
        _sacrebleu()

    def check_examples(self, source: Source, split: str) -> None:
        require_columns(source, split, input=self.input, target=self.target)

    def text_metrics(self, hypotheses: Sequence[str], references: Sequence[str]) -> dict[str, float]:
        return scores(hypotheses, [references])

    def scoring(self) -> dict[str, str]:
        signatures = {}
        for name, metric in _metrics().items():
            metric.corpus_score(["a"], [["a"]])  # a signature includes the number of references, so score once first
            signatures[name] = f"sacrebleu {metric.get_signature()}"
        return signatures


def scores(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """Computes BLEU, cased and lower-cased, and chrF.

    Args:
      references: one or more lists, each with one reference per hypothesis.
    """
    return {name: metric.corpus_score(hypotheses, references).score for name, metric in _metrics().items()}


def _metrics() -> dict:
    metrics = _sacrebleu().metrics
    return {"bleu": metrics.BLEU(), "bleu_lowercase": metrics.BLEU(lowercase=True), "chrf": metrics.CHRF()}


def _sacrebleu() -> ModuleType:
    return from_extra("sacrebleu", "text", "BLEU")
