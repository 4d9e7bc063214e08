"""Settings of generation as values: the strategy (greedy, sampling, beam search), the length and the stop tokens."""

from __future__ import annotations

import dataclasses
from typing import Literal, NamedTuple, get_args

import jax

from research.errors import require

EarlyStopping = Literal["full", "likely", "never"]
"""Conditions that stop a beam search; see `Beam`."""


@dataclasses.dataclass(frozen=True)
class Greedy:
    """Takes the likeliest token at every step."""

    @property
    def returned(self) -> int:
        return 1

    def check(self) -> None:
        """Does nothing, because there is nothing to set."""


@dataclasses.dataclass(frozen=True)
class Sample:
    """Draws each token from the model's distribution, optionally with a temperature and truncated.

    Attributes:
      temperature: divides the logits.
      top_k: draws from the k likeliest tokens only (Fan et al., 2018); None draws from all.
      top_p: draws from the fewest likeliest tokens whose probability sums to this (nucleus; Holtzman et al., 2020).
      returned: continuations per prompt.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    returned: int = 1

    def check(self) -> None:
        """Raises `RequestError` for a value out of range."""
        require(
            0 < self.temperature < float("inf"),
            f"temperature={self.temperature}: expected a number above 0 (Greedy() takes the likeliest token)",
        )
        require(self.top_k is None or self.top_k >= 1, f"top_k={self.top_k}: expected at least 1, or none")
        require(self.top_p is None or 0 < self.top_p <= 1, f"top_p={self.top_p}: expected 0 < top_p <= 1, or none")
        require(self.returned >= 1, f"returned={self.returned}: expected at least 1")


@dataclasses.dataclass(frozen=True)
class Beam:
    """Searches for likely continuations, keeping several at a time, with the algorithm of Hugging Face's `generate`.

    Attributes:
      beams: unfinished continuations kept per prompt.
      length_penalty: ranks finished continuations by log-probability / length ** length_penalty; above 0 favours long
        ones.
      early_stopping: when the search for a prompt stops.  "full": as soon as `beams` continuations are finished.
        "likely": when also the best unfinished continuation would not rank among them if it ended now.  "never": when
        it would not rank among them at any length.
      returned: continuations per prompt, the best first.
    """

    beams: int = 4
    length_penalty: float = 1.0
    early_stopping: EarlyStopping = "likely"
    returned: int = 1

    def check(self) -> None:
        """Raises `RequestError` for a value out of range."""
        require(self.beams >= 1, f"beams={self.beams}: expected at least 1")
        require(abs(self.length_penalty) < float("inf"), f"length_penalty={self.length_penalty}: expected a number")
        choices = get_args(EarlyStopping)
        require(self.early_stopping in choices, f"early_stopping={self.early_stopping!r}: expected one of {choices}")
        require(
            1 <= self.returned <= self.beams,
            f"returned={self.returned}: expected 1 to beams={self.beams} continuations",
        )


Strategy = Greedy | Sample | Beam


@dataclasses.dataclass(frozen=True, kw_only=True)
class Generation:
    """Settings for continuing a prompt.

    >>> Generation(strategy=Sample(temperature=0.8, top_k=40), max_new_tokens=200, stop_tokens=(2,)).check()

    Attributes:
      strategy: chooses each token.
      max_new_tokens: maximum number of tokens to add, including a stop token.
      stop_tokens: a continuation ends with the first of these.
      pad_token: fills the places after the end.
      suppress: tokens that are never chosen.
      suppress_first: tokens that are not chosen as the first new one.
      renormalize: makes the probabilities of the allowed tokens sum to 1.
      last_token: forces the last token of a continuation that reaches `max_new_tokens`; None forces none.
      slide: continues from the last half of the model's context when the context is full, instead of raising an error;
        not possible inside a jitted function or with `Beam`.
      cache: False computes the whole text again for every token, slowly and with the same result, to check the cache.
    """

    strategy: Strategy = Greedy()
    max_new_tokens: int = 100
    stop_tokens: tuple[int, ...] = ()
    pad_token: int = 0
    suppress: tuple[int, ...] = ()
    suppress_first: tuple[int, ...] = ()
    renormalize: bool = False
    last_token: int | None = None
    slide: bool = False
    cache: bool = True

    def check(self) -> None:
        """Raises `RequestError` for a value out of range."""
        require(self.max_new_tokens >= 1, f"max_new_tokens={self.max_new_tokens}: expected at least 1")
        require(not (self.slide and isinstance(self.strategy, Beam)), "slide=True: beam search cannot slide")
        self.strategy.check()


class Generated(NamedTuple):
    """Continuations of every prompt; `returned` is the strategy's number of continuations per prompt.

    Attributes:
      tokens: [batch, returned, max_new_tokens], without the prompt, filled with `pad_token` after the end.
      lengths: [batch, returned], number of tokens up to the end, including a stop token.
      scores: [batch, returned], sum of the tokens' log-probabilities; for `Beam` divided by
        length ** length_penalty.
    """

    tokens: jax.Array
    lengths: jax.Array
    scores: jax.Array
