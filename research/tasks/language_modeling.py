"""Language modeling: cross-entropy of the next token; perplexity, bits per character and per byte over the split."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax

from research.console import counted
from research.data.source import Source, chunks, column
from research.data.sources.text import predicted
from research.errors import RequestError
from research.metrics.ranking import is_first
from research.tasks.task import Apply, Batch, Direction, Task, Terms, require_columns


@dataclasses.dataclass(frozen=True, kw_only=True)
class LanguageModeling(Task):
    """Predicts `targets` [batch, length], the next token for each of `tokens` [batch, length].

    If the batch has `length` [batch] or `segments` [batch, length] (`research/data/sources/text.py`), padding does not
    count.  The model gets the segments and treats each one separately.

    >>> task = LanguageModeling(vocab_size=256)
    >>> outputs = {"nats": np.array([2.0, 4.0]), "correct": np.array([1, 2]), "predicted": np.array([4, 4])}
    >>> task.finalize(outputs)["loss"]
    0.75

    Training term: "loss", nats per token.  Metrics: "loss" (nats per token), "perplexity", "accuracy" (a fraction), and
    "bits_per_character" and "bits_per_byte" if the batch has the columns `characters` and `bytes`.

    Attributes:
      vocab_size: the model's vocabulary size, at least the tokenizer's.
    """

    better: ClassVar[Mapping[str, Direction]] = {
        "loss": "min", "perplexity": "min", "accuracy": "max", "bits_per_character": "min", "bits_per_byte": "min",
    }  # fmt: skip

    vocab_size: int

    input = "tokens"
    """The column of the model's input."""

    target = "targets"
    """The column of the tokens to predict."""

    def check(self) -> None:
        if self.vocab_size < 1:
            raise RequestError(f"vocab_size={self.vocab_size}: expected at least 1")

    def check_examples(self, source: Source, split: str) -> None:
        require_columns(source, split, input=self.input, target=self.target)
        for name in (self.input, self.target):
            whole = column(source, name)
            for tokens in [whole] if whole is not None else (chunk[name] for chunk in chunks(source)):
                least, most = int(tokens.min()), int(tokens.max())
                if least < 0 or most >= self.vocab_size:
                    raise RequestError(
                        f"{split} split: token {least if least < 0 else most} is outside the vocabulary, expected 0 to "
                        f"{self.vocab_size - 1} (task.vocab_size={self.vocab_size})"
                    )

    def inputs(self, batch: Batch) -> dict[str, jax.Array]:
        """Returns {"tokens": int32 [batch, length]}, and {"segments": int32 [batch, length]} if the batch has them."""
        given = {"tokens": batch[self.input].astype(jnp.int32)}
        return given | {"segments": batch["segments"]} if "segments" in batch else given

    def _logits(self, apply: Apply, batch: Batch, **kwargs: Any) -> jax.Array:
        """Returns logits [batch, length, vocab_size] of the token after each token, in at least float32."""
        logits = apply(**self.inputs(batch), **kwargs)
        if logits.shape[-1] != self.vocab_size:
            given = counted(logits.shape[-1], "logit")
            raise RequestError(f"task.vocab_size={self.vocab_size}: the model gives {given}; make them equal")
        return logits.astype(jnp.promote_types(logits.dtype, jnp.float32))

    def _nats(self, logits: jax.Array, batch: Batch) -> tuple[jax.Array, jax.Array]:
        """Returns the cross-entropy of each target (0 on padding) and a mask of counted targets, [batch, length]."""
        counted = jnp.asarray(predicted(batch), logits.dtype)
        targets = batch[self.target].astype(jnp.int32)
        return optax.softmax_cross_entropy_with_integer_labels(logits, targets) * counted, counted

    def loss(self, apply: Apply, batch: Batch) -> Terms:
        """Returns the term "loss", in nats per token."""
        nats, counted = self._nats(self._logits(apply, batch, train=True), batch)
        weight = batch["weight"][:, None]
        return {"loss": ((nats * weight).sum(), (counted * weight).sum())}

    def eval_outputs(self, apply: Apply, batch: Batch) -> dict[str, jax.Array]:
        """Returns sums over the targets of each row, [batch]: "nats", "correct", "predicted" (the number of targets),
        and the row's "characters" and "bytes" if the batch has them.
        """
        logits = self._logits(apply, batch, train=False)
        nats, counted = self._nats(logits, batch)
        correct = is_first(logits, batch[self.target]) * counted
        sums = {"nats": nats.sum(-1), "correct": correct.sum(-1), "predicted": counted.sum(-1)}
        return sums | {name: batch[name] for name in ("characters", "bytes") if name in batch}

    def finalize(self, outputs: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Returns "loss", "perplexity", "accuracy", and "bits_per_character" and "bits_per_byte" if known; see the
        class.

        Each is a ratio of sums over the split, so none depends on the length of a row.
        """
        total = {name: float(np.sum(x, dtype=np.float64)) for name, x in outputs.items()}
        loss = total["nats"] / total["predicted"] if total["predicted"] else math.nan
        metrics = {
            "loss": loss,
            "perplexity": math.exp(loss) if loss < 700 else math.inf,
            "accuracy": total["correct"] / total["predicted"] if total["predicted"] else math.nan,
        }
        for name, unit in (("characters", "bits_per_character"), ("bytes", "bits_per_byte")):
            if name in total:
                metrics[unit] = total["nats"] / math.log(2) / total[name] if total[name] else math.nan
        return metrics

    def predict(self, apply: Apply, batch: Batch) -> dict[str, jax.Array]:
        """Predicts the next token of each text `tokens` [batch, length], and scores the text.

        Returns:
          `token` int32 [batch], the most probable next token; `log_probability` [batch, vocab_size] of every next
          token; `log_likelihood` [batch] of the text in nats, the sum over its tokens after the first.
        """
        tokens = batch[self.input].astype(jnp.int32)
        log_probs = jax.nn.log_softmax(self._logits(apply, batch, train=False))
        own = jnp.take_along_axis(log_probs[:, :-1], tokens[:, 1:, None], axis=-1)[..., 0]
        length = batch.get("length", jnp.full(len(tokens), tokens.shape[1]))
        following = jnp.take_along_axis(log_probs, length[:, None, None] - 1, axis=1)[:, 0]
        return {
            "token": following.argmax(-1),
            "log_probability": following,
            "log_likelihood": (own * (length[:, None] > jnp.arange(1, tokens.shape[1]))).sum(-1),
        }
