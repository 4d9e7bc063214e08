"""One sequence written from another: teacher forcing with label smoothing; decoding, greedy or by beam search.

What is written, and how it is compared with the reference, is for `translation.py` and `transcription.py` to say.
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
"""Texts that an evaluation shows beside their references."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Texts(Task, abc.ABC):
    """The base of tasks that write a text [batch, length] and compare it with `target`.

    `decoded` [batch] bool, where a batch has it (a validation split, of which only some is decoded), says of which
    examples a text is wanted.

    Attributes:
      input, target: the batch's columns; beside each there is its mask, "source_mask" bool [batch, length].
      tokenizer: of the target; None is that of the training data.

    `verb` is what a `Predictor` calls it to write texts.
    """

    verb: ClassVar[str]

    input: str = "source"
    target: str = "target"
    tokenizer: Tokenizer | None = None

    def check(self) -> None:
        check_special("tokenizer", self.tokenizer)

    def fit(self, train: Source) -> Self:
        """Takes the tokenizer that was fitted to the training split."""
        return self if self.tokenizer is not None else dataclasses.replace(self, tokenizer=train.target_tokenizer)

    def check_examples(self, source: Source, split: str) -> None:
        require_columns(source, split, target=self.target)  # the input may be made by `preprocess`

    @abc.abstractmethod
    def text_metrics(self, hypotheses: Sequence[str], references: Sequence[str]) -> dict[str, float]:
        """How alike texts and their references are, over all of them."""

    @abc.abstractmethod
    def written(self, apply: Apply, batch: Batch) -> jax.Array:
        """The model's own text for every example: tokens [batch, length], padding where there are none."""

    def _input(self, batch: Batch) -> tuple[jax.Array, jax.Array]:
        return batch[self.input], batch[f"{self.input}_mask"]

    def _texts(self, apply: Apply, batch: Batch) -> dict[str, jax.Array]:
        """The outputs that the metrics of text are made of."""
        wanted = batch.get("decoded", jnp.ones(len(batch["weight"]), bool))
        shape = jax.eval_shape(lambda: self.written(apply, batch))
        # Decoding takes long: a batch of which nothing is wanted goes without.
        hypothesis = jax.lax.cond(
            wanted.any(), lambda: self.written(apply, batch), lambda: jnp.zeros(shape.shape, shape.dtype)
        )
        return {"hypothesis": hypothesis, "reference": batch[self.target], "not_decoded": ~wanted}

    def _finalized(self, outputs: Mapping[str, np.ndarray]) -> dict[str, float]:
        wanted = ~outputs["not_decoded"].astype(bool)
        if not wanted.any():
            return {}
        texts = ([self.tokenizer.decode(row) for row in outputs[name][wanted]] for name in ("hypothesis", "reference"))
        return self.text_metrics(*texts)

    def exhibits(self, outputs: Mapping[str, np.ndarray]) -> dict[str, Exhibit]:
        """{"texts": TextPairs}: the first texts that were decoded, beside their references."""
        wanted = np.flatnonzero(~outputs["not_decoded"].astype(bool))[:SHOWN]
        if not len(wanted):
            return {}
        written, reference = (
            [self.tokenizer.decode(row) for row in outputs[name][wanted]] for name in ("hypothesis", "reference")
        )
        return {"texts": TextPairs(reference=reference, written=written)}

    def predict(self, apply: Apply, batch: Batch) -> dict[str, jax.Array]:
        """{"tokens": int32 [batch, length]}: `decode` of the tokenizer makes texts of them."""
        return {"tokens": self.written(apply, batch)}

    def _vocabulary(self, logits: jax.Array) -> None:
        known, tokens = logits.shape[-1], 0 if self.tokenizer is None else self.tokenizer.vocab_size
        require(known >= tokens, f"model.vocab_size={known}: expected at least the {tokens} tokens of the tokenizer")


@dataclasses.dataclass(frozen=True, kw_only=True)
class SequenceToSequence(Texts):
    """Prediction of every target token from the source and the target tokens before it.

    The loss is per target token, the end included.  Evaluation reports it without smoothing, with its perplexity, the
    accuracy of the likeliest token, and the metrics of text.

    Attributes:
      label_smoothing: share of the target spread evenly over the vocabulary (Szegedy et al., 2016).
      beams: of the search by which evaluation and prediction decode; 1 takes the likeliest token, always.
      length_penalty: of that search: finished texts are ranked by log-probability / length ** length_penalty.
      early_stopping: when that search stops: "full", "likely" or "never", as `research.decoding.Beam` says.
      max_new_tokens: how long a decoded text may be, its end included; below the model's `context_length`, if it has
        one, which holds the start too.
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
        """The input with its mask, `target` shifted right (what the model has seen when it predicts each token), and,
        where pairs share a row, the number of each token's pair."""
        target = batch[self.target].astype(jnp.int32)
        start = jnp.full((len(target), 1), self._token(BOS), jnp.int32)
        before = jnp.concatenate([start, target[:, :-1]], axis=1)
        segments = self._segments(batch)
        if segments:
            before = jnp.where(segment_positions(segments["segments"]) == 0, start, before)
        source, mask = self._input(batch)
        return {self.input: source, f"{self.input}_mask": mask, "target": before, **segments}

    def _segments(self, batch: Batch) -> dict[str, jax.Array]:
        """The model's segments, where pairs share a row: for each token, the number of its pair."""
        names = {f"{self.input}_segments": f"{self.input}_segments", "segments": f"{self.target}_segments"}
        return {ours: batch[column] for ours, column in names.items() if column in batch}

    def _token(self, special: str) -> int:
        """A special token's number; before there is a tokenizer, for shapes only, its place among them."""
        return (PAD, BOS, EOS).index(special) if self.tokenizer is None else self.tokenizer.token_id(special)

    def _logits(self, apply: Apply, batch: Batch, **kwargs: Any) -> jax.Array:
        logits = apply(**self.inputs(batch), **kwargs)
        self._vocabulary(logits)
        return logits.astype(jnp.promote_types(logits.dtype, jnp.float32))

    def loss(self, apply: Apply, batch: Batch) -> Terms:
        logits = self._logits(apply, batch, train=True)
        target = batch[self.target].astype(jnp.int32)
        counted = batch[f"{self.target}_mask"] * batch["weight"][:, None]
        # Cross-entropy with the smoothed target, without the table [batch, length, vocab_size] of its probabilities.
        of_target = jnp.take_along_axis(logits, target[..., None], axis=-1)[..., 0]
        expected = (1 - self.label_smoothing) * of_target + self.label_smoothing * logits.mean(axis=-1)
        losses = jax.nn.logsumexp(logits, axis=-1) - expected
        correct = is_first(logits, target)
        return {"loss": weighted(losses, counted), "token_accuracy": weighted(correct, counted)}

    def eval_outputs(self, apply: Apply, batch: Batch) -> dict[str, jax.Array]:
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
            "which holds the token that starts a text too",
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
