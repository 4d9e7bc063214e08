"""Language modeling: cross-entropy of the next token; perplexity, bits per character and per byte over the split."""

from __future__ import annotations

import dataclasses
import inspect
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
from research.errors import RequestError, require
from research.losses.cross_entropy import TokenLosses
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
      vocab_chunks: the parts of the vocabulary whose logits are computed one after another, by models that do so (GPT,
        Llama): with more, training and evaluation need less memory and somewhat more time; results are the same.
    """

    better: ClassVar[Mapping[str, Direction]] = {
        "loss": "min", "perplexity": "min", "accuracy": "max", "bits_per_character": "min", "bits_per_byte": "min",
    }  # fmt: skip

    vocab_size: int
    vocab_chunks: int = 1

    input = "tokens"
    """The column of the model's input."""

    target = "targets"
    """The column of the tokens to predict."""

    def check(self) -> None:
        if self.vocab_size < 1:
            raise RequestError(f"vocab_size={self.vocab_size}: expected at least 1")
        if not 1 <= self.vocab_chunks <= self.vocab_size:
            raise RequestError(f"vocab_chunks={self.vocab_chunks}: expected 1 to {self.vocab_size}")

    def check_model(self, model: Any) -> None:
        known = getattr(model, "vocab_size", self.vocab_size)
        require(
            known == self.vocab_size,
            f"task.vocab_size={self.vocab_size}: the model gives {counted(known, 'logit')}; make them equal",
        )
        chunked = self.vocab_chunks == 1 or "vocab_chunks" in inspect.signature(type(model).__call__).parameters
        require(
            chunked, f"task.vocab_chunks={self.vocab_chunks}: {type(model).__name__} computes all logits; expected 1"
        )

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

    def _losses(self, apply: Apply, batch: Batch, *, train: bool) -> tuple[TokenLosses, jax.Array]:
        """Returns the losses of the targets (0 nats on padding) and a mask of counted targets, [batch, length]."""
        targets = batch[self.target].astype(jnp.int32)
        if self.vocab_chunks == 1:
            logits = self._logits(apply, batch, train=train)
            nats = optax.softmax_cross_entropy_with_integer_labels(logits, targets)
            found = TokenLosses(nats, is_first(logits, targets))
        else:
            found = apply(**self.inputs(batch), targets=targets, vocab_chunks=self.vocab_chunks, train=train)
        counted = jnp.asarray(predicted(batch), found.nats.dtype)
        return found._replace(nats=found.nats * counted), counted

    def loss(self, apply: Apply, batch: Batch) -> Terms:
        """Returns the term "loss", in nats per token."""
        found, counted = self._losses(apply, batch, train=True)
        weight = batch["weight"][:, None]
        return {"loss": ((found.nats * weight).sum(), (counted * weight).sum())}

    def eval_outputs(self, apply: Apply, batch: Batch) -> dict[str, jax.Array]:
        """Returns sums over the targets of each row, [batch]: "nats", "correct", "predicted" (the number of targets),
        and the row's "characters" and "bytes" if the batch has them.
        """
        found, counted = self._losses(apply, batch, train=False)
        correct = found.correct * counted
        sums = {"nats": found.nats.sum(-1), "correct": correct.sum(-1), "predicted": counted.sum(-1)}
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
