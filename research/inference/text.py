"""Generates text with a language model, from a run or from published weights with their tokenizer.

from research.inference import from_pretrained, generate, load

generate(load("runs/shakespeare_gpt/base"), "ROMEO:", max_new_tokens=500, temperature=0.8, top_k=40)

gpt2 = from_pretrained("gpt2/")                   # model.safetensors, tokenizer.json (or vocab.json, merges.txt)
generate(gpt2, ["The answer is", "Once upon a time"], samples=3, seed=1)

Published weights write what transformers' `generate` writes: their settings choose the tokens and end the text, and
their tokenizer begins the prompt.
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
from research.models.decoder_only import DecoderOnly
from research.models.model import described


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class TextModel:
    """A language model with its tokenizer, ready to generate text.

    Attributes:
      model: a model with the method `decode` (see `research.decoding.cached`).
      variables: the model's variables.
      tokenizer: the fitted tokenizer.
      how: the stop tokens, the strategy that `generate` uses unless told otherwise, and tokens that are never chosen.
      published: encode prompts as the publisher does: with the special tokens that the tokenizer adds, and with those
        that the text spells.
    """

    model: nn.Module
    variables: Mapping[str, Any]
    tokenizer: Tokenizer
    how: Generation = Generation(strategy=Sample())
    published: bool = False

    def __repr__(self) -> str:
        return f"TextModel\n  model     {described(self.model, self.variables)}\n  tokenizer {brief(self.tokenizer)}"

    def encode(self, text: str, name: str = "prompt") -> np.ndarray:
        """Encodes a text as tokens [length]; `name` begins the RequestError for an empty or unencodable text."""
        require(isinstance(text, str), f"{name}: expected a text, got {type(text).__name__}")
        require(len(text) > 0, f"{name}: empty, expected at least one character")
        with prefixed(f"{name}: "):
            return self.tokenizer.encode_prompt(text) if self.published else self.tokenizer.encode(text)

    def decode(self, tokens: np.ndarray, prompt: Sequence[int] | np.ndarray = ()) -> str:
        """Decodes tokens [length] that follow the tokens of a prompt; a space between the two is kept.

        Tokens that the model has but the tokenizer lacks are skipped.
        """
        known = np.asarray(tokens)[np.asarray(tokens) < self.tokenizer.vocab_size]
        before = self.tokenizer.decode(prompt)
        whole = self.tokenizer.decode(np.concatenate([np.asarray(prompt, np.int64), known]))
        return whole[len(os.path.commonprefix([before, whole])) :]


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
    stop = () if data.end_of_text is None else (data.tokenizer.token_id(data.end_of_text),)
    how = Generation(strategy=Sample(), stop_tokens=stop)
    return TextModel(model, predictor.variables, data.tokenizer, how)


def generate(
    predictor: Predictor | TextModel,
    prompt: str | Sequence[str],
    *,
    max_new_tokens: int = 200,
    temperature: float | None = None,
    top_k: int | None = None,
    top_p: float | None = None,
    samples: int | None = None,
    seed: int = 0,
    strategy: Strategy | None = None,
) -> str | list[Any]:
    """Continues a prompt; returns the continuation without the prompt.

    When the model's context is full, generation continues from its last half (except in a beam search).

    Args:
      predictor: a run's language model, or published weights (`from_pretrained`).
      prompt: a text, or several texts.
      max_new_tokens: maximum number of tokens to add; a text ends earlier if the model ends it.
      temperature: divides the logits; below 1, likely tokens become likelier.  None leaves this, as `top_k`, `top_p`
        and `samples`, to the model's own settings: a run samples with temperature 1; published weights state theirs,
        and if they state no sampling, it is greedy unless one of the four is given.
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
    require(samples is None or samples >= 1, f"samples={samples}: expected at least 1")
    prompts = [prompt] if isinstance(prompt, str) else list(prompt)
    options = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "samples": samples}
    given = {name: value for name, value in options.items() if value is not None}
    if strategy is not None:
        for name, value in given.items():
            raise RequestError(f"{name}={value}: expected in strategy={type(strategy).__name__}(…), as given")
    else:
        strategy = text.how.strategy
        if given:
            own = strategy if isinstance(strategy, Sample) else Sample()
            changes = {"returned" if name == "samples" else name: value for name, value in given.items()}
            strategy = dataclasses.replace(own, **changes)
    require(0 <= seed < 2**32, f"seed={seed}: expected 0 to 4294967295")
    names = ["prompt"] if len(prompts) == 1 else [f"prompt {i}" for i in range(len(prompts))]
    encoded = [text.encode(*pair) for pair in zip(prompts, names, strict=True)]
    tokens, mask = decoding.batch_prompts(encoded)
    context = getattr(text.model, "context_length", None)
    longer = context is not None and int(mask.sum(1).max()) + max_new_tokens > context
    slide = longer and not isinstance(strategy, Beam)
    how = dataclasses.replace(text.how, strategy=strategy, max_new_tokens=max_new_tokens, slide=slide)
    generated = decoding.generate(text.model, text.variables, tokens, how, mask=mask, rng=jax.random.key(seed))
    tokens, lengths = np.asarray(generated.tokens), np.asarray(generated.lengths)
    texts = [
        [text.decode(row[:length], before) for row, length in zip(rows, own, strict=True)]
        for rows, own, before in zip(tokens, lengths, encoded, strict=True)
    ]
    texts = [own[0] if strategy.returned == 1 else own for own in texts]
    return texts[0] if isinstance(prompt, str) else texts


def from_pretrained(folder: str | os.PathLike) -> TextModel:
    """Reads a published GPT-2 or Llama-style model from a local folder.

    The folder holds config.json, model.safetensors, and tokenizer.json or vocab.json with merges.txt.  A text ends at
    every `eos_token_id` of generation_config.json or, without this file, of config.json; if neither states any, at the
    tokenizer's <|endoftext|>, <|end_of_text|> or </s>.

    Raises:
      RequestError: a file is missing, its content does not fit the model, or it asks for an unsupported setting.
    """
    from research.pretrained import load_pretrained  # imported here because it imports every family of models

    folder = pathlib.Path(folder)
    whole, merges = folder / "tokenizer.json", folder / "merges.txt"
    if whole.exists() or not merges.exists():
        tokenizer = BPETokenizer.from_file(whole)
    else:
        tokenizer = BPETokenizer.from_file(folder / "vocab.json", merges)
    published = load_pretrained("auto", folder)
    require(
        isinstance(published.model, DecoderOnly),
        f"{folder}: {type(published.model).__name__} continues no prompt; expected GPT-2 or Llama-style weights",
    )
    how = published.decoding().how
    if not (folder / "generation_config.json").exists() and "eos_token_id" not in published.generation:
        ends = [token for token in ("<|endoftext|>", "<|end_of_text|>", "</s>") if token in tokenizer.special_tokens]
        how = dataclasses.replace(how, stop_tokens=tuple(tokenizer.token_id(token) for token in ends[:1]))
    return TextModel(published.model, published.variables, tokenizer, how, published=True)


def load_text_model(path: epath.PathLike, *, trial: str | None = None, trust: bool = False) -> TextModel:
    """Loads a language model with its tokenizer, from a run (see `load`) or from a folder of published weights.

    Raises:
      RequestError: the path holds neither, or the run did not train a language model.
    """
    if any(not is_hidden(file.name) for file in epath.Path(path).glob("*.safetensors")):
        return from_pretrained(path)
    return text_model(load(path, trial=trial, trust=trust), "load_text_model")
