"""Corpora: held-out parts, predicted tokens, the text that they spell, and one line for wrong files and fields."""

import dataclasses
import gzip
import json

import numpy as np
import pytest

from research.data.sources.text import Corpus, Document, JSONLines, TextFiles, predicted
from research.data.text.tokenizers import BPETokenizer, ByteTokenizer, CharTokenizer
from research.errors import RequestError

TEXT = "".join(f"Line {i}: the quick brown fox, größer als 東京.\n" for i in range(60))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Texts(Corpus):
    texts: tuple[str, ...] = (TEXT,)

    def documents(self):
        return [Document(text, f"text {i}") for i, text in enumerate(self.texts)]


def targets_of(source):
    columns = {name: x[:] for name, x in source.arrays().items()}
    return columns["targets"][predicted(columns)]


def test_one_text_is_split_at_its_end_and_every_character_predicted_once():
    data = Texts(length=16, validation=0.1, test=0.2)
    splits = data.load()
    cut, held = int(len(TEXT) * 0.8), int(int(len(TEXT) * 0.8) * 0.9)
    tokenizer = splits.train.tokenizer
    assert tokenizer == CharTokenizer().fit([TEXT[:held]]) == data.fit(splits.train).tokenizer
    for source, text in ((splits.validation, TEXT[held:cut]), (splits.test, TEXT[cut:])):
        assert tokenizer.decode(targets_of(source)) == text[1:]
        columns = source.arrays()
        assert columns["characters"].sum() == len(text) - 1 and columns["bytes"].sum() == len(text[1:].encode())
        assert columns["tokens"].shape[1] == 16 and columns["length"][:-1].tolist() == [16] * (len(source) - 1)
    train = splits.train.arrays()
    assert set(train) == {"tokens", "targets"} and len(splits.train) == held - 16
    assert tokenizer.decode(train["tokens"][7]) == TEXT[7:23] and tokenizer.decode(train["targets"][7]) == TEXT[8:24]


@pytest.mark.parametrize("tokenizer", [ByteTokenizer(), BPETokenizer(280, ("<eos>",))], ids=["bytes", "byte pairs"])
def test_what_targets_spell_is_counted_exactly(tokenizer):
    if isinstance(tokenizer, BPETokenizer):
        pytest.importorskip("tokenizers", reason="needs the extra [text]: pip install tokenizers")
    source = Texts(length=16, tokenizer=tokenizer).load().validation
    text = source.tokenizer.decode(targets_of(source))  # nearly all of it: but for the first token
    assert TEXT.endswith(text) and len(text) > 200
    columns = source.arrays()
    assert columns["bytes"].sum() == len(text.encode()) and columns["characters"].sum() == len(text)


def test_documents_are_held_out_whole_and_equal_ones_together():
    texts = tuple(f"document {i % 20} of twenty" for i in range(40))
    data = Texts(
        length=8, texts=texts, validation=0.2, test=3, tokenizer=ByteTokenizer(("<eos>",)), end_of_text="<eos>"
    )
    splits = data.split()
    names = {split: {text for text, _ in documents} for split, documents in splits.items()}
    assert {split: len(documents) for split, documents in splits.items()} == {"train": 28, "validation": 6, "test": 6}
    assert len(set.union(*names.values())) == sum(map(len, names.values())) == 20
    stream = data.load().train.arrays()["tokens"].values
    assert (stream == 0).sum() == 28 - 1 and stream.dtype == np.uint16  # the last one is only a target


def test_packed_documents():
    texts = tuple("ab" * n for n in range(2, 12))
    splits = Texts(length=32, texts=texts, layout="packed", validation=2).load()
    assert set(splits.train.arrays()) == {"tokens", "targets", "segments"}
    total = sum(len(text) - 1 for text in texts)
    assert len(targets_of(splits.train)) + len(targets_of(splits.validation)) == total
    assert splits.validation.arrays()["bytes"].sum() == len(targets_of(splits.validation))


def test_files_and_folders(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "b.txt").write_text("second")
    (tmp_path / "deep" / "c.txt.gz").write_bytes(gzip.compress(b"third"))
    (tmp_path / "a.txt").write_text("first")
    (tmp_path / "empty.txt").touch()
    (tmp_path / "notes.md").write_text("no")
    read = [text for text, _ in TextFiles(path=str(tmp_path), length=4).documents()]
    assert read == ["first", "second", "third"]
    assert [text for text, _ in TextFiles(path=str(tmp_path / "a.txt"), length=4).documents()] == ["first"]
    lines = [{"title": "x", "body": "one"}, {"body": ""}, {"body": "two\nlines"}]
    (tmp_path / "r.jsonl.gz").write_bytes(gzip.compress("\n\n".join(map(json.dumps, lines)).encode()))
    read = JSONLines(path=str(tmp_path), column="body", length=4).documents()
    assert [text for text, _ in read] == ["one", "two\nlines"] and read[1].name.endswith("r.jsonl.gz, line 5")


def test_bytes_that_are_no_text_are_a_corpus_of_bytes(tmp_path):
    data = bytes(range(256)) * 4
    (tmp_path / "x.bin").write_bytes(data)
    source = TextFiles(path=str(tmp_path / "x.bin"), length=8, tokenizer=ByteTokenizer()).load().train
    assert source.arrays()["tokens"].values.tobytes() == data[: int(len(data) * 0.9) - 1]


def test_texts_to_predict_on():
    data = Texts(length=4, tokenizer=ByteTokenizer())
    columns = data.encode(["abc", b"d"])
    assert columns["tokens"].tolist() == [[97, 98, 99], [100, 0, 0]] and columns["length"].tolist() == [3, 1]
    assert data.encode({"tokens": [[1, 2]]})["tokens"].tolist() == [[1, 2]]


@pytest.mark.parametrize(
    ("name", "content", "fields", "said"),
    [
        ("a.txt", b"", {}, "holds no text"),
        ("a.txt", b"caf\xe9", {}, "byte 0xe9 at offset 3 (line 1) is not UTF-8"),
        ("a.txt", b"short", {"length": 64}, "5 tokens to train on, expected more than length=64"),
        ("a.txt", b"aaaaaaaaaaaaaaaaaaab", {"validation": 2}, "(validation split): text: character 'b'"),
        ("a.txt", b"aaaa", {"validation": 1}, "the validation split has one token"),
        ("a.txt", b"abcd", {"validation": 4}, "validation=4: expected a fraction below 1, or a number"),
        ("a.md", b"text", {}, "no *.txt in this folder"),
        ("a.txt.gz", b"no gzip", {}, "a.txt.gz: cannot be unpacked"),
    ],
)
def test_wrong_text_is_named(tmp_path, name, content, fields, said):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(RequestError) as error:
        TextFiles(**{"path": str(tmp_path), "length": 2, "validation": 0} | fields).load()
    assert said in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b'{"text": "a"}\nnot json', "x.jsonl, line 2: not JSON: Expecting value at character 0"),
        (b'{"txt": "a"}', "x.jsonl, line 1: no 'text'; did you mean 'txt'?"),
        (b'["a"]', "x.jsonl, line 1: expected an object, got list"),
        (b'{"text": 3}', "x.jsonl, line 1: 'text' is int, expected a text"),
        (b"\xff", "x.jsonl: byte 0xff at offset 0 (line 1) is not UTF-8"),
        (b'{"text": ""}', "holds no text"),
        (b"", "x.jsonl: empty"),
    ],
)
def test_wrong_lines_are_named(tmp_path, line, said):
    (tmp_path / "x.jsonl").write_bytes(line)
    with pytest.raises(RequestError) as error:
        JSONLines(path=str(tmp_path / "x.jsonl"), length=2).load()
    assert said in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"length": 0}, "length=0: expected at least 1 token"),
        ({"layout": "packd"}, "layout='packd': expected one of windows, packed; did you mean 'packed'?"),
        ({"test": 1.5}, "test=1.5: expected a fraction below 1"),
        ({"end_of_text": "<eos>"}, "end_of_text='<eos>' is not among tokenizer.special_tokens"),
        ({"tokenizer": BPETokenizer(10)}, "tokenizer.max_vocab_size=10: expected at least 256"),
    ],
)
def test_wrong_fields_are_named(fields, said):
    with pytest.raises(RequestError) as error:
        Texts(**{"length": 8} | fields).check()
    assert str(error.value).startswith(said)


@pytest.mark.parametrize(
    ("raw", "said"),
    [([], "expected a text"), (["a", ""], "text 1: empty"), ("", "text 0: empty"), ([3], "text 0: expected a text")],
)
def test_wrong_texts_to_predict_on_are_named(raw, said):
    with pytest.raises(RequestError, match=said):
        Texts(length=8, tokenizer=ByteTokenizer()).encode(raw)


def test_shakespeare_is_split_as_nanogpt_does(data_root):
    path = str(data_root / "tiny_shakespeare" / "input.txt")
    splits = TextFiles(path=path, length=64).load()
    assert len(splits.train) + 64 == 1_003_854 and splits.validation.arrays()["length"].sum() + 1 == 111_540
    assert splits.train.tokenizer.vocab_size == 65
