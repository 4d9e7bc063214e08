"""Recordings: read, mixed and resampled as they should be; splits by what names say; one line for every bad file."""

import io
import tarfile

import jax
import numpy as np
import pytest
from scipy.io import wavfile

from research.data.feed import make_feed, take
from research.data.parallel_text import SPECIAL
from research.data.spec_augment import SpecAugment
from research.data.speech import LogMelFeatures, Speech, decode_wav, to_waveform
from research.data.tokenizers import CharTokenizer
from research.data.transforms import preprocess
from research.errors import RequestError
from research.layers.log_mel import LogMel

RATE = 8000


def wav(seconds: float = 0.1, rate: int = RATE, channels: int = 1, dtype=np.int16, hertz: float = 440.0) -> bytes:
    """A tone at half the full range."""
    tone = 0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)
    tone = np.stack([tone] * channels, 1) if channels > 1 else tone
    scale = {"i": lambda: np.iinfo(dtype).max, "u": lambda: 127, "f": lambda: 1}[np.dtype(dtype).kind]()
    file = io.BytesIO()
    wavfile.write(file, rate, (tone * scale + (128 if dtype is np.uint8 else 0)).astype(dtype))
    return file.getvalue()


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


def test_characters_unknown_to_train_are_named_with_the_recording(folder):
    with pytest.raises(RequestError, match=r"2_ann_0.wav: text: character 't'"):
        spec(folder, test_if=(("text", ("2",)),)).load()


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.uint8, np.float32])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("rate", [8000, 16000, 44100])
def test_every_format_becomes_the_same_tone(dtype, channels, rate):
    x = decode_wav(wav(0.2, rate, channels, dtype), "a.wav", 16000)
    assert x.dtype == np.int16 and len(x) == pytest.approx(3200, abs=1)
    expected = 0.5 * np.sin(2 * np.pi * 440 * np.arange(len(x)) / 16000)
    middle = slice(400, 2800)  # the filter of resampling rings at the ends
    np.testing.assert_allclose(x[middle] / 2**15, expected[middle], atol=0.012)


def test_stereo_is_the_mean_of_its_channels():
    left, right = np.arange(100, dtype=np.int16), np.full(100, 50, np.int16)
    mixed = to_waveform(np.stack([left, right], 1), 16000, 16000, "x")
    np.testing.assert_array_equal(mixed, np.round((left + 50) / 2))


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
    batch = take(feed.resident, feed.batches(0, 4).fed(0))
    assert batch["waveform"].shape == batch["waveform_mask"].shape and batch["waveform"].dtype == np.int16
    assert not batch["waveform"][~batch["waveform_mask"]].any()


GOOD = wav()
TABLE = {"transcripts": "t.tsv"}


@pytest.mark.parametrize(
    ("files", "fields", "line"),
    [
        ({"1_a_0.wav": b""}, {}, "1_a_0.wav: cannot be read as a wav file"),
        ({"1_a_0.wav": b"RIFF then nothing"}, {}, "1_a_0.wav: cannot be read as a wav file"),
        ({"1_a_0.wav": GOOD[:-100]}, {}, "1_a_0.wav: cut off: Reached EOF prematurely"),
        ({"1_a_0.wav": wav(0)}, {}, "1_a_0.wav: no samples in it"),
        ({"one.wav": GOOD}, {}, "one.wav: its name does not read as pattern='{text}_{speaker}_{index}'"),
        ({"a.txt": b""}, {}, "no .wav file in it"),
        ({"1_a_0.wav": GOOD}, {"pattern": "{speaker}"}, "expected different fields, {text} among them"),
        ({"1_a_0.wav": GOOD}, {"test_if": (("voice", ("a",)),)}, "test_if 'voice': recordings do not say it"),
        ({"1_a_0.wav": GOOD}, {"test_if": (("speaker", ("b",)),)}, "test_if speaker='b': no recording has it"),
        ({"1_a_0.wav": GOOD}, {"test_if": (("speaker", ("a",)),)}, "expected to take some recordings, and to"),
        ({"1_a_0.wav": GOOD}, {"sample_rate": 0}, "sample_rate=0: expected at least 1"),
        ({"1_a_0.wav": GOOD}, {"tokenizer": CharTokenizer()}, "tokenizer.special_tokens"),
        ({"1_a_0.wav": GOOD, "t.tsv": b"path\ttext\nb.wav\tx\n"}, TABLE, "line 2: no file 'b.wav'"),
        ({"1_a_0.wav": GOOD, "t.tsv": b"path\ttext\n1_a_0\t \n"}, TABLE, "transcript of .* is empty"),
        ({"1_a_0.wav": GOOD, "t.tsv": b"path\ttext\n1_a_0\n"}, TABLE, "line 2: 1 columns, expected 2"),
        ({"1_a_0.wav": GOOD, "t.tsv": b"file\ttext\n1_a_0\tx\n"}, TABLE, "line 1: no column 'path'"),
    ],
)  # fmt: skip
def test_a_bad_file_or_field_is_one_line(tmp_path, files, fields, line):
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    if "transcripts" in fields:
        fields = {"transcripts": str(tmp_path / "t.tsv")}
    with pytest.raises(RequestError, match=line) as error:
        data = spec(tmp_path, **fields)
        data.check()
        data.load()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("raw", "line"),
    [
        ("nowhere.wav", "nowhere.wav: no such file"),
        ([], "got none"),
        (np.zeros(0, np.int16), "array 0: no samples"),
        (np.zeros((2, 3, 4)), "array 0: shape"),
        ([np.array([0.0, np.nan])], "array 0: holds numbers that are not finite"),
    ],
)
def test_a_bad_recording_to_transcribe_is_one_line(folder, raw, line):
    with pytest.raises(RequestError, match=line):
        spec(folder).encode(raw)


def test_arrays_to_transcribe_are_resampled(folder):
    columns = spec(folder, tokenizer=CharTokenizer("abc", SPECIAL)).encode(np.zeros(800, np.float32), sample_rate=RATE)
    assert columns["waveform"].shape == (1, 1600) and columns["waveform_mask"].all()
