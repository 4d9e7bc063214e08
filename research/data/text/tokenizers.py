"""Tokenizers for characters, bytes and byte pairs; each is a value, stored as JSON with the run.

    tokenizer = BPETokenizer(max_vocab_size=4096).fit([text])       # or CharTokenizer().fit([text]), or ByteTokenizer()
    tokens = tokenizer.encode("ROMEO:")                             # int32 [length]
    tokenizer.decode(tokens)                                        # "ROMEO:"
    save(tokenizer, "tokenizer.json"); load("tokenizer.json")

The config.json of an experiment includes its tokenizer; `save` stores one separately.  Special tokens ("<pad>",
"<eos>") come first, in the given order, so their numbers do not depend on the vocabulary; `token_id` returns them.
Text is never encoded as special tokens, even if it spells one, and `decode` omits them.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import pathlib
import unicodedata
from collections.abc import Iterable, Sequence
from types import ModuleType
from typing import Any

import numpy as np

from research.config.extras import from_extra
from research.config.serialization import from_json, to_json
from research.data.text.characters import check_characters, without_mark
from research.errors import RequestError, nearest, require
from research.whole_files import write_whole


def read_text(path: str | os.PathLike) -> str:
    """Reads a UTF-8 file.

    Raises:
      RequestError: the file is missing, empty or not UTF-8; names the first invalid byte.
    """
    path = pathlib.Path(path)
    require(path.is_file(), f"{path}: no such file")
    return to_text(path.read_bytes(), str(path))


def to_text(text: str | bytes, source: str = "text") -> str:
    """Decodes bytes as UTF-8, without a byte-order mark; strings pass through.

    Raises:
      RequestError: the text is empty or not UTF-8.
    """
    if isinstance(text, bytes):
        try:
            text = without_mark(text).decode("utf-8")
        except UnicodeDecodeError as error:
            line = text[: error.start].count(b"\n") + 1
            wrong = f"byte 0x{text[error.start]:02x} at offset {error.start} (line {line})"
            raise RequestError(f"{source}: {wrong} is not UTF-8; convert it, or use ByteTokenizer") from None
    require(len(text) > 0, f"{source}: empty, expected at least one character")
    return text


class Tokenizer:
    """The interface of tokenizers."""

    special_tokens: tuple[str, ...]

    @property
    def vocab_size(self) -> int:
        """The number of tokens, special tokens included."""
        raise TypeError(f"{type(self).__name__} does not define vocab_size")

    def fit(self, texts: Iterable[str | bytes]) -> Tokenizer:
        """A tokenizer with a vocabulary learned from `texts`, the training split; itself if it already has one."""
        return self

    def encode(self, text: str | bytes) -> np.ndarray:
        """Encodes a text as int32 [length]; an empty text has length 0."""
        raise TypeError(f"{type(self).__name__} does not define encode")

    def encode_prompt(self, text: str) -> np.ndarray:
        """Encodes a text as int32 [length] for published weights, which may have learned special tokens around it."""
        return self.encode(text)

    def decode(self, tokens: Sequence[int] | np.ndarray) -> str:
        """Decodes tokens to text, omitting special tokens; invalid UTF-8 becomes U+FFFD."""
        raise TypeError(f"{type(self).__name__} does not define decode")

    def spelled(self) -> tuple[np.ndarray, np.ndarray] | None:
        """The (characters, UTF-8 bytes) of each token, int32 [vocab_size]; 0 for special tokens.

        A character that spans several tokens counts with its first byte, so sums over a text are exact.  None if the
        bytes of tokens are unknown (a published vocabulary that is not byte-level).
        """
        raise TypeError(f"{type(self).__name__} does not define spelled")

    def token_id(self, special: str) -> int:
        """The number of a special token.

        Raises:
          RequestError: there is no such special token.
        """
        known = f"special_tokens: there is no {special!r}; {nearest(special, self.special_tokens)}"
        require(special in self.special_tokens, known)
        return self.special_tokens.index(special)

    def _plain(self, tokens: Sequence[int] | np.ndarray) -> np.ndarray:
        """Removes special tokens and renumbers the others from 0."""
        tokens = np.asarray(tokens, np.int64).reshape(-1)
        wrong = (tokens < 0) | (tokens >= self.vocab_size)
        if wrong.any():
            given = f"token {tokens[wrong.argmax()]} at {int(wrong.argmax())}"
            raise RequestError(f"tokens: {given} is outside the vocabulary, expected 0 to {self.vocab_size - 1}")
        return tokens[tokens >= len(self.special_tokens)] - len(self.special_tokens)


@dataclasses.dataclass(frozen=True)
class CharTokenizer(Tokenizer):
    """One token per character.

    >>> tokenizer = CharTokenizer().fit(["banana"])
    >>> tokenizer.encode("nab").tolist(), tokenizer.decode([1, 0, 2])
    ([2, 0, 1], 'ban')

    Attributes:
      characters: the vocabulary, sorted; None until `fit` has seen the text.
      special_tokens: names of tokens in addition to the characters.
    """

    characters: str | None = None
    special_tokens: tuple[str, ...] = ()

    @property
    def vocab_size(self) -> int:
        return len(self.special_tokens) + len(self._characters())

    def fit(self, texts: Iterable[str | bytes]) -> CharTokenizer:
        if self.characters is not None:
            return self
        characters = "".join(sorted(set().union(*(to_text(text) for text in texts))))
        require(len(characters) > 0, "text: empty, expected at least one character")
        return dataclasses.replace(self, characters=characters)

    def encode(self, text: str | bytes) -> np.ndarray:
        """Encodes a text as int32 [length].

        Raises:
          RequestError: a character is not in the vocabulary.
        """
        text = to_text(text) if text else ""
        known = _code_points(self._characters())
        points = _code_points(text)
        tokens = np.minimum(np.searchsorted(known, points), len(known) - 1)
        wrong = known[tokens] != points
        if wrong.any():
            where = int(wrong.argmax())
            name = unicodedata.name(text[where], "no name")
            raise RequestError(
                f"text: character {text[where]!r} (U+{ord(text[where]):04X}, {name.lower()}) at {where} is not among "
                f"the {len(known)} of the vocabulary"
            )
        return (tokens + len(self.special_tokens)).astype(np.int32)

    def decode(self, tokens: Sequence[int] | np.ndarray) -> str:
        known = _code_points(self._characters())
        return known[self._plain(tokens)].tobytes().decode("utf-32-le", errors="surrogatepass")

    def spelled(self) -> tuple[np.ndarray, np.ndarray]:
        sizes = [len(character.encode(errors="surrogatepass")) for character in self._characters()]
        special = [0] * len(self.special_tokens)
        return np.array(special + [1] * len(sizes), np.int32), np.array(special + sizes, np.int32)

    def _characters(self) -> str:
        require(self.characters is not None, "characters=None: fit the tokenizer to a text first")
        return self.characters


def _code_points(text: str) -> np.ndarray:
    return np.frombuffer(text.encode("utf-32-le", errors="surrogatepass"), np.uint32)


@dataclasses.dataclass(frozen=True)
class ByteTokenizer(Tokenizer):
    """One token per UTF-8 byte: 256 for any language; bytes that are not valid UTF-8 are encoded as they are.

    >>> ByteTokenizer().encode("é").tolist()
    [195, 169]
    """

    special_tokens: tuple[str, ...] = ()

    @property
    def vocab_size(self) -> int:
        return len(self.special_tokens) + 256

    def encode(self, text: str | bytes) -> np.ndarray:
        data = text if isinstance(text, bytes) else check_characters(text)
        return np.frombuffer(data, np.uint8).astype(np.int32) + len(self.special_tokens)

    def decode(self, tokens: Sequence[int] | np.ndarray) -> str:
        return self._plain(tokens).astype(np.uint8).tobytes().decode("utf-8", errors="replace")

    def spelled(self) -> tuple[np.ndarray, np.ndarray]:
        special = np.zeros(len(self.special_tokens), np.int32)
        begins = _begins_character(np.arange(256)).astype(np.int32)
        return np.concatenate([special, begins]), np.concatenate([special, np.ones(256, np.int32)])


def _begins_character(data: np.ndarray) -> np.ndarray:
    """True for bytes that begin a UTF-8 character: all but 0b10......"""
    return (data & 0xC0) != 0x80


@dataclasses.dataclass(frozen=True)
class BPETokenizer(Tokenizer):
    """Byte pair encoding over bytes (Sennrich et al., 2016; Radford et al., 2019), by the library `tokenizers`.

    >>> tokenizer = BPETokenizer(max_vocab_size=258, min_frequency=1).fit(["banana banana"])
    >>> tokenizer.decode(tokenizer.encode("banana"))
    'banana'

    Attributes:
      max_vocab_size: the maximum number of tokens, including 256 bytes and the special tokens.
      special_tokens: names of tokens in addition to those of the text.
      min_frequency: the minimum count of a pair to become a token.
      vocabulary: the library's JSON; None until `fit` has seen the text.
    """

    max_vocab_size: int = 4096
    special_tokens: tuple[str, ...] = ()
    min_frequency: int = 2
    vocabulary: str | None = None

    def check(self) -> None:
        """Raises RequestError if there are fewer tokens than bytes."""
        least = 256 + len(self.special_tokens)
        require(self.max_vocab_size >= least, f"max_vocab_size={self.max_vocab_size}: expected at least {least}")
        require(self.min_frequency >= 1, f"min_frequency={self.min_frequency}: expected at least 1")

    @property
    def vocab_size(self) -> int:
        return self._library().get_vocab_size()

    def fit(self, texts: Iterable[str | bytes]) -> BPETokenizer:
        """Merges the most frequent pairs one after another; deterministic in the texts."""
        if self.vocabulary is not None:
            return self
        self.check()
        tokenizers = _tokenizers()
        library = _byte_level(tokenizers.models.BPE())
        trainer = tokenizers.trainers.BpeTrainer(
            vocab_size=self.max_vocab_size,
            min_frequency=self.min_frequency,
            special_tokens=list(self.special_tokens),
            initial_alphabet=sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        )
        texts = [to_text(text) for text in texts]
        require(len(texts) > 0, "text: none, expected at least one")
        for i, text in enumerate(texts):
            check_characters(text, f"text {i}")
        library.train_from_iterator(texts, trainer)
        return dataclasses.replace(self, vocabulary=library.to_str())

    @classmethod
    def from_file(cls, path: str | os.PathLike, merges: str | os.PathLike | None = None) -> BPETokenizer:
        """Loads a published tokenizer: its tokenizer.json, or GPT-2's vocab.json with its `merges` file.

        Special tokens keep their published numbers.

        Raises:
          RequestError: a file is missing or not a tokenizer.
        """
        for file in filter(None, (path, merges)):
            require(pathlib.Path(file).is_file(), f"{file}: no such file")
        tokenizers = _tokenizers()
        try:
            if merges is None:
                library = tokenizers.Tokenizer.from_str(read_text(path))
            else:
                library = _byte_level(tokenizers.models.BPE.from_file(str(path), str(merges)))
                library.add_special_tokens(["<|endoftext|>"])
        except RequestError:
            raise
        except Exception as error:  # the library raises plain Exceptions
            raise RequestError(f"{path}: not a readable tokenizer: {str(error).splitlines()[0]}") from None
        special = tuple(token.content for token in library.get_added_tokens_decoder().values() if token.special)
        return cls(library.get_vocab_size(), special, vocabulary=library.to_str())

    def encode(self, text: str | bytes) -> np.ndarray:
        text = to_text(text) if text else ""
        check_characters(text)
        return np.asarray(self._library().encode(text, add_special_tokens=False).ids, np.int32)

    def encode_prompt(self, text: str) -> np.ndarray:
        """Encodes a text as transformers' tokenizer does: with the special tokens that the vocabulary's post-processor
        adds ("<s>"), and with special tokens where the text spells them.
        """
        check_characters(text)
        return np.asarray(self._library(spelled=True).encode(text).ids, np.int32)

    def decode(self, tokens: Sequence[int] | np.ndarray) -> str:
        self._plain(tokens)
        return self._library().decode(np.asarray(tokens).reshape(-1).tolist(), skip_special_tokens=True)

    def spelled(self) -> tuple[np.ndarray, np.ndarray] | None:
        library = self._library()
        if (json.loads(self.vocabulary)["decoder"] or {}).get("type") != "ByteLevel":
            return None
        added = library.get_added_tokens_decoder()
        data = {token: b"" if own.special else own.content.encode() for token, own in added.items()}
        for name, token in library.get_vocab(with_added_tokens=False).items():
            if token not in added:
                data[token] = bytes(_BYTE_OF[character] for character in name)
        characters, sizes = np.zeros((2, self.vocab_size), np.int32)
        for token, spelling in data.items():
            characters[token] = _begins_character(np.frombuffer(spelling, np.uint8)).sum()
            sizes[token] = len(spelling)
        return characters, sizes

    def token_id(self, special: str) -> int:
        super().token_id(special)
        return self._library().token_to_id(special)

    def _library(self, spelled: bool = False) -> Any:
        require(self.vocabulary is not None, "vocabulary=None: fit the tokenizer to a text first")
        return _parsed(self.vocabulary, spelled)


def _byte_names() -> dict[str, int]:
    """{character: byte} of byte-level vocabularies (Radford et al., 2019).

    A byte is represented by its Latin-1 character if that is printable, otherwise by the next one from U+0100 on.
    """
    printed = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printed]
    return {chr(byte): byte for byte in printed} | {chr(256 + i): byte for i, byte in enumerate(others)}


_BYTE_OF = _byte_names()


def _byte_level(model: Any) -> Any:
    """Wraps a model in a tokenizer of GPT-2's kind."""
    tokenizers = _tokenizers()
    library = tokenizers.Tokenizer(model)
    library.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.decoder = tokenizers.decoders.ByteLevel()
    return library


@functools.lru_cache(maxsize=8)
def _parsed(vocabulary: str, spelled: bool = False) -> Any:
    library = _tokenizers().Tokenizer.from_str(vocabulary)
    library.encode_special_tokens = not spelled  # text that spells a special token stays text
    library.no_truncation()  # published files may cut or fill every text
    library.no_padding()
    return library


def _tokenizers() -> ModuleType:
    return from_extra("tokenizers", "text", "BPETokenizer")


# -- stored with a run ---------------------------------------------------------------------------------------------


def save(tokenizer: Tokenizer, path: str | os.PathLike) -> None:
    """Writes a tokenizer as JSON."""
    write_whole(path, json.dumps(to_json(tokenizer), ensure_ascii=False, indent=1))


def load(path: str | os.PathLike) -> Tokenizer:
    """Reads a tokenizer written by `save`.

    Raises:
      RequestError: the file is missing or does not hold a tokenizer.
    """
    try:
        tokenizer = from_json(json.loads(read_text(path)))
    except (json.JSONDecodeError, RecursionError) as error:
        raise RequestError(f"{path}: not readable as JSON: {error}") from None
    require(isinstance(tokenizer, Tokenizer), f"{path}: holds no tokenizer")
    return tokenizer
