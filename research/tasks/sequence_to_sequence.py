"""Sequence-to-sequence tasks: teacher forcing with label smoothing; greedy decoding or beam search.

`translation.py` and `transcription.py` add the metrics that compare texts with their references.
"""

from __future__ import annotations

import abc
import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp
import numpy as np
import optax

from research.config.hparams import hparam
from research.data.source import Source
from research.data.sources.parallel_text import BOS, EOS, PAD, check_special
from research.data.text.tokenizers import Tokenizer
from research.decoding import Beam, Generation, Greedy, generate
from research.decoding.strategies import EarlyStopping
from research.errors import require
from research.evaluation.exhibits import Exhibit, TextPairs
from research.layers.positions import segment_positions
from research.metrics.ranking import is_first
from research.tasks.task import Apply, Batch, Direction, Task, Terms, require_columns, weighted

SHOWN = 16
"""The number of texts that an evaluation shows next to their references."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Texts(Task, abc.ABC):
    """The base class of tasks that write a text [batch, length] and compare it with `target`.

    If the batch has `decoded`, bool [batch], only those examples are decoded (a part of the validation split).

    Attributes:
      input: the input column; its mask is the column "source_mask" (the name with "_mask"), bool [batch, length].
      target: the target column, with a mask in the same way.
      tokenizer: of the target; None takes the one of the training data.
    """

    input: str = "source"
    target: str = "target"
    tokenizer: Tokenizer | None = None

    def check(self) -> None:
        check_special("tokenizer", self.tokenizer)

    def fit(self, train: Source) -> Self:
        """Takes the tokenizer that was fitted to the training split, and refuses another."""
        if self.tokenizer is None:
            return dataclasses.replace(self, tokenizer=train.target_tokenizer)
        same = getattr(train, "target_tokenizer", self.tokenizer) == self.tokenizer
        require(same, "task.tokenizer: it differs from the tokenizer of the data's targets; leave it None")
        return self

    def check_examples(self, source: Source, split: str) -> None:
        require_columns(source, split, target=self.target)  # the input may be made by `preprocess`

    @abc.abstractmethod
    def text_metrics(self, hypotheses: Sequence[str], references: Sequence[str]) -> dict[str, float]:
        """Compares texts with their references, over the whole split."""

    @abc.abstractmethod
    def written(self, apply: Apply, batch: Batch) -> jax.Array:
        """Decodes the model's own text for every example: tokens [batch, length], padded."""

    def _input(self, batch: Batch) -> tuple[jax.Array, jax.Array]:
        return batch[self.input], batch[f"{self.input}_mask"]

    def _texts(self, apply: Apply, batch: Batch) -> dict[str, jax.Array]:
        """Returns {"hypothesis", "reference": [batch, length], "not_decoded": [batch]} for the metrics of text."""
        wanted = batch.get("decoded", jnp.ones(len(batch["weight"]), bool))
        shape = jax.eval_shape(lambda: self.written(apply, batch))
        # Decoding is slow, so a batch without wanted examples skips it.
        hypothesis = jax.lax.cond(
            wanted.any(), lambda: self.written(apply, batch), lambda: jnp.zeros(shape.shape, shape.dtype)
        )
        return {
            "hypothesis": hypothesis,
            "hypothesis_mask": jnp.ones_like(hypothesis, bool),
            "reference": batch[self.target],
            "reference_mask": batch[f"{self.target}_mask"],
            "not_decoded": ~wanted,
        }

    def _finalized(self, outputs: Mapping[str, np.ndarray]) -> dict[str, float]:
        wanted = ~outputs["not_decoded"].astype(bool)
        if not wanted.any():
            return {}
        return self.text_metrics(
            self._decoded(outputs, "hypothesis", wanted), self._decoded(outputs, "reference", wanted)
        )

    def _decoded(self, outputs: Mapping[str, np.ndarray], name: str, rows: np.ndarray) -> list[str]:
        """The texts of an output's rows."""
        tokens = zip(outputs[name][rows], outputs[f"{name}_mask"][rows].astype(bool), strict=True)
        return [self.tokenizer.decode(row[mask]) for row, mask in tokens]

    def exhibits(self, outputs: Mapping[str, np.ndarray]) -> dict[str, Exhibit]:
        """Returns {"texts": TextPairs}, the first decoded texts next to their references."""
        wanted = np.flatnonzero(~outputs["not_decoded"].astype(bool))[:SHOWN]
        if not len(wanted):
            return {}
        written, reference = (self._decoded(outputs, name, wanted) for name in ("hypothesis", "reference"))
        return {"texts": TextPairs(reference=reference, written=written)}

    def predict(self, apply: Apply, batch: Batch) -> dict[str, jax.Array]:
        """Returns {"tokens": int32 [batch, length]}; the tokenizer's `decode` turns them into texts."""
        return {"tokens": self.written(apply, batch)}

    def _vocabulary(self, logits: jax.Array) -> None:
        known, tokens = logits.shape[-1], 0 if self.tokenizer is None else self.tokenizer.vocab_size
        require(known >= tokens, f"model.vocab_size={known}: expected at least the {tokens} tokens of the tokenizer")


@dataclasses.dataclass(frozen=True, kw_only=True)
class SequenceToSequence(Texts):
    """Predicts every target token from the source and the target tokens before it.

    Training terms: "loss" (nats per target token, including the end token) and "token_accuracy".  Metrics: "loss"
    (without smoothing), "perplexity", "token_accuracy" (a fraction), and those of `text_metrics`.

    Attributes:
      label_smoothing: the share of the target that is spread evenly over the vocabulary (Szegedy et al., 2016).
      beams: the beam size of evaluation and prediction; 1 is greedy decoding.
      length_penalty: of beam search: finished texts are ranked by log-probability / length ** length_penalty.
      early_stopping: when beam search stops: "full", "likely" or "never"; see `research.decoding.Beam`.
      max_new_tokens: the maximum length of a decoded text, including the end token; must be below the model's
        `context_length`, if it has one, which also holds the start token.
    """

    better: ClassVar[Mapping[str, Direction]] = {"loss": "min", "perplexity": "min", "token_accuracy": "max"}

    label_smoothing: float = hparam(0.0)
    beams: int = 1
    length_penalty: float = 1.0
    early_stopping: EarlyStopping = "likely"
    max_new_tokens: int = 100

    def check(self) -> None:
        super().check()
        good = 0 <= self.label_smoothing < 1
        require(good, f"label_smoothing={self.label_smoothing}: expected 0 <= label_smoothing < 1")
        self._beam.check()
        require(self.max_new_tokens >= 1, f"max_new_tokens={self.max_new_tokens}: expected at least 1")

    @property
    def _beam(self) -> Beam:
        return Beam(self.beams, self.length_penalty, self.early_stopping)

    def inputs(self, batch: Batch) -> dict[str, jax.Array]:
        """Returns the input with its mask, `target` shifted right (the model's input when it predicts each token), and,
        with packed pairs, the index of each token's pair.
        """
        target = batch[self.target].astype(jnp.int32)
        start = jnp.full((len(target), 1), self._token(BOS), jnp.int32)
        before = jnp.concatenate([start, target[:, :-1]], axis=1)
        segments = self._segments(batch)
        if segments:
            before = jnp.where(segment_positions(segments["segments"]) == 0, start, before)
        source, mask = self._input(batch)
        return {self.input: source, f"{self.input}_mask": mask, "target": before, **segments}

    def _segments(self, batch: Batch) -> dict[str, jax.Array]:
        """Returns the model's segments if several pairs are packed in a row: the index of each token's pair."""
        names = {f"{self.input}_segments": f"{self.input}_segments", "segments": f"{self.target}_segments"}
        return {ours: batch[column] for ours, column in names.items() if column in batch}

    def _token(self, special: str) -> int:
        """The number of a special token; without a tokenizer (to infer shapes), its index among the special tokens."""
        return (PAD, BOS, EOS).index(special) if self.tokenizer is None else self.tokenizer.token_id(special)

    def _logits(self, apply: Apply, batch: Batch, **kwargs: Any) -> jax.Array:
        logits = apply(**self.inputs(batch), **kwargs)
        self._vocabulary(logits)
        return logits.astype(jnp.promote_types(logits.dtype, jnp.float32))

    def loss(self, apply: Apply, batch: Batch) -> Terms:
        """Returns the terms "loss", in nats per token, and "token_accuracy"."""
        logits = self._logits(apply, batch, train=True)
        target = batch[self.target].astype(jnp.int32)
        counted = batch[f"{self.target}_mask"] * batch["weight"][:, None]
        # Cross-entropy with smoothed targets, without an array [batch, length, vocab_size] of their probabilities.
        of_target = jnp.take_along_axis(logits, target[..., None], axis=-1)[..., 0]
        expected = (1 - self.label_smoothing) * of_target + self.label_smoothing * logits.mean(axis=-1)
        losses = jax.nn.logsumexp(logits, axis=-1) - expected
        correct = is_first(logits, target)
        return {"loss": weighted(losses, counted), "token_accuracy": weighted(correct, counted)}

    def eval_outputs(self, apply: Apply, batch: Batch) -> dict[str, jax.Array]:
        """Returns {"loss" (nats), "correct", "tokens"}, sums over each target, [batch], and the decoded texts."""
        logits = self._logits(apply, batch, train=False)
        target, mask = batch[self.target].astype(jnp.int32), batch[f"{self.target}_mask"]
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, target)
        correct = is_first(logits, target)
        return {
            "loss": (losses * mask).sum(axis=1),
            "correct": (correct & mask).sum(axis=1),
            "tokens": mask.sum(axis=1),
            **self._texts(apply, batch),
        }

    def finalize(self, outputs: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Returns "loss", "perplexity", "token_accuracy" and the metrics of text; see the class."""
        tokens = max(1, int(outputs["tokens"].sum()))
        loss = float(outputs["loss"].sum(dtype=np.float64)) / tokens
        return {
            "loss": loss,
            "perplexity": math.exp(min(loss, 700.0)),
            "token_accuracy": float(outputs["correct"].sum()) / tokens,
            **self._finalized(outputs),
        }

    def written(self, apply: Apply, batch: Batch) -> jax.Array:
        model, variables = apply(method=lambda model: model.unbind())
        context = getattr(model, "context_length", None)
        require(
            context is None or self.max_new_tokens < context,
            f"task.max_new_tokens={self.max_new_tokens}: expected below model.context_length={context}, "
            "which also holds the start token",
        )
        source, mask = self._input(batch)
        spelled = model.vocab_size if self.tokenizer is None else self.tokenizer.vocab_size
        how = Generation(
            strategy=Greedy() if self.beams == 1 else self._beam,
            max_new_tokens=self.max_new_tokens,
            stop_tokens=(self._token(EOS),),
            pad_token=self._token(PAD),
            suppress=(self._token(PAD), self._token(BOS), *range(spelled, model.vocab_size)),
        )
        prompt = jnp.full((len(source), 1), self._token(BOS), jnp.int32)
        memory = {self.input: source, f"{self.input}_mask": mask}
        return generate(model, variables, prompt, how, memory=memory).tokens[:, 0]
