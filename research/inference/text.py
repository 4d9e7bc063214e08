"""Generates text with a language model, from a run or from published weights with their tokenizer.

from research.inference import from_pretrained, generate, load

generate(load("runs/shakespeare_gpt/base"), "ROMEO:", max_new_tokens=500, temperature=0.8, top_k=40)

gpt2 = from_pretrained("gpt2/")                   # model.safetensors, tokenizer.json (or vocab.json, merges.txt)
generate(gpt2, ["The answer is", "Once upon a time"], samples=3, seed=1)
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from etils import epath
from flax import linen as nn

from research import decoding
from research.config.brief import brief
from research.data.text.tokenizers import BPETokenizer, Tokenizer
from research.decoding import Beam, Generation, Sample
from research.decoding.strategies import Strategy
from research.errors import RequestError, prefixed, require
from research.inference.load import load
from research.inference.predictor import Predictor
from research.listing import is_hidden
from research.models.model import described


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class TextModel:
    """A language model with its tokenizer, ready to generate text.

    Attributes:
      model: a model with the method `decode` (see `research.decoding.cached`).
      variables: the model's variables.
      tokenizer: the fitted tokenizer.
      end_of_text: the special token that ends a text, or None.
    """

    model: nn.Module
    variables: Mapping[str, Any]
    tokenizer: Tokenizer
    end_of_text: str | None = None

    def __repr__(self) -> str:
        return f"TextModel\n  model     {described(self.model, self.variables)}\n  tokenizer {brief(self.tokenizer)}"

    def encode(self, text: str, name: str = "prompt") -> np.ndarray:
        """Encodes a text as tokens [length]; `name` begins the RequestError for an empty or unencodable text."""
        require(isinstance(text, str), f"{name}: expected a text, got {type(text).__name__}")
        require(len(text) > 0, f"{name}: empty, expected at least one character")
        with prefixed(f"{name}: "):
            return self.tokenizer.encode(text)

    def decode(self, tokens: np.ndarray) -> str:
        """Decodes tokens [length] to text; tokens that the model has but the tokenizer lacks are skipped."""
        return self.tokenizer.decode(tokens[tokens < self.tokenizer.vocab_size])


def text_model(predictor: Predictor | TextModel, verb: str = "generate") -> TextModel:
    """Returns the language model of a run with its tokenizer.

    Raises:
      RequestError: the run did not train a language model; the message begins with `verb`.
    """
    if isinstance(predictor, TextModel):
        return predictor
    expected = "expected a language model: a model with decode, trained on text"
    if not isinstance(predictor, Predictor):
        raise RequestError(f"{verb}: {type(predictor).__name__} given; {expected}, as load(...) returns it")
    data, model = predictor.experiment.data, predictor.experiment.model
    if not hasattr(data, "end_of_text") or not hasattr(model, "decode"):
        raise RequestError(f"{verb}: this run trained {type(model).__name__} on {type(data).__name__}; {expected}")
    return TextModel(model, predictor.variables, data.tokenizer, data.end_of_text)


def generate(
    predictor: Predictor | TextModel,
    prompt: str | Sequence[str],
    *,
    max_new_tokens: int = 200,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    samples: int = 1,
    seed: int = 0,
    strategy: Strategy | None = None,
) -> str | list[Any]:
    """Continues a prompt; returns the continuation without the prompt.

    When the model's context is full, generation continues from its last half (except in a beam search).

    Args:
      predictor: a run's language model, or published weights (`from_pretrained`).
      prompt: a text, or several texts.
      max_new_tokens: maximum number of tokens to add; a text ends earlier if the model ends it.
      temperature: divides the logits; below 1, likely tokens become likelier.
      top_k: draws from the k likeliest tokens only.
      top_p: draws from the fewest likeliest tokens whose probability sums to this.
      samples: number of texts per prompt.
      seed: the same seed gives the same texts.
      strategy: `Greedy()`, `Beam(4)` or a `Sample`; replaces `temperature`, `top_k`, `top_p` and `samples`.

    Returns:
      A text for one prompt; a list of texts for several.  If `samples` (or the strategy's `returned`) is not 1, each
      text becomes a list of texts.

    Raises:
      RequestError: `predictor` is not a language model; a prompt is empty, longer than the context, or has characters
        that the tokenizer does not know; a value is out of range.
    """
    text = text_model(predictor)
    require(isinstance(prompt, Sequence), f"prompt: expected a text or several, got {type(prompt).__name__}")
    require(samples >= 1, f"samples={samples}: expected at least 1")
    prompts = [prompt] if isinstance(prompt, str) else list(prompt)
    if strategy is None:
        strategy = Sample(temperature, top_k, top_p, samples)
    else:
        given = (("temperature", temperature, 1.0), ("top_k", top_k, None), ("top_p", top_p, None))
        for name, value, plain in (*given, ("samples", samples, 1)):
            require(value == plain, f"{name}={value}: expected in strategy={type(strategy).__name__}(…), as given")
    require(0 <= seed < 2**32, f"seed={seed}: expected 0 to 4294967295")
    names = ["prompt"] if len(prompts) == 1 else [f"prompt {i}" for i in range(len(prompts))]
    tokens, mask = decoding.batch_prompts([text.encode(*pair) for pair in zip(prompts, names, strict=True)])
    context = getattr(text.model, "context_length", None)
    longer = context is not None and int(mask.sum(1).max()) + max_new_tokens > context
    how = Generation(
        strategy=strategy,
        max_new_tokens=max_new_tokens,
        stop_tokens=() if text.end_of_text is None else (text.tokenizer.token_id(text.end_of_text),),
        slide=longer and not isinstance(strategy, Beam),
    )
    generated = decoding.generate(text.model, text.variables, tokens, how, mask=mask, rng=jax.random.key(seed))
    tokens, lengths = np.asarray(generated.tokens), np.asarray(generated.lengths)
    texts = [
        [text.decode(row[:length]) for row, length in zip(*own, strict=True)]
        for own in zip(tokens, lengths, strict=True)
    ]
    texts = [own[0] if strategy.returned == 1 else own for own in texts]
    return texts[0] if isinstance(prompt, str) else texts


def from_pretrained(folder: str | os.PathLike) -> TextModel:
    """Reads a published GPT-2 or Llama-style model from a local folder.

    The folder holds config.json, model.safetensors, and tokenizer.json or vocab.json with merges.txt.

    Raises:
      RequestError: a file is missing, or its content does not fit the model.
    """
    from research.pretrained import load_pretrained  # imported here because it imports every family of models

    folder = pathlib.Path(folder)
    whole, merges = folder / "tokenizer.json", folder / "merges.txt"
    if whole.exists() or not merges.exists():
        tokenizer = BPETokenizer.from_file(whole)
    else:
        tokenizer = BPETokenizer.from_file(folder / "vocab.json", merges)
    model, variables = load_pretrained("auto", folder)
    ends = [token for token in ("<|endoftext|>", "<|end_of_text|>", "</s>") if token in tokenizer.special_tokens]
    return TextModel(model, variables, tokenizer, ends[0] if ends else None)


def load_text_model(path: epath.PathLike, *, trial: str | None = None) -> TextModel:
    """Loads a language model with its tokenizer, from a run (see `load`) or from a folder of published weights.

    Raises:
      RequestError: the path holds neither, or the run did not train a language model.
    """
    if any(not is_hidden(file.name) for file in epath.Path(path).glob("*.safetensors")):
        return from_pretrained(path)
    return text_model(load(path, trial=trial), "load_text_model")
