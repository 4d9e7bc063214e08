"""A finished run, loaded to be used: three lines, no data-set code.

from research.inference import load
predict = load("runs/digits_mlp/base").predict
predict(images)["label"]
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from flax import linen as nn

from research.config.serialization import from_json
from research.data.feed import MASK
from research.data.transforms import preprocess
from research.errors import RequestError, TooLong, nearest
from research.experiment import Experiment
from research.inference.text import TextModel, from_pretrained
from research.models.model import arguments
from research.tasks.randomness import example_keys
from research.training.checkpoints import CorruptCheckpoint, Store
from research.training.records import read_json
from research.training.step import bound_apply


def trial_folder(path: epath.PathLike, trial: str | None = None) -> epath.Path:
    """The folder of a trial, from that folder or from a run's that holds it.

    Raises:
      RequestError: there is none, or several to choose from, and which.
    """
    folder = epath.Path(path)
    if (folder / "config.json").exists():
        return folder
    trials = {p.name: p for p in sorted((folder / "trials").iterdir())} if (folder / "trials").is_dir() else {}
    if not trials:
        raise RequestError(f"{folder}: no run there (expected trials/ or config.json)")
    if trial is None and len(trials) == 1:
        return next(iter(trials.values()))
    if trial not in trials:
        which = "trial" if trial is None else f"trial={trial!r}"
        raise RequestError(f"{folder} holds {len(trials)} trials; {which}: {nearest(trial or '', trials)}")
    return trials[trial]


def read_experiment(folder: epath.PathLike) -> Experiment:
    """The resolved experiment of a trial, from its config.json."""
    record = read_json(epath.Path(folder) / "config.json")
    if record is None or "experiment" not in record:
        raise RequestError(f"{epath.Path(folder) / 'config.json'}: not readable as the record of an experiment")
    return from_json(record["experiment"])


def load(path: epath.PathLike, *, trial: str | None = None, step: int | None = None) -> Predictor:
    """A trained model, ready to predict.

    Args:
      path: a trial's folder, or that of a run with one trial.
      trial: which of a run's trials, by name.
      step: of which checkpoint; by default the one the test split was scored with.

    Raises:
      RequestError: no such run, trial or checkpoint.
    """
    folder = trial_folder(path, trial)
    return Predictor(read_experiment(folder), read_variables(folder, step))


def load_text_model(path: epath.PathLike, *, trial: str | None = None) -> TextModel:
    """A language model with its tokenizer: of a run, as `load` takes it, or of a folder of published weights.

    Raises:
      RequestError: there is neither at this path, or the run learned no language.
    """
    if list(epath.Path(path).glob("*.safetensors")):
        return from_pretrained(path)
    return load(path, trial=trial).text


def read_variables(folder: epath.PathLike, step: int | None = None) -> dict[str, Any]:
    """The variables of a trial's checkpoint, {"params": …, "batch_stats": …} in NumPy, the averages where kept.

    Raises:
      RequestError: there is no checkpoint, or none that can be read.
    """
    store = Store(epath.Path(folder) / "checkpoints")
    try:
        steps = store.steps()
        if not steps:
            raise RequestError(f"{folder}: no checkpoint in it yet")
        best = (read_json(epath.Path(folder) / "result.json") or {}).get("best_step")
        wanted = step if step is not None else best if best in steps else steps[0]
        if wanted not in steps:
            raise RequestError(f"step={step}: {folder} has checkpoints of the steps {sorted(steps)}")
        state = store.restore(wanted)
    except CorruptCheckpoint as error:
        raise RequestError(str(error)) from None
    finally:
        store.close()
    variables = {"params": state["params"], **(state.get("collections") or {})}
    average = state.get("ema")
    if average is None:
        return variables
    # Checkpoints from before batch statistics were averaged hold that of the parameters alone.
    return average if "params" in average else variables | {"params": average}


class Predictor:
    """A model with its variables, and the task that says what its outputs mean."""

    def __init__(self, experiment: Experiment, variables: Mapping[str, Any]):
        self.experiment = experiment
        self.variables = jax.device_put(dict(variables))

    def predict(self, raw: Any, *, seed: int = 0) -> dict[str, np.ndarray]:
        """The task's predictions for each example, in NumPy.

        Args:
          seed: of the examples' keys, for a task that draws; an example's key also depends on its number.
          raw: one array [example, ...] of the task's input, a dict of columns, or what the experiment's data encodes
            (rows of a table, paths of images).
        """
        columns = self._columns(raw)
        count = len(next(iter(columns.values())))
        size = min(self.experiment.eval_batch_size, count)
        parts = []
        for start in range(0, count, size):
            # The last part is padded to the size of the others, so that there is one program.
            rows = np.arange(start, start + size) % count
            part = {name: x[rows] for name, x in columns.items()} | {"example": rows.astype(np.int32)}
            parts.append(jax.device_get(self._predict(self.variables, part, np.uint32(seed))))
        return jax.tree.map(lambda *x: np.concatenate(x)[:count], *parts)

    def generate(self, prompt: str | Sequence[str], **options: Any) -> str | list[Any]:
        """Continues a prompt by a language model; `TextModel.generate` has the options.

        Raises:
          RequestError: this run learned no language; and what `TextModel.generate` raises.
        """
        return self.text.generate(prompt, **options)

    def translate(self, sentences: str | Sequence[str]) -> str | list[str]:
        """The translation of a sentence, or of each of a list of them, decoded as the task says.

        Raises:
          RequestError: this run learned no translation; a sentence that is empty, has characters that the tokenizer
            cannot spell, or is longer than the model's `context_length`.
        """
        texts = self._written("translate", "sentence", self.experiment.data.encode, sentences)
        return texts[0] if isinstance(sentences, str) else texts

    def transcribe(self, recordings: Any, sample_rate: int | None = None) -> str | list[str]:
        """The text of a recording, or of each of a list of them.

        A recording that is longer than the model's `audio_length` is refused; none is cut into pieces.

        Args:
          recordings: paths of wav files, or arrays [samples] or [samples, channels] (signed integers of full range, or
            floats in -1 ... 1).
          sample_rate: of arrays, in Hz; None is that of the training data.

        Raises:
          RequestError: this run learned no transcription; a recording that cannot be read, or is too long.
        """
        encode = functools.partial(self.experiment.data.encode, sample_rate=sample_rate)
        texts = self._written("transcribe", "recording", encode, recordings)
        return texts if isinstance(recordings, list | tuple) else texts[0]

    def _written(self, verb: str, example: str, encode: Any, raw: Any) -> list[str]:
        """The text that the task writes for each example; an error says which `example` is too long."""
        task = self.experiment.task
        if getattr(task, "verb", None) != verb:
            raise RequestError(f"{verb}: this run learned {type(task).__name__}; expected one that learned to {verb}")
        columns = encode(raw)
        try:
            return [task.tokenizer.decode(row) for row in self.predict(columns)["tokens"]]
        except TooLong as error:
            (mask,) = (x for name, x in columns.items() if name.endswith(MASK))
            raise RequestError(f"{example} {mask.sum(axis=1).argmax()}: {error}") from None

    @functools.cached_property
    def text(self) -> TextModel:
        """The language model with its tokenizer.

        Raises:
          RequestError: this run learned no language.
        """
        data, model = self.experiment.data, self.experiment.model
        if not hasattr(data, "end_of_text") or not hasattr(model, "decode"):
            raise RequestError(
                f"{type(model).__name__} on {type(data).__name__} is no language model: it writes no text"
            )
        return TextModel(model, self.variables, data.tokenizer, data.end_of_text)

    @property
    def model(self) -> nn.Module:
        """The Linen module; `model.apply(predictor.variables, **predictor.inputs(raw))` runs it."""
        return self.experiment.model

    def inputs(self, raw: Any) -> dict[str, jax.Array]:
        """The model's arguments by name for what `predict` takes: encoded and preprocessed, masks included."""
        return self.inputs_of(self._columns(raw))

    def inputs_of(self, columns: Mapping[str, Any]) -> dict[str, jax.Array]:
        """The same for columns [example, ...] as the data set holds them."""
        numbers = jnp.arange(len(next(iter(columns.values()))))
        batch = {**columns, "key": example_keys(jax.random.key(0), numbers)}
        batch = preprocess(self.experiment.preprocess, batch, partial=True)
        return jax.tree.map(jnp.asarray, arguments(self.model, self.experiment.task.inputs(batch)))

    def _columns(self, raw: Any) -> dict[str, np.ndarray]:
        """The user's input as columns [example, ...] of the task."""
        if hasattr(raw, "shape") and hasattr(self.experiment.task, "input"):
            raw = {self.experiment.task.input: raw}
        columns = self.experiment.data.encode(raw)
        needed = getattr(self.experiment.task, "input", None)
        made = {transform.makes for transform in self.experiment.preprocess if transform.field in columns}
        if needed is not None and needed not in columns.keys() | made:
            raise RequestError(f"the input has no column {needed!r}; {nearest(needed, columns)}")
        if len(next(iter(columns.values()))) == 0:
            raise RequestError("the input is empty: expected at least one example")
        return columns

    @functools.cached_property
    def _predict(self) -> Any:
        experiment = self.experiment

        @jax.jit
        def predict(variables: Any, columns: Any, seed: jax.Array) -> dict[str, jax.Array]:
            batch = {**columns, "key": example_keys(jax.random.key(seed), columns["example"])}
            batch = preprocess(experiment.preprocess, batch, partial=True)
            return experiment.task.predict(bound_apply(experiment.model, variables), batch)

        return predict
