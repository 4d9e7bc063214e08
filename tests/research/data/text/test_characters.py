"""Byte-order marks and halves of surrogate pairs, in every reader of text."""

import gzip
import json
import os

import numpy as np
import pytest
from scipy.io import wavfile

from launch.list import entries
from research.data.sources import (
    ImageFolder,
    JSONLines,
    LabeledText,
    ParallelText,
    PythonSource,
    Speech,
    Table,
    TextFiles,
)
from research.data.text import BPETokenizer, ByteTokenizer, CharTokenizer
from research.data.text.tokenizers import load, save
from research.errors import RequestError
from research.generated_code.problems import read_problems

MARK = b"\xef\xbb\xbf"
TEXT = "hello there general kenobi " * 30
TOKENIZERS = [CharTokenizer(), ByteTokenizer(), BPETokenizer(300)]
HALF = "\ud83d"


def write(path, data, marked, packed=False):
    data = (MARK if marked else b"") + (data.encode() if isinstance(data, str) else data)
    path.write_bytes(gzip.compress(data) if packed else data)
    return str(path)


def reviews(path, marked, packed=False):
    lines = [json.dumps({"text": f"hello {i}", "label": "ab"[i % 2]}) for i in range(50)]
    return write(path, "\n".join(lines), marked, packed)


def tokens(data):
    splits = data.load()
    return [(split.tokenizer, {k: v[:].tolist() for k, v in split.arrays().items()}) for split in splits if split]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("tokenizer", TOKENIZERS, ids=lambda own: type(own).__name__)
def test_a_byte_order_mark_is_no_part_of_a_text(tmp_path, tokenizer, packed):
    suffix = ".gz" * packed
    found = []
    for marked in (False, True):
        plain = write(tmp_path / f"{marked}.txt{suffix}", TEXT, marked, packed)
        lines = reviews(tmp_path / f"{marked}.jsonl{suffix}", marked, packed)
        labeled = LabeledText(path=lines, length=8, tokenizer=tokenizer).load()
        found.append(
            [
                tokens(TextFiles(path=plain, length=8, test=0.1, tokenizer=tokenizer)),
                tokens(JSONLines(path=lines, length=4, test=9, tokenizer=tokenizer)),
                [{k: v.tolist() for k, v in split.arrays().items()} for split in labeled if split],
            ]
        )
    assert found[0] == found[1]


def test_a_mark_is_no_part_of_pairs_tables_code_problems_and_tokenizers(tmp_path):
    found = []
    for marked in (False, True):
        folder = tmp_path / str(marked)
        (folder / "code").mkdir(parents=True)
        write(folder / "code" / "one.py", '"""One."""\n\n\ndef experiment():\n    return 1\n', marked)
        pairs = write(folder / "pairs.tsv", "".join(f"word {i}\tWort {i}\n" for i in range(9)), marked)
        table = write(folder / "table.csv", "a,b\n" + "".join(f"{i},{i % 2}\n" for i in range(9)), marked)
        problem = {"task_id": "a/0", "prompt": "def f():\n", "test": "def check(f): ...", "entry_point": "f"}
        problems = write(folder / "p.jsonl", json.dumps(problem | {"canonical_solution": "    return 1"}), marked)
        tokenizer = BPETokenizer(270).fit([TEXT])
        save(tokenizer, folder / "saved.json")
        saved = write(folder / "saved.json", (folder / "saved.json").read_bytes(), marked)
        published = write(folder / "tokenizer.json", tokenizer.vocabulary, marked)
        found.append(
            [
                ParallelText(path=(pairs,)).read().train[0],
                Table(path=table, target="b").read().train.names,
                [d.text for d in PythonSource(path=str(folder / "code"), length=4).documents()],
                read_problems(problems),
                load(saved),
                BPETokenizer.from_file(published),
                entries(folder / "code"),
            ]
        )
    assert found[0] == found[1]


def test_a_file_of_a_mark_alone_is_empty_and_joined_files_have_several(tmp_path):
    write(tmp_path / "a.txt", "", True)
    write(tmp_path / "b.txt", TEXT, True)
    assert [d.text for d in TextFiles(path=str(tmp_path), length=8).documents()] == [TEXT]
    write(tmp_path / "joined.jsonl", b'{"text": "a"}\n' + MARK + b'{"text": "b"}\n', True)
    assert [d.text for d in JSONLines(path=str(tmp_path), length=8).documents()] == ["a", "b"]


@pytest.mark.parametrize("tokenizer", TOKENIZERS, ids=lambda own: type(own).__name__)
@pytest.mark.parametrize("source", [JSONLines, LabeledText])
def test_half_a_surrogate_pair_is_told_with_its_file_and_line(tmp_path, source, tokenizer):
    lines = [{"text": f"hello {i}" + HALF * (i in (30, 40)), "label": "ab"[i % 2]} for i in range(50)]
    path = write(tmp_path / "s.jsonl", "\n".join(map(json.dumps, lines)), False)
    with pytest.raises(RequestError, match=r"s.jsonl, line 31: 'text': U\+D83D at 8 is half of a surrogate pair"):
        source(path=path, length=8, tokenizer=tokenizer).load()


def test_half_a_pair_is_told_of_labels_problems_names_and_inputs(tmp_path):
    lines = [{"text": f"hello {i}", "label": "ab"[i % 2] + HALF * (i == 7)} for i in range(20)]
    labeled = LabeledText(path=write(tmp_path / "l.jsonl", "\n".join(map(json.dumps, lines)), False), length=4)
    with pytest.raises(RequestError, match="l.jsonl, line 8: 'label': U.D83D at 1 is half"):
        labeled.load()
    problem = {"task_id": "a/0", "prompt": HALF, "test": "", "entry_point": "f", "canonical_solution": ""}
    problems = write(tmp_path / "p.jsonl", json.dumps(problem), False)
    with pytest.raises(RequestError, match="p.jsonl, line 1: prompt: U.D83D at 0 is half"):
        read_problems(problems)
    with pytest.raises(RequestError, match="text 1: U.D83D at 0 is half"):
        BPETokenizer(300).fit(["a", HALF])
    table = write(tmp_path / "t.csv", "a,b\n" + "".join(f"{'xy'[i % 2]},{i % 2}\n" for i in range(20)), False)
    table = Table(path=table, target="b", target_type="class")
    with pytest.raises(RequestError, match="column 'a': holds half of a surrogate pair"):
        table.fit(table.read().train).encode([{"a": HALF}])


def test_half_a_pair_is_told_of_names_that_are_no_text(tmp_path):
    odd = os.fsdecode(b"caf\xe9")
    (tmp_path / "images" / odd).mkdir(parents=True)
    (tmp_path / "speech").mkdir()
    wavfile.write(tmp_path / "speech" / f"{odd}_1.wav", 8000, np.ones(800, np.int16))
    with pytest.raises(RequestError, match="U.DCE9 at 3 is half of a surrogate pair"):
        ImageFolder(str(tmp_path / "images")).load()
    with pytest.raises(RequestError, match="_1.wav: U.DCE9 at 3 is half of a surrogate pair"):
        Speech(path=str(tmp_path / "speech"), pattern="{text}_{n}").load()


@pytest.mark.parametrize("text", ["[" * 100_000, '{"text": ' + "[" * 100_000])
def test_a_line_that_is_nested_deeply_is_told(tmp_path, text):
    path = write(tmp_path / "deep.jsonl", text, False)
    with pytest.raises(RequestError, match="deep.jsonl, line 1: nested too deeply"):
        JSONLines(path=path, length=8).load()
    with pytest.raises(RequestError, match="deep.jsonl, line 1: "):
        read_problems(path)
