"""Reads and writes transformers' generation_config.json: the decoding settings of a published model.

published = load_pretrained("opus-mt-de-en", "folder")
start, how = published.decoding()
generate(*published, np.tile(start, (len(source), 1)), how, memory={"source": source, "source_mask": mask})
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from research.decoding import Beam, Generation, Greedy, Sample
from research.decoding.strategies import Strategy
from research.errors import nearest, require
from research.pretrained.config_values import number, whole

FILE = "generation_config.json"


class Decoding(NamedTuple):
    """The settings that `research.decoding.generate` takes beside the model and its input.

    Attributes:
      start: the tokens that every decoder output starts with, which are not part of the text; empty for free prompts.
      how: all other settings.
    """

    start: tuple[int, ...]
    how: Generation


_EARLY_STOPPING = {True: "full", False: "likely", "never": "never"}

_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "constraints": (),
    "diversity_penalty": (0.0,),
    "encoder_no_repeat_ngram_size": (0,),
    "encoder_repetition_penalty": (1.0,),
    "epsilon_cutoff": (0.0,),
    "eta_cutoff": (0.0,),
    "exponential_decay_length_penalty": (),
    "force_words_ids": (),
    "forced_bos_token_id": (),
    "guidance_scale": (1.0,),
    "min_length": (0,),
    "min_new_tokens": (0,),
    "min_p": (0.0,),
    "no_repeat_ngram_size": (0,),
    "num_beam_groups": (1,),
    "penalty_alpha": (),
    "repetition_penalty": (1.0,),
    "sequence_bias": (),
    "typical_p": (1.0,),
}
"""Unsupported settings, with their neutral values; a missing value is neutral too."""


def read(
    config: Mapping[str, Any], *, context_length: int, language: str | None = None, begins: bool = False
) -> Decoding:
    """Reads the start tokens and settings from a generation_config.json, or from an older config.json that includes
    them.

    Texts never exceed the model's context.  Without a limit in the file, texts after start tokens may fill the context,
    and prompts are extended by `Generation`'s default number of tokens.

    Args:
      context_length: the model's context, in tokens.
      language: the language of the speech ("de"), for models that are told it; the transcript is in that language.
      begins: every text begins with start tokens, as a decoder's does beside an encoder: with `bos_token_id` where the
        file states no other.

    Raises:
      RequestError: a setting is unsupported, a value is invalid, or the language is missing or unknown.
    """
    unknown = [
        f"{key}={config[key]!r}" for key, values in _NEUTRAL.items() if config.get(key) not in (None, [], *values)
    ]
    require(not unknown, f"{FILE}: {', '.join(unknown)} is not supported")
    first = "decoder_start_token_id"
    if begins and config.get(first) is None:
        config = {**config, first: config.get("bos_token_id")}
    start = _start(config, language)
    stop = _tokens(config, "eos_token_id")
    last = _tokens(config, "forced_eos_token_id")
    require(len(last) <= 1, f"forced_eos_token_id={list(last)} in {FILE}: expected one token")
    pad = _tokens(config, "pad_token_id") or stop[:1] or (0,)
    how = Generation(
        strategy=_strategy(config),
        max_new_tokens=_max_new_tokens(config, start, context_length),
        stop_tokens=stop,
        pad_token=pad[0],
        suppress=_tokens(config, "suppress_tokens") + tuple(x for x in _forbidden(config) if x not in stop),
        suppress_first=_tokens(config, "begin_suppress_tokens"),
        last_token=last[0] if last else None,
        renormalize=bool(config.get("renormalize_logits")),
    )
    how.check()
    return Decoding(start, how)


def written(decoding: Decoding) -> dict[str, Any]:
    """A generation_config.json from which `read` and transformers restore the same settings.

    Raises:
      RequestError: the file format cannot express the settings.
    """
    start, how = decoding
    how.check()
    require(not how.slide, "slide=True: no generation_config.json can express this")
    config: dict[str, Any] = {
        "eos_token_id": list(how.stop_tokens) if len(how.stop_tokens) != 1 else how.stop_tokens[0],
        "pad_token_id": how.pad_token,
        "max_new_tokens": how.max_new_tokens,
        "bad_words_ids": [[token] for token in how.suppress],
        "begin_suppress_tokens": list(how.suppress_first),
        "forced_eos_token_id": how.last_token,
        "renormalize_logits": how.renormalize,
    }
    if start:
        config["decoder_start_token_id"] = start[0]
        config["forced_decoder_ids"] = [[place, token] for place, token in enumerate(start[1:], 1)]
    match how.strategy:
        case Beam(beams, length_penalty, early_stopping, returned):
            flag = {name: value for value, name in _EARLY_STOPPING.items()}[early_stopping]
            config |= {"num_beams": beams, "length_penalty": length_penalty, "early_stopping": flag}
            config |= {"num_return_sequences": returned}
        case Sample(temperature, top_k, top_p, returned):
            config |= {"do_sample": True, "temperature": temperature, "num_return_sequences": returned}
            config |= {"top_k": top_k or 0, "top_p": 1.0 if top_p is None else top_p}
    return {key: value for key, value in config.items() if value is not None and value != []}


def special_tokens(decoding: Decoding) -> dict[str, Any]:
    """The special tokens that transformers also expects in the config.json, where it would otherwise use defaults."""
    start, stop = decoding.start[:1], decoding.how.stop_tokens
    tokens = {"decoder_start_token_id": start, "bos_token_id": start, "eos_token_id": stop}
    return {name: list(given) if len(given) > 1 else given[0] for name, given in tokens.items() if given}


def _max_new_tokens(config: Mapping[str, Any], start: tuple[int, ...], context_length: int) -> int:
    free = context_length - max(1, len(start))
    if config.get("max_new_tokens") is not None:
        return min(free, whole(config, "max_new_tokens", file=FILE))
    if not start:  # max_length includes the prompt and does not say how many tokens to add
        return min(free, Generation.max_new_tokens)
    return free if config.get("max_length") is None else min(free, whole(config, "max_length", file=FILE) - len(start))


def _strategy(config: Mapping[str, Any]) -> Strategy:
    beams = whole(config, "num_beams", 1, FILE)
    returned = whole(config, "num_return_sequences", 1, FILE)
    if config.get("do_sample"):
        require(beams == 1, f"do_sample=True with num_beams={beams} in {FILE} is not supported")
        top_k, top_p = whole(config, "top_k", 50, FILE), number(config, "top_p", 1.0, FILE)
        return Sample(
            temperature=number(config, "temperature", 1.0, FILE),
            top_k=top_k or None,
            top_p=None if top_p >= 1 else top_p,
            returned=returned,
        )
    if beams == 1:
        return Greedy()
    early = config.get("early_stopping") or False
    known = isinstance(early, bool | str) and early in _EARLY_STOPPING
    require(known, f"early_stopping={early!r} in {FILE}: expected true, false or 'never'")
    return Beam(beams, number(config, "length_penalty", 1.0, FILE), _EARLY_STOPPING[early], returned)


def _start(config: Mapping[str, Any], language: str | None) -> tuple[int, ...]:
    """The start tokens of a decoder: one token, and for Whisper the language and task after it."""
    start = _tokens(config, "decoder_start_token_id")
    require(len(start) <= 1, f"decoder_start_token_id={list(start)} in {FILE}: expected one token")
    languages = config.get("lang_to_id")
    if config.get("is_multilingual") is not False and isinstance(languages, Mapping):
        names = {name.strip("<|>"): token for name, token in languages.items()}
        expected = nearest(str(language), names)
        require(language is not None, f"language=None: this model is told the language; {expected}")
        require(language in names, f"language={language!r}: {expected}")
        told = (
            names[language],
            (config.get("task_to_id") or {}).get("transcribe"),
            config.get("no_timestamps_token_id"),
        )
        return start + tuple(token for token in told if token is not None)
    require(language is None, f"language={language!r}: this model is told no language")
    forced = config.get("forced_decoder_ids") or []
    pairs = all(isinstance(pair, Sequence) and len(pair) == 2 for pair in forced)
    in_order = pairs and [place for place, _ in forced] == list(range(1, 1 + len(forced)))
    tokens = in_order and all(type(token) is int for _, token in forced)
    require(tokens, f"forced_decoder_ids={forced} in {FILE}: expected [[1, token], [2, token], ...]")
    return start + tuple(token for _, token in forced)


def _forbidden(config: Mapping[str, Any]) -> tuple[int, ...]:
    words = config.get("bad_words_ids") or []
    single = all(isinstance(word, Sequence) and len(word) == 1 and type(word[0]) is int for word in words)
    require(single, f"bad_words_ids={words} in {FILE}: expected lists of one token each")
    return tuple(token for (token,) in words)


def _tokens(config: Mapping[str, Any], key: str) -> tuple[int, ...]:
    """A token or a list of tokens; empty if missing."""
    value = config.get(key)
    tokens = () if value is None else tuple(value) if isinstance(value, list | tuple) else (value,)
    valid = all(type(token) is int and token >= 0 for token in tokens)
    require(valid, f"{key}={value!r} in {FILE}: expected a token, or a list of tokens")
    return tokens
