"""Recordings: reading, mixing, resampling, splits by file names, and one line for every invalid file."""

import io
import tarfile
import zipfile

import jax
import numpy as np
import pytest
from recordings import wav

from research.data.augment.spec_augment import SpecAugment
from research.data.feed import make_feed, take
from research.data.sources.parallel_text import SPECIAL
from research.data.sources.speech import LogMelFeatures, Speech
from research.data.text.tokenizers import CharTokenizer
from research.data.transforms import preprocess
from research.errors import RequestError
from research.layers.log_mel import LogMel


@pytest.fixture
def folder(tmp_path):
    for digit in range(3):
        for speaker in ("ann", "bob"):
            for index in range(4):
                (tmp_path / f"{digit}_{speaker}_{index}.wav").write_bytes(wav(0.05 + 0.02 * digit + 0.01 * index))
    return tmp_path


def spec(path, **fields) -> Speech:
    given = {"pattern": "{text}_{speaker}_{index}", "words": (("0", "zero"), ("1", "one"), ("2", "two"))}
    return Speech(path=str(path), **given | {"validation": 0, "buckets": 3} | fields)


def texts(source) -> list[str]:
    return [source.target_tokenizer.decode(row) for row in source.arrays()["target"]]


def test_a_file_name_says_the_text_and_the_split(folder):
    splits = spec(folder, test_if=(("index", ("0", "1")), ("speaker", ("bob",)))).load()
    assert [len(split or ()) for split in splits] == [24 - 6, 0, 6]
    assert sorted(set(texts(splits.train))) == ["one", "two", "zero"]
    assert spec(folder, test_if=(("speaker", ("ann",)),), validation=3).load().validation.arrays()["decoded"].all()


def test_an_archive_is_read_like_the_folder(folder, tmp_path):
    archive = tmp_path / "all.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder, "recordings", filter=lambda member: None if member.name.endswith("gz") else member)
    one, other = (spec(path).load().train for path in (folder, archive))
    for name, x in one.arrays().items():
        np.testing.assert_array_equal(x, other.arrays()[name])


def test_transcripts_in_a_table(folder):
    lines = ("path\tsentence\tgroup", "0_ann_0.wav\tnull\ta", "1_ann_0\teins\tb", "2_bob_1.wav\tzwei\ta")
    (folder / "said.tsv").write_text("\n".join(lines))
    said = {"transcripts": str(folder / "said.tsv"), "columns": ("path", "sentence")}
    data = spec(folder, **said, test_if=(("group", ("b",)),), tokenizer=CharTokenizer("eilnsuwz", SPECIAL))
    splits = data.load()
    assert texts(splits.train) == ["null", "zwei"]
    assert "21 recordings without a transcript left out" in make_feed(splits.train).reason


def test_recordings_of_other_kinds_are_counted(folder, tmp_path):
    others = ("0_ann_8.flac", "1_ann_8.FLAC", "1_ann_9.mp3", "notes.txt", ".hidden.flac")
    for name in others:
        (folder / name).write_bytes(b"fLaC")
    files = sorted(folder.iterdir())
    with tarfile.open(tmp_path / "all.tar", "w") as tar:
        for file in files:
            tar.add(file, file.name)
    for path in (folder, tmp_path / "all.tar"):
        assert make_feed(spec(path).load().train).reason.endswith("; 2 .flac, 1 .mp3 left out, since only .wav is read")
    with tarfile.open(tmp_path / "others.tar", "w") as tar:
        tar.add(folder / "0_ann_8.flac", "a.flac")
    with pytest.raises(RequestError, match="others.tar': holds no .wav file; convert 1 .flac to .wav$"):
        spec(tmp_path / "others.tar").load()
    (folder / "said.tsv").write_text("path\ttext\n0_ann_8.flac\teins\n")
    with pytest.raises(RequestError, match="line 2: no file '0_ann_8.flac' in .*; convert 2 .flac, 1 .mp3 to .wav$"):
        spec(folder, transcripts=str(folder / "said.tsv")).load()


def test_characters_unknown_to_train_are_named_with_the_recording(folder):
    with pytest.raises(RequestError, match=r"2_ann_0.wav: text: character 't'"):
        spec(folder, test_if=(("text", ("2",)),)).load()


def feature_batch(width: int):
    lengths = np.array([1600, 2400])
    rng = np.random.default_rng(0)
    waveform = np.zeros((2, width), np.int16)
    for row, n in zip(waveform, lengths, strict=True):
        row[:n] = rng.integers(-9000, 9000, 2400)[:n]
    return {"waveform": waveform, "waveform_mask": np.arange(width) < lengths[:, None], "weight": np.ones(2)}


def test_features_are_the_same_however_much_padding_follows():
    transform = (LogMelFeatures(log_mel=LogMel(mels=20)),)
    tight, wide = (preprocess(transform, feature_batch(width)) for width in (2400, 4800))
    assert tight["features"].shape == (2, 15, 20) and wide["features"].shape == (2, 30, 20)
    np.testing.assert_array_equal(tight["features_mask"].sum(1), [10, 15])
    np.testing.assert_array_equal(wide["features_mask"].sum(1), [10, 15])
    valid = np.asarray(tight["features_mask"])
    np.testing.assert_allclose(tight["features"][valid], np.asarray(wide["features"])[:, :15][valid], atol=1e-5)
    assert "waveform" not in tight


def test_spec_augment_hides_stretches_of_what_is_no_padding():
    augmentation = SpecAugment(time_masks=1, time_width=5, time_share=0.5, frequency_masks=1, frequency_width=4)
    x = 2 + jax.random.normal(jax.random.key(0), (40, 16))
    valid = np.arange(40) < 30
    example = {"features": x, "features_mask": valid}
    mean = float(np.asarray(x)[:30].mean())
    seen = set()
    for seed in range(20):
        y = np.asarray(augmentation(jax.random.key(seed), example)["features"])
        changed = y != np.asarray(x)
        assert not changed[30:].any()
        np.testing.assert_allclose(y[changed], mean, rtol=1e-5)
        rows, columns = changed[:30].all(1), changed[:30].all(0)
        np.testing.assert_array_equal(changed[:30], rows[:, None] | columns[None])
        assert rows.sum() <= 5 and columns.sum() <= 4
        assert (
            np.diff(np.flatnonzero(rows)).max(initial=1) == 1 and np.diff(np.flatnonzero(columns)).max(initial=1) == 1
        )
        seen.add((rows.sum(), columns.sum()))
    assert len(seen) > 5


def test_buckets_hold_what_the_files_hold(folder):
    feed = make_feed(spec(folder).load().train, "device")
    batch = take(feed.resident, feed.batches(0, 4).sent(0))
    assert batch["waveform"].shape == batch["waveform_mask"].shape and batch["waveform"].dtype == np.int16
    assert not batch["waveform"][~batch["waveform_mask"]].any()


GOOD = wav()
TABLE = {"transcripts": "t.tsv"}


@pytest.mark.parametrize(
    ("files", "fields", "line"),
    [
        ({"1_a_0.wav": b""}, {}, "1_a_0.wav: cannot be read as a wav file"),
        ({"1_a_0.wav": b"RIFF then nothing"}, {}, "1_a_0.wav: cannot be read as a wav file"),
        ({"1_a_0.wav": GOOD[:-100]}, {}, "1_a_0.wav: cut off: 1,544 bytes, but its header says 1,644"),
        ({"one.wav": GOOD}, {}, "one.wav: its name does not match pattern='{text}_{speaker}_{index}'"),
        ({"a.txt": b""}, {}, "holds no .wav file"),
        ({"1_a_0.wav": GOOD}, {"pattern": "{speaker}"}, "expected different fields, {text} among them"),
        ({"1_a_0.wav": GOOD}, {"test_if": (("voice", ("a",)),)}, "test_if: recordings have no field 'voice'"),
        ({"1_a_0.wav": GOOD}, {"test_if": (("speaker", ("b",)),)}, "test_if speaker='b': no recording has it"),
        ({"1_a_0.wav": GOOD}, {"test_if": (("speaker", ("a",)),)}, "expected it to select some recordings but not all"),
        ({"1_a_0.wav": GOOD}, {"sample_rate": 0}, "sample_rate=0: expected at least 1"),
        ({"1_a_0.wav": GOOD}, {"tokenizer": CharTokenizer()}, "tokenizer.special_tokens"),
        ({"1_a_0.wav": GOOD, "t.tsv": b"path\ttext\nb.wav\tx\n"}, TABLE, "line 2: no file 'b.wav'"),
        ({"1_a_0.wav": GOOD, "t.tsv": b"path\ttext\n1_a_0\t \n"}, TABLE, "transcript of .* is empty"),
        ({"1_a_0.wav": GOOD, "t.tsv": b"path\ttext\n1_a_0\n"}, TABLE, "line 2: 1 column, expected 2"),
        ({"1_a_0.wav": GOOD, "t.tsv": b"file\ttext\n1_a_0\tx\n"}, TABLE, "line 1: no column 'path'"),
        ({"1_a_0.wav": GOOD, "t.tsv": b"path\ttext\n"}, TABLE, "t.tsv: only a header, expected one line per recording"),
        ({"x.wav": GOOD, "y.wav": GOOD, "t.tsv": b"path\ttext\nx\tx\ny\ty\nx.wav\tz\n"}, TABLE,
         "line 4: 'x.wav' is listed twice, first on line 2"),
        ({"a/x.wav": GOOD, "b/x.WAV": GOOD, "t.tsv": b"path\ttext\nx.wav\tx\n"}, TABLE,
         "line 2: 'x.wav' matches a/x.wav and b/x.WAV; include its folders"),
    ],
)  # fmt: skip
def test_a_bad_file_or_field_is_one_line(tmp_path, files, fields, line):
    for name, data in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    if "transcripts" in fields:
        fields = {"transcripts": str(tmp_path / "t.tsv")}
    with pytest.raises(RequestError, match=line) as error:
        data = spec(tmp_path, **fields)
        data.check()
        data.load()
    assert "\n" not in str(error.value)


def test_names_may_end_in_upper_case_and_a_table_may_name_folders(tmp_path):
    for name in ("a/x.WAV", "b/x.Wav", "y.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(GOOD)
    (tmp_path / "t.tsv").write_text("path\ttext\na/x.wav\tone\nb/x\ttwo\ny.WAV\tthree\n")
    archive = tmp_path / "all.tar"
    with tarfile.open(archive, "w") as tar:
        for name in ("a/x.WAV", "b/x.Wav", "y.wav"):
            tar.add(tmp_path / name, name)
    for path in (tmp_path, archive):
        data = Speech(path=str(path), transcripts=str(tmp_path / "t.tsv"), validation=0)
        recordings = data.read().train
        assert dict(zip(recordings.names, recordings.texts, strict=True)) == {
            "a/x.WAV": "one", "b/x.Wav": "two", "y.wav": "three",
        }  # fmt: skip
        assert recordings.note == ""
    (tmp_path / "a" / "x.WAV").rename(tmp_path / "a" / "one_ann_0.WAV")
    assert Speech(path=str(tmp_path / "a"), pattern="{text}_{speaker}_{index}").read().train.texts == ["one"]


@pytest.mark.parametrize("name", ["x.wav", "x.zip", "damaged.tar.gz", "cut.tar.gz"])
def test_what_is_neither_a_folder_nor_a_whole_archive_is_one_line(tmp_path, name):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("y.wav", GOOD)
    (tmp_path / "x.wav").write_bytes(GOOD)
    with tarfile.open(tmp_path / "x.tar.gz", "w:gz") as tar:
        tar.add(tmp_path / "x.wav")
    whole = (tmp_path / "x.tar.gz").read_bytes()
    middle = len(whole) // 2
    (tmp_path / "damaged.tar.gz").write_bytes(whole[:middle] + b"\xff" * 40 + whole[middle + 40 :])
    (tmp_path / "cut.tar.gz").write_bytes(whole[:-20])
    line = rf"{name}': expected a folder of wav files, or a .tar, .tar.gz or .tgz of them \(.+\)$"
    with pytest.raises(RequestError, match=line) as error:
        Speech(path=str(tmp_path / name)).load()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("raw", "line"),
    [
        ("nowhere.wav", "nowhere.wav: no such file"),
        ([], "expected a recording, or a list of them, got none"),
        (None, "recording 0: expected the path of a wav file or an array, got NoneType"),
        (GOOD, "recording 0: expected the path of a wav file or an array, got bytes"),
        (io.BytesIO(GOOD), "recording 0: expected the path of a wav file or an array, got BytesIO"),
        ([0.1, 0.2], "recording 0: expected the path of a wav file or an array, got float"),
        ([np.ones(9), [0.1]], "recording 1: expected the path of a wav file or an array, got list"),
        ((16000, np.ones(9)), "recording 0: expected the path of a wav file or an array, got int"),
        ([np.array([0.0, np.nan])], "recording 0: holds numbers that are not finite"),
    ],
    ids=lambda value: None if isinstance(value, str) else type(value).__name__,
)
def test_a_bad_recording_to_transcribe_is_one_line(folder, raw, line):
    with pytest.raises(RequestError, match=line) as error:
        spec(folder).encode(raw)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("rate", [48000.0, -8000, 0, 10**9])
def test_a_sample_rate_that_cannot_be_is_one_line(folder, rate):
    with pytest.raises(RequestError, match=f"recording 0: sample_rate={rate}: expected a whole number, 1 to 1,000,000"):
        spec(folder).encode(np.zeros(800, np.float32), sample_rate=rate)


def test_arrays_to_transcribe_are_resampled(folder):
    columns = spec(folder).encode(np.zeros(800, np.float32), sample_rate=8000)
    assert columns["waveform"].shape == (1, 1600) and columns["waveform_mask"].all()


def test_recordings_to_transcribe_are_padded_to_one_of_a_few_lengths(folder):
    data = spec(folder)
    fitted = data.fit(data.load().train)
    assert fitted.pad_to == 16000 * (0.05 + 0.02 * 2 + 0.01 * 3)
    columns = fitted.encode([np.ones(700, np.int16), np.ones(1000, np.int16)])
    assert columns["waveform"].shape == (2, 1024)
    np.testing.assert_array_equal(columns["waveform_mask"].sum(1), [700, 1000])
    np.testing.assert_array_equal(columns["waveform"], columns["waveform_mask"])
    assert fitted.encode(np.ones(1900, np.int16))["waveform"].shape == (1, 1920)
    assert fitted.encode(np.ones(2000, np.int16))["waveform"].shape == (1, 2000)


@pytest.mark.parametrize("samples", [1, 48, 159, 160, 170, 330])
def test_features_begin_with_the_first_sample_whatever_follows(samples):
    """There is one frame for every hop, including an incomplete one: also for a recording of one sample."""
    transform = (LogMelFeatures(log_mel=LogMel(mels=20)),)
    sound = np.random.default_rng(0).integers(-9000, 9000, (1, samples))
    found = []
    for width in (samples, 2048):
        waveform = np.pad(sound, ((0, 0), (0, width - samples))).astype(np.int16)
        batch = {"waveform": waveform, "waveform_mask": np.arange(width)[None] < samples, "weight": np.ones(1)}
        features = preprocess(transform, batch)
        found.append(np.asarray(features["features"])[np.asarray(features["features_mask"])])
    assert found[0].shape == (-(-samples // 160), 20)
    np.testing.assert_allclose(found[0], found[1], atol=1e-5)
