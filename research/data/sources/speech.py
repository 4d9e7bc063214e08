"""Speech recordings and their transcripts: wav files in a folder or a .tar.gz, as waveforms at one sample rate.

    Speech(path="recordings", pattern="{text}_{speaker}_{index}", test_if=(("index", ("0", "1")),))
    Speech(path="clips", transcripts="validated.tsv", columns=("path", "sentence"))

An example has `waveform`, int16 [samples], and `target`, tokens that end with "<eos>", both padded at the end.
`LogMelFeatures` computes `features` from the waveform inside the compiled program.
"""

from __future__ import annotations

import collections
import dataclasses
import os
import re
import tarfile
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from research.config.checks import check_part
from research.console import counted
from research.data.audio import decode_wav, to_waveform
from research.data.buckets import Padded, fit_shapes, longest_of
from research.data.feed import MASK
from research.data.padding import lengths_of, padded_columns, padded_rows
from research.data.source import Source
from research.data.sources.parallel_text import SPECIAL, check_special, ended, read_lines
from research.data.spec import Data, Splits, check_amount
from research.data.text.characters import check_characters
from research.data.text.tokenizers import CharTokenizer, Tokenizer
from research.data.transforms import Batch, Transform
from research.errors import RequestError, nearest, require
from research.layers.log_mel import LogMel
from research.listing import is_hidden, visible_files

_NOT_READ = frozenset(
    (".flac", ".mp3", ".ogg", ".oga", ".opus", ".m4a", ".mp4", ".aac", ".wma", ".aif", ".aiff", ".aifc", ".au", ".snd")
    + (".sph", ".amr", ".caf", ".webm", ".3gp", ".w64")
)
"""Suffixes of recordings that `Speech` does not decode, and counts."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Speech(Data):
    """Wav files with any sample rate and number of channels, converted to mono, resampled, and kept as int16 in memory.

    >>> data = Speech(path="recordings", pattern="{text}_{speaker}_{index}", test_if=(("index", ("0", "1")),))

    Attributes:
      path: a folder, searched recursively, or a .tar, .tar.gz or .tgz archive.
      pattern: the format of a file name, without .wav: "{text}_{speaker}_{index}".  One field must be `text` unless
        there are `transcripts`.
      transcripts: a tab-separated file with a header and one line per recording; recordings not listed are left out.
      columns: the columns of `transcripts` with the file name and the text; `test_if` may use the others.
      words: (name in the file name, transcript) pairs, such as ("0", "zero").
      test_if: selects the test split: recordings with one of these values in each of these fields of their name or
        line, such as (("speaker", ("theo",)),); empty holds out `test` instead.
      test: the fraction or number of recordings to hold out if `test_if` is empty.
      lowercase: lower-case the transcripts.
      sample_rate: in Hz.
      tokenizer: for the transcripts.
      buckets: the maximum number of batch shapes (`research/data/buckets.py`).
      decoded: the number of validation recordings that an evaluation decodes, for tasks that do; None for all.
      pad_to: the longest padded length, in samples, for prediction; inputs are padded to one of a few lengths up to it,
        to compile few programs.  `fit` sets it to the longest recording of all splits, which the trained model is known
        to support.
    """

    path: str
    pattern: str = "{text}"
    transcripts: str | None = None
    columns: tuple[str, str] = ("path", "text")
    words: tuple[tuple[str, str], ...] = ()
    test_if: tuple[tuple[str, tuple[str, ...]], ...] = ()
    test: float | int = 0
    lowercase: bool = False
    sample_rate: int = 16000
    tokenizer: Tokenizer = CharTokenizer(special_tokens=SPECIAL)
    buckets: int = 6
    decoded: int | None = None
    pad_to: int = 0

    def read(self) -> Splits:
        """Reads the recordings as text and waveforms of different lengths."""
        recordings = self._recordings()
        if not self.test_if:
            train, test = self.hold_out(recordings, "test")
            return Splits(train=train, test=test)
        is_test = np.ones(len(recordings), bool)
        for field, values in self.test_if:
            known = [facts.get(field) for facts in recordings.facts]
            require(
                None not in known,
                f"test_if: recordings have no field {field!r}; {nearest(field, recordings.facts[0])}",
            )
            for value in values:
                require(value in known, f"test_if {field}={value!r}: no recording has it; {nearest(value, known)}")
            is_test &= np.isin(known, values)
        require(not is_test.all() and is_test.any(), "test_if: expected it to select some recordings but not all")
        return Splits(train=recordings.take(np.flatnonzero(~is_test)), test=recordings.take(np.flatnonzero(is_test)))

    def load(self) -> Splits:
        recordings = super().load()
        tokenizer = self.tokenizer.fit(recordings.train.texts)
        tokens = {split: own.tokens(tokenizer) for split, own in recordings._asdict().items() if own is not None}
        lengths = {
            split: {"waveform": lengths_of(getattr(recordings, split).waveforms), "target": lengths_of(rows)}
            for split, rows in tokens.items()
        }
        longest, places = longest_of(lengths, recordings._asdict())
        shapes = fit_shapes(lengths["train"], self.buckets, longest)

        def source(split: str) -> Transcribed:
            columns = {
                "waveform": padded_rows(getattr(recordings, split).waveforms, longest["waveform"], np.int16),
                "target": padded_rows(tokens[split], longest["target"]),
            }
            first = None
            if split == "validation":
                first = np.arange(len(tokens[split])) < (np.inf if self.decoded is None else self.decoded)
                columns["decoded"] = first
            own = Transcribed(columns, lengths[split], shapes, first=first, note=recordings.train.note, longest=places)
            own.target_tokenizer, own.pad_to = tokenizer, longest["waveform"]
            return own

        return Splits(**{split: source(split) for split in tokens})

    def fit(self, train: Source) -> Self:
        """Copies the tokenizer fitted to the training transcripts, and the length of the longest recording."""
        return dataclasses.replace(self, tokenizer=train.target_tokenizer, pad_to=train.pad_to)

    def encode(self, raw: Any, sample_rate: int | None = None) -> dict[str, np.ndarray]:
        """Encodes recordings as `waveform` and `waveform_mask` [recording, length]; dicts of columns pass through.

        Args:
          raw: the path of a wav file, an array [samples] or [samples, channels] (full-range signed integers, or floats
            in [-1, 1]), or a list of those.
          sample_rate: the sample rate of arrays, in Hz; None for that of the training data.

        Raises:
          RequestError: there are none, or one is empty, of another type, or an unreadable file.
        """
        if isinstance(raw, Mapping):
            return super().encode(raw)
        recordings = raw if isinstance(raw, list | tuple) else [raw]
        require(len(recordings) > 0, "expected a recording, or a list of them, got none")
        rate = self.sample_rate if sample_rate is None else sample_rate
        waveforms = [self._waveform(one, rate, f"recording {i}") for i, one in enumerate(recordings)]
        return padded_columns("waveform", waveforms, self.pad_to, np.int16)

    def _waveform(self, recording: Any, rate: int, name: str) -> np.ndarray:
        if hasattr(recording, "dtype"):
            return to_waveform(np.asarray(recording), rate, self.sample_rate, name)
        expected = f"{name}: expected the path of a wav file or an array, got {type(recording).__name__}"
        require(isinstance(recording, str | os.PathLike), expected)
        file = epath.Path(recording)
        require(file.is_file(), f"{file}: no such file")
        return decode_wav(file.read_bytes(), str(file), self.sample_rate)

    def check(self) -> None:
        super().check()
        check_amount("test", self.test)
        require(self.sample_rate >= 1, f"sample_rate={self.sample_rate}: expected at least 1")
        for name, least in (("buckets", 1), ("decoded", 0), ("pad_to", 0)):
            value = getattr(self, name)
            require(value is None or value >= least, f"{name}={value}: expected at least {least}")
        named = re.findall(r"{(\w+)}", self.pattern)
        says = self.transcripts is not None or "text" in named
        require(
            says and len(set(named)) == len(named),
            f"pattern={self.pattern!r}: expected different fields, {{text}} among them",
        )
        check_special("tokenizer", self.tokenizer)

    def _recordings(self) -> Recordings:
        files, not_read = _recordings(self.path)
        others = f"; convert {not_read} to .wav" if not_read else ""
        require(len(files) > 0, f"path={self.path!r}: holds no .wav file{others}")
        by_pattern = self.transcripts is None
        named = self._named_by_pattern(files) if by_pattern else self._named_by_transcripts(files, others)
        waveforms, texts, names, facts = [], [], [], []
        words = dict(self.words)
        for name, fact in named:
            text = words.get(fact["text"], fact["text"])
            check_characters(text, name)
            texts.append(text.lower() if self.lowercase else text)
            waveforms.append(decode_wav(files[name], name, self.sample_rate))
            names.append(name)
            facts.append(fact)
        left_out = len(files) - len(names)
        notes = [f"{counted(left_out, 'recording')} without a transcript left out"] if left_out else []
        notes += [f"{not_read} left out, since only .wav is read"] if not_read and by_pattern else []
        return Recordings(waveforms, texts, names, facts, "; ".join(notes))

    def _named_by_pattern(self, files: Mapping[str, bytes]) -> Iterator[tuple[str, dict[str, str]]]:
        parts = re.split(r"{(\w+)}", self.pattern)
        expression = "".join(f"(?P<{part}>.+?)" if i % 2 else re.escape(part) for i, part in enumerate(parts))
        for name in files:
            match = re.fullmatch(expression, _bare(_base(name)))
            require(match is not None, f"{name}: its name does not match pattern={self.pattern!r}")
            yield name, match.groupdict()

    def _named_by_transcripts(self, files: Mapping[str, bytes], others: str) -> Iterator[tuple[str, dict[str, str]]]:
        places = collections.defaultdict(list)
        for file in files:
            for bare in {_bare(file), _bare(_base(file))}:
                places[bare].append(file)
        header, *lines = (line.split("\t") for line in read_lines(self.transcripts))
        for column in self.columns:
            require(column in header, f"{self.transcripts}, line 1: no column {column!r}; {nearest(column, header)}")
        require(len(lines) > 0, f"{self.transcripts}: only a header, expected one line per recording after it")
        named: dict[str, str] = {}
        for number, cells in enumerate(lines, 2):
            where = f"{self.transcripts}, line {number}"
            require(
                len(cells) == len(header),
                f"{where}: {counted(len(cells), 'column')}, expected {len(header)} as in line 1",
            )
            fact = dict(zip(header, cells, strict=True))
            name, text = (fact[column] for column in self.columns)
            found = places.get(_bare(name), [])
            found = [file for file in found if _bare(file) == _bare(name)] or found
            require(len(found) > 0, f"{where}: no file {name!r} in {self.path}{others}")
            require(len(found) == 1, f"{where}: {name!r} matches {' and '.join(found)}; include its folders")
            (file,) = found
            require(file not in named, f"{where}: {file!r} is listed twice, first on {named.get(file)}")
            named[file] = f"line {number}"
            require(bool(text.strip()), f"{where}: the transcript of {name!r} is empty")
            yield file, fact | {"text": text.strip()}


class Transcribed(Padded):
    """Waveforms and tokens, with the tokenizer and the length of the longest recording."""

    target_tokenizer: Tokenizer
    pad_to: int

    def take(self, indices: np.ndarray) -> Transcribed:
        own = super().take(indices)
        own.target_tokenizer, own.pad_to = self.target_tokenizer, self.pad_to
        return own


@dataclasses.dataclass(frozen=True, eq=False)
class Recordings:
    """Waveforms [samples] with their transcripts, file names, and the fields of those names."""

    waveforms: list[np.ndarray]
    texts: list[str]
    names: list[str]
    facts: list[dict[str, str]]
    note: str = ""

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, i: int) -> dict[str, Any]:
        return {"waveform": self.waveforms[i], "text": self.texts[i]}

    def column(self, name: str) -> np.ndarray | None:
        """The index of the text, as `label` to stratify by, if there are few distinct texts; otherwise None."""
        if name != "label":
            return None
        texts, label = np.unique(self.texts, return_inverse=True)
        return label if 10 * len(texts) <= len(self) else None

    def where(self, i: int) -> str:
        return self.names[i]

    def take(self, indices: np.ndarray) -> Recordings:
        own = ([column[i] for i in indices] for column in (self.waveforms, self.texts, self.names, self.facts))
        return Recordings(*own, self.note)

    def tokens(self, tokenizer: Tokenizer) -> list[np.ndarray]:
        """Tokenizes the transcripts; an error names the recording."""
        return [ended(tokenizer, text, name) for name, text in zip(self.names, self.texts, strict=True)]


@dataclasses.dataclass(frozen=True)
class LogMelFeatures(Transform):
    """Replaces `waveform` with `features` [batch, frames, mels] and `waveform_mask` with `features_mask` [batch,
    frames].

    There is one frame per `hop` samples, counting a final partial one.  Features do not depend on the amount of
    padding.

    >>> features = LogMelFeatures(log_mel=LogMel(mels=80))
    >>> batch = {"waveform": jnp.zeros((2, 1600)), "waveform_mask": jnp.ones((2, 1600), bool)}
    >>> jax.eval_shape(features, batch)["features"].shape
    (2, 10, 80)

    Attributes:
      log_mel: the settings of the features.
    """

    field: str = "waveform"
    log_mel: LogMel = LogMel()
    makes: ClassVar[str] = "features"

    def apply(self, x: jax.Array) -> jax.Array:
        """Computes features [batch, frames, mels] of waveforms [batch, samples]."""
        if jnp.issubdtype(x.dtype, jnp.integer):
            x = x.astype(jnp.float32) / (jnp.iinfo(x.dtype).max + 1)
        samples = self._whole_hops(x.shape[1])
        silence = samples - x.shape[1] + self._whole_hops(self.log_mel.window)  # prevents reflection at the end
        return self.log_mel(jnp.pad(x, ((0, 0), (0, silence))))[:, : self.log_mel.frames(samples)]

    def _whole_hops(self, samples: int) -> int:
        return -(-samples // self.log_mel.hop) * self.log_mel.hop

    def __call__(self, batch: Batch) -> Batch:
        changed = super().__call__(batch)
        features, mask = changed.pop(self.field), changed.pop(f"{self.field}{MASK}")
        lengths, samples = mask.sum(axis=1), self._whole_hops(mask.shape[1])
        return changed | {self.makes: features, f"{self.makes}{MASK}": self.log_mel.mask(lengths, samples)}

    def check(self) -> None:
        super().check()
        check_part("log_mel", self.log_mel)

    def check_data(self, data: Any) -> None:
        own, given = self.log_mel.sample_rate, getattr(data, "sample_rate", self.log_mel.sample_rate)
        require(own == given, f"log_mel.sample_rate={own}: data.sample_rate={given}; make them equal")


def _recordings(path: str) -> tuple[dict[str, bytes], str]:
    """Returns {name: bytes} of the wav files in a folder or archive, sorted by name, and the number of other recordings
    there: "3 .flac, 1 .mp3".
    """
    place = epath.Path(path)
    require(place.exists(), f"path={path!r} does not exist; expected a folder, or a .tar.gz")
    left_out: collections.Counter[str] = collections.Counter()
    if place.is_dir():
        files = {str(file.relative_to(place)): file for file in visible_files(place)}
        read = {name: file.read_bytes() for name, file in files.items() if _is_wav(name, left_out)}
        return read, _counts(left_out)
    try:
        with place.open("rb") as f, tarfile.open(fileobj=f) as archive:
            members = (m for m in archive if m.isfile() and _is_visible(m.name) and _is_wav(m.name, left_out))
            read = {member.name: archive.extractfile(member).read() for member in members}
            while archive.fileobj.read(2**20):  # read up to the checksum, which reveals damage and truncation
                pass
    except Exception as error:  # decompressors raise many types on damaged bytes
        reason = (str(error) or type(error).__name__).splitlines()[0].rstrip(":")
        expected = "a folder of wav files, or a .tar, .tar.gz or .tgz of them"
        raise RequestError(f"path={path!r}: expected {expected} ({reason})") from None
    return dict(sorted(read.items())), _counts(left_out)


def _is_visible(member: str) -> bool:
    """Returns True for a member of an archive that neither is hidden nor lies in a hidden folder."""
    return not any(map(is_hidden, (part for part in member.split("/") if part not in (".", ".."))))


def _counts(left_out: Mapping[str, int]) -> str:
    return ", ".join(f"{n:,} {suffix}" for suffix, n in sorted(left_out.items()))


def _is_wav(name: str, left_out: collections.Counter[str] | None = None) -> bool:
    """Returns True for a wav file; counts the suffix of another recording in `left_out`."""
    suffix = os.path.splitext(name)[1].lower()
    if left_out is not None and suffix in _NOT_READ:
        left_out[suffix] += 1
    return suffix == ".wav"


def _bare(name: str) -> str:
    """Removes ".wav" from a name."""
    return name[: -len(".wav")] if _is_wav(name) else name


def _base(name: str) -> str:
    """Removes the folders from a name."""
    return name.rsplit("/", 1)[-1]
