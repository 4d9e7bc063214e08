"""A language model with its tokenizer: text in, text out.

from research.inference import load
text = load("runs/shakespeare_gpt/base").text
text.generate("ROMEO:", max_new_tokens=500, temperature=0.8, top_k=40)

gpt2 = from_pretrained("gpt2/")                   # model.safetensors, tokenizer.json (or vocab.json, merges.txt)
gpt2.generate(["The answer is", "Once upon a time"], samples=3, seed=1)
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from flax import linen as nn

from research.data.text.tokenizers import BPETokenizer, Tokenizer
from research.decoding import Beam, Generation, Sample, batch_prompts, generate
from research.decoding.strategies import Strategy
from research.errors import prefixed, require


@dataclasses.dataclass(frozen=True, eq=False)
class TextModel:
    """A language model with its tokenizer, ready to write text.

    Attributes:
      model: has the method `decode` that `research.decoding.cached` describes.
      variables: its parameters.
      tokenizer: fitted.
      end_of_text: the special token that ends a text, or None.
    """

    model: nn.Module
    variables: Mapping[str, Any]
    tokenizer: Tokenizer
    end_of_text: str | None = None

    def generate(
        self,
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
        """Continues a prompt; the text does not include the prompt.

        Past the model's context it goes on from the last half of it (but not in a beam search).

        Args:
          prompt: a text, or several at once.
          max_new_tokens: to add at most; a text ends earlier where the model ends it.
          temperature: logits are divided by it; below 1 is more careful.
          top_k: only the k likeliest tokens are drawn.
          top_p: only the likeliest tokens that have this much probability together.
          samples: texts for every prompt.
          seed: the same one gives the same texts.
          strategy: `Greedy()`, `Beam(4)` or a `Sample`, in place of the four fields of sampling.

        Returns:
          A text; for several prompts a list of them, and of each prompt's list where `samples` (or what the strategy
          returns) is not 1.

        Raises:
          RequestError: an empty prompt, one longer than the context or with what the tokenizer does not know; a value
            out of range.
        """
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
        tokens, mask = batch_prompts([self._encode(text, i, len(prompts)) for i, text in enumerate(prompts)])
        how = Generation(
            strategy=strategy,
            max_new_tokens=max_new_tokens,
            stop_tokens=() if self.end_of_text is None else (self.tokenizer.token_id(self.end_of_text),),
            slide=self._slides(strategy, int(mask.sum(1).max()), max_new_tokens),
        )
        generated = generate(self.model, self.variables, tokens, how, mask=mask, rng=jax.random.key(seed))
        tokens, lengths = np.asarray(generated.tokens), np.asarray(generated.lengths)
        texts = [
            [self._decode(row[:length]) for row, length in zip(*own, strict=True)]
            for own in zip(tokens, lengths, strict=True)
        ]
        texts = [own[0] if strategy.returned == 1 else own for own in texts]
        return texts[0] if isinstance(prompt, str) else texts

    def _encode(self, text: str, i: int, prompts: int) -> np.ndarray:
        name = "prompt" if prompts == 1 else f"prompt {i}"
        require(isinstance(text, str), f"{name}: expected a text, got {type(text).__name__}")
        require(len(text) > 0, f"{name}: empty, expected at least one character")
        with prefixed(f"{name}: "):
            return self.tokenizer.encode(text)

    def _decode(self, tokens: np.ndarray) -> str:
        """Tokens beyond the tokenizer's, which a model may have more of, spell nothing."""
        return self.tokenizer.decode(tokens[tokens < self.tokenizer.vocab_size])

    def _slides(self, strategy: Strategy, longest: int, new: int) -> bool:
        context = getattr(self.model, "context_length", None)
        return context is not None and longest + new > context and not isinstance(strategy, Beam)


def from_pretrained(folder: str | os.PathLike) -> TextModel:
    """A published GPT-2 or Llama-style model from a local folder: config.json, model.safetensors, and tokenizer.json,
    or vocab.json with merges.txt.

    Raises:
      RequestError: a file is missing, or what it holds does not fit the model.
    """
    from research.pretrained import load_pretrained  # every family there is, of which a trained run needs none

    folder = pathlib.Path(folder)
    whole, merges = folder / "tokenizer.json", folder / "merges.txt"
    if whole.exists() or not merges.exists():
        tokenizer = BPETokenizer.from_file(whole)
    else:
        tokenizer = BPETokenizer.from_file(folder / "vocab.json", merges)
    model, variables = load_pretrained("auto", folder)
    ends = [token for token in ("<|endoftext|>", "<|end_of_text|>", "</s>") if token in tokenizer.special_tokens]
    return TextModel(model, variables, tokenizer, ends[0] if ends else None)
