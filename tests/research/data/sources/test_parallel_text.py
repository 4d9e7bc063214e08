"""Parallel text: files of every kind, splits disjoint in sentences, lossless tokens, one line for every bad file."""

import gzip
import io
import zipfile

import numpy as np
import pytest

from research.config.serialization import from_json, to_json
from research.data.buckets import padding
from research.data.feed import make_feed
from research.data.sources.parallel_text import SPECIAL, ParallelText
from research.data.text.tokenizers import BPETokenizer, ByteTokenizer, CharTokenizer
from research.errors import RequestError

SOURCES = [f"Der Hund {i} läuft über die „Straße“ ." + " Ja!" * (i % 5) for i in range(40)]
TARGETS = [f"Dog {i} runs\u2028across the street." + " Yes!" * (i % 5) for i in range(40)]
BYTES = ByteTokenizer(SPECIAL)


@pytest.fixture
def files(tmp_path):
    for name, lines in (("a.de", SOURCES), ("a.en", TARGETS)):
        (tmp_path / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress((tmp_path / name).read_bytes()))
    rows = "\n".join(f"{t}\t{s}\tCC-BY" for s, t in zip(SOURCES, TARGETS, strict=True))
    (tmp_path / "pairs.tsv").write_text(rows, encoding="utf-8")
    with zipfile.ZipFile(tmp_path / "pairs.zip", "w") as archive:
        archive.writestr("pairs.txt", rows)
        archive.writestr("_about.txt", "about")
    return tmp_path


def spec(folder, *names: str, **fields) -> ParallelText:
    return ParallelText(path=tuple(str(folder / name) for name in names), **{"tokenizer": BYTES, "buckets": 3} | fields)


def sentences(source, name: str) -> list[str]:
    return [BYTES.decode(row) for row in source.arrays()[name]]


@pytest.mark.parametrize(
    ("names", "fields"),
    [
        (("a.de", "a.en"), {}),
        (("a.de.gz", "a.en.gz"), {}),
        (("pairs.tsv",), {"columns": (1, 0)}),
        (("pairs.zip",), {"columns": (1, 0)}),
        (("pairs.zip/pairs.txt",), {"columns": (1, 0)}),
    ],
)
def test_every_kind_of_file_gives_the_lines_back_exactly(files, names, fields):
    train, validation, test = spec(files, *names, validation=0, **fields).load()
    assert validation is None and test is None
    assert sentences(train, "source") == SOURCES and sentences(train, "target") == TARGETS


def test_lengths_end_with_the_end_and_masks_cover_it(files):
    train = spec(files, "a.de", "a.en", validation=0).load().train
    tokens, lengths = train.arrays()["target"], train.lengths["target"]
    end = BYTES.token_id("<eos>")
    assert (tokens[np.arange(40), lengths - 1] == end).all() and (tokens == end).sum() == 40
    batch = make_feed(train, "host").batches(0, 4)[0]
    np.testing.assert_array_equal(batch["target_mask"], batch["target"] != BYTES.token_id("<pad>"))


def test_what_is_held_out_shares_no_sentence_with_train(tmp_path):
    pairs = [(f"s{i // 3}", f"t{i // 2}" if i < 40 else f"t{i}") for i in range(120)]
    (tmp_path / "p.tsv").write_text("\n".join("\t".join(pair) for pair in pairs))
    splits = spec(tmp_path, "p.tsv", test=20, validation=10).load()
    assert sum(map(len, splits)) == 120 and 17 <= len(splits.test) <= 20 and 7 <= len(splits.validation) <= 10
    for name in ("source", "target"):
        train, validation, test = (set(sentences(split, name)) for split in splits)
        assert not train & test and not train & validation and not validation & test
    again = spec(tmp_path, "p.tsv", test=20, validation=10, buckets=1).load()
    assert sentences(again.test, "source") == sentences(splits.test, "source")


def test_the_vocabulary_is_of_train_alone_and_comes_back_from_the_record(files):
    data = spec(files, "a.de", "a.en", validation=5, tokenizer=BPETokenizer(320, SPECIAL), lowercase=True)
    splits = data.load()
    fitted = from_json(to_json(data.fit(splits.train)))
    assert fitted.tokenizer.vocabulary == splits.train.tokenizer.vocabulary and fitted.target_tokenizer is None
    texts = [fitted.tokenizer.decode(row) for row in splits.train.arrays()["source"]]
    assert set(texts) < {line.lower() for line in SOURCES}
    assert BPETokenizer(320, SPECIAL).fit([*texts, *map(fitted.tokenizer.decode, splits.train.arrays()["target"])]) == (
        fitted.tokenizer
    )
    columns = fitted.encode(["Der HUND", "Hund läuft"])
    assert fitted.tokenizer.decode(columns["source"][0]) == "der hund"
    assert columns["source_mask"].sum(1).tolist() == (columns["source"] != 0).sum(1).tolist()


def test_each_side_may_have_its_own_vocabulary(files):
    data = spec(
        files, "a.de", "a.en", tokenizer=CharTokenizer(special_tokens=SPECIAL), validation=0,
        target_tokenizer=CharTokenizer(special_tokens=SPECIAL),
    )  # fmt: skip
    train = data.load().train
    fitted = data.fit(train)
    assert "ß" in fitted.tokenizer.characters and "ß" not in fitted.target_tokenizer.characters


def test_long_training_pairs_are_left_out_and_counted(files):
    limit = 60
    train, validation, _ = spec(files, "a.de", "a.en", max_length=limit, validation=10).load()
    assert max(x.max() for x in train.lengths.values()) <= limit < max(x.max() for x in validation.lengths.values())
    assert f"{30 - len(train)} training pairs over {limit} tokens left out" in make_feed(train).reason


def test_an_evaluation_may_decode_some_of_the_validation_split(files):
    splits = spec(files, "a.de", "a.en", validation=10, test=5, decoded=4).load()
    assert splits.validation.arrays()["decoded"].sum() == 4
    assert "decoded" not in splits.train.arrays() and "decoded" not in splits.test.arrays()


def damaged(data: bytes, place: int) -> bytes:
    return data[:place] + b"\xff" * 4 + data[place + 4 :]


def zipped(flags: int = 0, method: int = 0) -> bytes:
    """An archive of a.txt with these flags and compression method in both of its headers."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.txt", "x\ty")
    data = bytearray(file.getvalue())
    for header, place in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        start = data.index(header) + place
        data[start : start + 4] = flags.to_bytes(2, "little") + method.to_bytes(2, "little")
    return bytes(data)


def write(folder, name: str, text: str | bytes) -> None:
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())


@pytest.mark.parametrize(
    ("texts", "fields", "line"),
    [
        ({"a": "x\ny\n", "b": "x\n"}, {}, "a: 2 lines, {0}/b: 1 lines; expected equal numbers of lines"),
        ({"a": "x\n\ny\n", "b": "x\ny\nz\n"}, {}, "a, line 2: the source is empty"),
        ({"a": "x\ny\n", "b": "x\n  \n"}, {}, "b, line 2: the target is empty"),
        ({"a": "", "b": "x\n"}, {}, "a: empty"),
        ({"a": b"x\n\xff\n", "b": "x\ny\n"}, {}, "a: byte 0xff at offset 2 \\(line 2\\) is not UTF-8"),
        ({"a": "x\ty\nz\n"}, {}, "a, line 2: 1 column, expected tabs between 2"),
        ({"a.gz": b"no gzip", "b": "x"}, {}, "a.gz: cannot be read: Not a gzipped file"),
        ({"a.zip": b"no zip"}, {}, "a.zip: cannot be read: File is not a zip file"),
        ({"a.gz": damaged(gzip.compress(b"x" * 99), 10), "b": "x"}, {}, "a.gz: cannot be read: Error -3 while"),
        ({"a.gz": gzip.compress(b"x" * 99)[:-9], "b": "x"}, {}, "a.gz: cannot be read: Compressed file ended"),
        ({"a.zip": zipped(flags=1)}, {}, "a.zip: cannot be read: File 'a.txt' is encrypted"),
        ({"a.zip": zipped(method=97)}, {}, "a.zip: cannot be read: That compression method is not supported"),
        ({"a": "x\n", "b": "y\n"}, {"max_length": 1}, "max_length=1: expected at least 2"),
        ({"a": "xyz\n", "b": "y\n"}, {"max_length": 2}, "max_length=2: every training pair is longer"),
        ({"a": "x\n", "b": "y\n"}, {"columns": (1, 1)}, "columns=\\(1, 1\\): expected the numbers of two columns"),
        ({"a": "x\n", "b": "y\n"}, {"tokenizer": ByteTokenizer()}, "tokenizer.special_tokens=\\(\\): expected them"),
        ({"a": "x\n", "b": "y\n"}, {"tokenizer": CharTokenizer("y", SPECIAL)}, "a, line 1: text: character 'x'"),
        ({"a": "x\ny\n", "b": "y\nx\n"}, {"test": 2}, "test=2: expected a fraction below 1"),
        ({"a": "x\nx\n", "b": "y\nz\n"}, {"test": 1}, "test=1: no group of pairs is small enough to be held out"),
    ],
)
def test_a_bad_file_or_field_is_one_line(tmp_path, texts, fields, line):
    for name, text in texts.items():
        write(tmp_path, name, text)
    data = spec(tmp_path, *texts, **{"validation": 0} | fields)
    with pytest.raises(RequestError, match=line.format(tmp_path)) as error:
        data.check()
        data.load()
    assert "\n" not in str(error.value)


def test_packed_pairs_are_whole_and_each_there_once(files):
    data = spec(files, "a.de", "a.en", validation=4, packed=160)
    alone, packed = (own.load().train for own in (spec(files, "a.de", "a.en", validation=4), data))
    columns = packed.arrays()
    pairs = []
    for row in range(len(packed)):
        for number in range(1, columns["source_segments"][row].max() + 1):
            pairs.append(
                tuple(
                    BYTES.decode(columns[name][row][columns[f"{name}_segments"][row] == number])
                    for name in ("source", "target")
                )
            )
    assert sorted(pairs) == sorted(zip(sentences(alone, "source"), sentences(alone, "target"), strict=True))
    assert len(packed) < len(alone)
    for name in ("source", "target"):
        used = columns[f"{name}_segments"] > 0
        np.testing.assert_array_equal(used, np.arange(160) < packed.lengths[name][:, None])


def test_a_pair_longer_than_a_packed_row_is_named(files):
    with pytest.raises(RequestError, match=r"packed=50: a training source has \d+ tokens \(.*a.de, .*a.en, line \d+ "):
        spec(files, "a.de", "a.en", packed=50).load()


def test_packed_rows_of_multi30k_have_hardly_any_padding(data_root):
    """Uses bytes as tokens, since learning a vocabulary is slow."""
    names = (str(data_root / "multi30k" / f"val.{side}.gz") for side in ("de", "en"))
    train = ParallelText(path=tuple(names), tokenizer=BYTES, validation=10, packed=512).load().train
    assert padding(train.lengths, train.shapes) <= 0.10


def test_a_missing_file_and_an_archive_of_several_texts_are_one_line(files):
    with pytest.raises(RequestError, match="did you mean 'a.de'"):
        spec(files, "b.de", "a.en").load()
    with zipfile.ZipFile(files / "two.zip", "w") as archive:
        archive.writestr("a.txt", "x\ty")
        archive.writestr("b.txt", "x\ty")
    with pytest.raises(RequestError, match="holds a.txt, b.txt; name one, as in .*two.zip/a.txt"):
        spec(files, "two.zip").load()


@pytest.mark.parametrize(
    ("raw", "line"),
    [
        ([], "expected a sentence, or a list of them, got none"),
        (None, "expected a sentence, or a list of them, got NoneType"),
        (["a", " "], "sentence 1: empty"),
        ([3], "sentence 0: expected a text, got int"),
        (["ab", "aq"], "sentence 1: text: character 'q'"),
    ],
)
def test_a_bad_sentence_to_translate_is_one_line(files, raw, line):
    with pytest.raises(RequestError, match=f"^{line}") as error:
        spec(files, "a.de", "a.en", tokenizer=CharTokenizer("ab", SPECIAL)).encode(raw)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("packed", [None, 160])
def test_the_longest_source_of_all_splits_is_what_sentences_are_padded_to(files, packed):
    data = spec(files, "a.de", "a.en", validation=4, packed=packed)
    fitted = data.fit(data.load().train)
    longest = max(SOURCES, key=lambda text: len(text.encode()))
    assert fitted.pad_to == len(longest.encode()) + 1
    short, long = (fitted.encode(text) for text in ("a" * 32, longest))
    assert short["source"].shape == (1, 48) and short["source_mask"].sum() == 33
    assert long["source"].shape == (1, fitted.pad_to) and long["source_mask"].all()
