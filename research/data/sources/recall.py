"""Recall of one symbol after a distance: the standard test of memory (after Hochreiter & Schmidhuber, 1997).

    cue   distractor · distance   query        label
     3    11 8 15 9 ... 12          16           3

Distractors are never cues, so the task needs no counting, only memory for one symbol.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from research.data.source import Columns
from research.data.spec import Data, Splits
from research.errors import require


@dataclasses.dataclass(frozen=True)
class Recall(Data):
    """Sequences tokens uint8 [distance + 2], with their first symbol as label int32 []; chance is 1 / `symbols`.

    >>> splits = Recall(distance=3, examples=100, test_examples=10).load()
    >>> splits.train[0]["tokens"].shape, len(splits.validation), len(splits.test)
    ((5,), 10, 10)

    Each split is drawn separately, as a function of its name and `split_seed`, so test sequences are new as long as
    there are enough distinct ones (symbols · distractors^distance).

    Attributes:
      distance: the number of distractors between the symbol and the query.
      symbols: tokens 0 to symbols - 1, one of which comes first.
      distractors: the number of further tokens, from which those in between are drawn uniformly.
      examples, test_examples: the numbers of sequences for training (including `validation`) and for testing.
    """

    distance: int = 32
    symbols: int = 8
    distractors: int = 8
    examples: int = 20_000
    test_examples: int = 2_000

    @property
    def vocab_size(self) -> int:
        """The number of symbols, distractors and the query, which is the last token."""
        return self.symbols + self.distractors + 1

    def read(self) -> Splits:
        return Splits(train=self._drawn("train", self.examples), test=self._drawn("test", self.test_examples))

    def check(self) -> None:
        super().check()
        for name, least in (
            ("distance", 0), ("symbols", 2), ("distractors", 1), ("examples", 1), ("test_examples", 1),
        ):  # fmt: skip
            value = getattr(self, name)
            require(value >= least, f"{name}={value}: expected at least {least}")
        most = 256
        given = f"symbols={self.symbols}, distractors={self.distractors}"
        require(self.vocab_size <= most, f"{given}: expected at most {most - 1} tokens together, one a byte")

    def _drawn(self, split: str, examples: int) -> Columns:
        generator = np.random.default_rng([self.split_seed, *split.encode()])
        label = generator.integers(self.symbols, size=examples, dtype=np.int32)
        between = generator.integers(
            self.symbols, self.symbols + self.distractors, size=(examples, self.distance), dtype=np.uint8
        )
        query = np.full(examples, self.vocab_size - 1)
        tokens = np.column_stack([label, between, query]).astype(np.uint8)
        return Columns({"tokens": tokens, "label": label})
