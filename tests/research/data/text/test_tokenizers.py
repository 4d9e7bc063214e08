"""Tokenizers: every text is restored, token numbers are stable, and errors name what cannot be read."""

from __future__ import annotations

import dataclasses
import json
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from research.data.text.tokenizers import BPETokenizer, ByteTokenizer, CharTokenizer, load, read_text, save, to_text
from research.errors import RequestError

TEXT = "First Citizen:\nBefore we proceed any further, hear me speak. Größe, 東京, 🙂!\n" * 3
SPECIAL = ("<pad>", "<eos>")


@pytest.fixture(scope="module")
def bpe():
    pytest.importorskip("tokenizers", reason="needs the extra [text]: pip install tokenizers")
    return BPETokenizer(300, SPECIAL).fit([TEXT])


@pytest.fixture(params=["characters", "bytes", "byte pairs"])
def tokenizer(request):
    if request.param == "byte pairs":
        return request.getfixturevalue("bpe")
    return (
        CharTokenizer(special_tokens=SPECIAL).fit([TEXT]) if request.param == "characters" else ByteTokenizer(SPECIAL)
    )


def test_a_text_comes_back(tokenizer):
    tokens = tokenizer.encode(TEXT)
    assert tokens.dtype == np.int32 and tokens.ndim == 1
    assert tokens.min() >= 2 and tokens.max() < tokenizer.vocab_size
    assert tokenizer.decode(tokens) == TEXT
    np.testing.assert_array_equal(tokenizer.encode(TEXT.encode()), tokens)
    assert len(tokenizer.encode("")) == 0 and tokenizer.decode([]) == ""


@settings(max_examples=50, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
def test_any_text_comes_back_from_bytes_and_from_its_own_characters(text):
    assert ByteTokenizer().decode(ByteTokenizer().encode(text)) == text
    if text:
        tokenizer = CharTokenizer().fit([text])
        assert tokenizer.vocab_size == len(set(text)) and tokenizer.decode(tokenizer.encode(text)) == text


def test_any_text_comes_back_from_byte_pairs(bpe):
    for text in ("naïve façade", "\x00\x01", "  two  spaces\t\r\n", "未知の文字", "<pad>"):
        assert bpe.decode(bpe.encode(text)) == text


def test_special_tokens_come_first_and_are_never_read(tokenizer):
    assert [tokenizer.token_id(name) for name in SPECIAL] == [0, 1]
    for text in ("<pad>", "speak<eos>"):
        if not isinstance(tokenizer, CharTokenizer):  # "<" is not among its characters
            tokens = tokenizer.encode(text)
            assert tokens.min() >= 2 and tokenizer.decode(tokens) == text
    assert tokenizer.decode([0, *tokenizer.encode("hear"), 1]) == "hear"


def test_stored_and_loaded(tokenizer, tmp_path):
    save(tokenizer, tmp_path / "tokenizer.json")
    again = load(tmp_path / "tokenizer.json")
    assert again == tokenizer
    np.testing.assert_array_equal(again.encode(TEXT), tokenizer.encode(TEXT))


def test_numbers_of_characters_and_bytes():
    np.testing.assert_array_equal(CharTokenizer().fit(["banana"]).encode("nab"), [2, 0, 1])
    np.testing.assert_array_equal(ByteTokenizer().encode("ä"), [0xC3, 0xA4])
    assert ByteTokenizer().decode([0xC3]) == "\ufffd"
    np.testing.assert_array_equal(ByteTokenizer().encode(b"\xff\x00"), [255, 0])


def test_fitting_again_changes_nothing(tokenizer):
    assert tokenizer.fit(["something else"]) == tokenizer
    assert CharTokenizer().fit(["ab", "bc"]) == CharTokenizer(characters="abc")


def test_byte_pairs_are_learned_and_deterministic(bpe):
    assert 258 < bpe.vocab_size <= 300
    assert len(bpe.encode(TEXT)) < len(TEXT.encode()) / 1.5
    assert BPETokenizer(300, SPECIAL).fit([TEXT]) == bpe


def test_published_tokenizers_are_read(bpe, tmp_path):
    (tmp_path / "tokenizer.json").write_text(bpe.vocabulary)
    published = BPETokenizer.from_file(tmp_path / "tokenizer.json")
    assert published.special_tokens == SPECIAL and published.vocab_size == bpe.vocab_size
    np.testing.assert_array_equal(published.encode(TEXT), bpe.encode(TEXT))

    import tokenizers

    letters = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate([*letters, "he", "hea", "<|endoftext|>"])}
    (tmp_path / "vocab.json").write_text(json.dumps(vocabulary))
    (tmp_path / "merges.txt").write_text("#version: 0.2\nh e\nhe a\n")
    gpt2 = BPETokenizer.from_file(tmp_path / "vocab.json", tmp_path / "merges.txt")
    assert gpt2.token_id("<|endoftext|>") == 258 and gpt2.vocab_size == 259
    np.testing.assert_array_equal(gpt2.encode("hear"), [257, vocabulary["r"]])
    assert gpt2.decode([257, vocabulary["r"], 258]) == "hear"
    assert gpt2.decode(gpt2.encode("<|endoftext|>")) == "<|endoftext|>"


BAD = [
    (lambda: CharTokenizer().encode("a"), "characters=None: fit the tokenizer to a text first"),
    (lambda: BPETokenizer().encode("a"), "vocabulary=None: fit the tokenizer to a text first"),
    (lambda: CharTokenizer().fit([""]), "text: empty, expected at least one character"),
    (lambda: CharTokenizer().fit([]), "text: empty, expected at least one character"),
    (lambda: CharTokenizer("abc").encode("abéc"), "text: character 'é' (U+00E9, latin small letter e with acute) at 2"),
    (lambda: CharTokenizer("abc").decode([0, 3]), "tokens: token 3 at 1 is outside the vocabulary, expected 0 to 2"),
    (lambda: ByteTokenizer().decode([-1]), "tokens: token -1 at 0 is outside the vocabulary, expected 0 to 255"),
    (lambda: ByteTokenizer().encode("\ud800"), "text: U+D800 at 0 is half of a surrogate pair"),
    (lambda: CharTokenizer().fit([b"ab\xff"]), "text: byte 0xff at offset 2 (line 1) is not UTF-8"),
    (lambda: to_text(b"a\nb\n\xc3(", "corpus.txt"), "corpus.txt: byte 0xc3 at offset 4 (line 3) is not UTF-8"),
    (lambda: to_text("", "corpus.txt"), "corpus.txt: empty, expected at least one character"),
    (lambda: read_text("/nowhere/corpus.txt"), "/nowhere/corpus.txt: no such file"),
    (lambda: load("/nowhere/tokenizer.json"), "/nowhere/tokenizer.json: no such file"),
    (lambda: BPETokenizer.from_file("/nowhere/tokenizer.json"), "/nowhere/tokenizer.json: no such file"),
    (lambda: BPETokenizer(100).fit(["text"]), "max_vocab_size=100: expected at least 256"),
    (lambda: BPETokenizer(min_frequency=0).check(), "min_frequency=0: expected at least 1"),
    (lambda: ByteTokenizer(("<pad>",)).token_id("<pda>"), "special_tokens: there is no '<pda>'; did you mean '<pad>'"),
]


@pytest.mark.parametrize(("request_", "line"), BAD, ids=[line for _, line in BAD])
def test_bad_requests_are_one_line(request_, line):
    with pytest.raises(RequestError) as refusal:
        request_()
    assert str(refusal.value).startswith(line) and "\n" not in str(refusal.value)


def test_files_that_hold_no_tokenizer(tmp_path):
    for content, line in (("{", "not readable as JSON"), ("[1]", "holds no tokenizer")):
        (tmp_path / "tokenizer.json").write_text(content)
        with pytest.raises(RequestError, match=line):
            load(tmp_path / "tokenizer.json")
    with pytest.raises(RequestError, match="not a readable tokenizer"):
        pytest.importorskip("tokenizers")
        BPETokenizer.from_file(tmp_path / "tokenizer.json")


def test_without_the_library_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(RequestError, match=r"tokenizers.*\[text\]"):
        BPETokenizer().fit(["text"])
    assert dataclasses.replace(BPETokenizer(), max_vocab_size=300).max_vocab_size == 300  # a value needs no library
