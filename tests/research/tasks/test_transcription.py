"""Transcription: error rates, and CTC from waveforms to text, trained, resumed and used."""

import dataclasses
import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys
from command_line import lines
from scipy.io import wavfile

from research.config.serialization import to_json
from research.data.augment.spec_augment import SpecAugment
from research.data.feeds import make_feeds
from research.data.sources.parallel_text import SPECIAL
from research.data.sources.speech import LogMelFeatures, Speech
from research.data.text.tokenizers import CharTokenizer
from research.errors import RequestError
from research.experiment import Experiment
from research.inference import Predictor, load, transcribe, translate
from research.layers.log_mel import LogMel
from research.models.ctc import CTC
from research.models.whisper import Whisper
from research.optimizers import AdamW
from research.tasks.transcription import CTCTranscription, Transcription, error_rates
from research.training.check import check_trainable
from research.training.loop import train
from research.training.progress import Progress
from research.training.records import write_json
from research.training.trial import Trial

ENCODER = {"mels": 20, "width": 16, "num_heads": 2, "depth": 1, "audio_length": 64}


def test_error_rates_are_edits_over_the_reference():
    found = error_rates(["one too", "three"], ["one two", "three four"])
    assert found["wer"] == pytest.approx(2 / 4)
    assert found["cer"] == pytest.approx((1 + 5) / (7 + 10))


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """Tones: a low one means "a", a high one "b"."""
    folder = tmp_path_factory.mktemp("tones")
    rng = np.random.default_rng(0)
    for text, hertz in (("a", 300), ("b", 1800)):
        for index in range(24):
            seconds = rng.uniform(0.08, 0.25)
            tone = 0.3 * np.sin(2 * np.pi * hertz * rng.uniform(0.9, 1.1) * np.arange(int(seconds * 8000)) / 8000)
            file = io.BytesIO()
            wavfile.write(file, 8000, (2**15 * (tone + 0.01 * rng.normal(size=tone.shape))).astype(np.int16))
            (folder / f"{text}_{index}.wav").write_bytes(file.getvalue())
    return folder


def experiment(recordings, **changes) -> Experiment:
    base = Experiment(
        model=CTC(5, **ENCODER),
        task=CTCTranscription(beams=2),
        data=Speech(
            path=str(recordings), pattern="{text}_{index}", validation=8, test=8, buckets=2,
            tokenizer=CharTokenizer(special_tokens=SPECIAL),
        ),
        preprocess=(LogMelFeatures(log_mel=LogMel(mels=20)),),
        augment=(SpecAugment(time_width=3, frequency_width=3),),
        optimizer=AdamW(learning_rate=1e-2),
        steps=40,
        batch_size=8,
        parallel=toys.ONE_DEVICE,
    )  # fmt: skip
    return dataclasses.replace(base, **changes)


def run(experiment: Experiment, folder):
    splits = experiment.data.load()
    feeds = make_feeds(splits, experiment.data)
    own = experiment.fit(splits, feeds.decoded)
    own.check()
    check_trainable(own, feeds)
    folder.mkdir()
    write_json(folder / "config.json", {"experiment": to_json(own)})
    train([Trial("0", own, folder)], feeds, stacked=False, progress=Progress())
    return lines(folder)[-1]


def test_a_recording_that_is_too_long_is_named(recordings, tmp_path):
    for file in recordings.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    rate, samples = wavfile.read(tmp_path / "a_7.wav")
    wavfile.write(tmp_path / "a_7.wav", rate, np.tile(samples, 9))
    spoken = experiment(tmp_path, model=CTC(5, **ENCODER | {"audio_length": 24}))
    splits = spoken.data.load()
    feeds = make_feeds(splits, spoken.data)
    with pytest.raises(
        RequestError, match=r"features: \d+ frames, expected at most 48 .* the longest example is .*a_7"
    ):
        check_trainable(spoken.fit(splits, feeds.decoded), feeds)


def test_ctc_learns_to_tell_two_tones_and_transcribes_a_file(recordings, tmp_path):
    last = run(experiment(recordings), tmp_path / "ctc")
    assert last["split"] == "test" and last["too_long"] == 0
    assert last["wer"] <= 0.25 and last["cer"] <= 0.25
    predictor = load(tmp_path / "ctc")
    files = [str(recordings / "a_0.wav"), str(recordings / "b_0.wav")]
    together = transcribe(predictor, files)
    assert [transcribe(predictor, file) for file in files] == together and set(together) <= {"a", "b", ""}
    rate, samples = wavfile.read(files[1])
    assert transcribe(predictor, samples, sample_rate=rate) == together[1]
    with pytest.raises(RequestError, match="translate: this run was trained by CTCTranscription"):
        translate(predictor, "a")

    exact = Predictor(
        dataclasses.replace(predictor.experiment, data=dataclasses.replace(predictor.experiment.data, pad_to=0)),
        predictor.variables,
    )
    near = [samples[:1100], samples[:1200], samples[:1290]]  # twice as many after resampling
    programs = predictor._predict._cache_size()
    assert [transcribe(predictor, x, rate) for x in near] == [transcribe(exact, x, rate) for x in near]
    assert predictor._predict._cache_size() - programs <= 1 and exact._predict._cache_size() == 3


@pytest.mark.parametrize("samples", [1, 48, 170])
@pytest.mark.parametrize("model", [CTC(5, **ENCODER), Whisper(5, context_length=8, decoder_depth=1, **ENCODER)])
def test_a_recording_shorter_than_a_frame_is_transcribed(recordings, model, samples):
    task = CTCTranscription() if isinstance(model, CTC) else Transcription(max_new_tokens=3)
    assert isinstance(transcribe(untrained(recordings, model, task), np.ones(samples, np.int16)), str)


def untrained(recordings, model, task) -> Predictor:
    own = experiment(recordings, model=model, task=task)
    own = own.fit(own.data.load())
    inputs = own.task.inputs(
        {"features": jnp.ones((1, 9, 20)), "features_mask": jnp.ones((1, 9), bool), "target": jnp.ones((1, 3))}
    )
    return Predictor(own, jax.jit(model.init)(jax.random.key(0), **inputs))


def test_texts_that_may_be_longer_than_the_context_are_refused_before_anything_is_compiled(recordings):
    model = Whisper(5, context_length=16, decoder_depth=1, **ENCODER)
    task = Transcription(max_new_tokens=30)
    line = "^task.max_new_tokens=30: expected below model.context_length=16, which also holds the start token"
    own = experiment(recordings, model=model, task=task)
    splits = own.data.load()
    with pytest.raises(RequestError, match=line):
        check_trainable(own.fit(splits), make_feeds(splits, own.data))
    with pytest.raises(RequestError, match=line):
        transcribe(untrained(recordings, model, task), np.ones(4000, np.int16))


def test_an_encoder_decoder_trains_on_the_same_data(recordings, tmp_path):
    changes = {
        "model": Whisper(5, context_length=8, decoder_depth=1, **ENCODER),
        "task": Transcription(max_new_tokens=3),
    }
    last = run(experiment(recordings, steps=3, **changes), tmp_path / "whisper")
    assert {"loss", "perplexity", "token_accuracy", "wer", "cer"} <= last.keys()


@pytest.mark.parametrize("beams", [0, -1])
def test_beams_are_checked(beams):
    with pytest.raises(RequestError, match=f"beams={beams}: expected at least 1"):
        CTCTranscription(beams=beams).check()


def test_two_sample_rates_are_refused(recordings):
    other = (LogMelFeatures(log_mel=LogMel(mels=20, sample_rate=8000)),)
    line = r"^preprocess.0.log_mel.sample_rate=8000: data.sample_rate=16000; make them equal$"
    with pytest.raises(RequestError, match=line):
        experiment(recordings, preprocess=other).check()
    data = dataclasses.replace(experiment(recordings).data, sample_rate=8000)
    experiment(recordings, preprocess=other, data=data).check()


def test_two_tokenizers_are_refused(recordings):
    spoken = experiment(recordings)
    splits = spoken.data.load()
    decoded = make_feeds(splits, spoken.data).decoded
    fitted = spoken.fit(splits, decoded)
    assert fitted.fit(splits, decoded).task == fitted.task
    task = CTCTranscription(tokenizer=CharTokenizer("xy", SPECIAL))
    with pytest.raises(RequestError, match="^task.tokenizer: it differs from the tokenizer of the data's targets"):
        experiment(recordings, task=task).fit(splits, decoded)
