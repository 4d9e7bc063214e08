"""A tiny experiment of each family, for tests of what has to hold for all of them.

A new family adds a line.  Each has a batch of 16, and randomness of its own: dropout, augmentation, or noise.
"""

import dataclasses
import io
import pathlib

import numpy as np
import toys
from scipy.io import wavfile

from research.data import augment
from research.data.augment.spec_augment import SpecAugment
from research.data.source import Columns
from research.data.sources.parallel_text import SPECIAL, ParallelText
from research.data.sources.speech import LogMelFeatures, Speech
from research.data.spec import Data, Splits
from research.data.text.tokenizers import ByteTokenizer, CharTokenizer
from research.data.transforms import Scale
from research.diffusion.samplers import DDIM
from research.evaluation.evaluations import Evaluation
from research.experiment import Experiment
from research.layers.log_mel import LogMel
from research.models.convnext import ConvNeXt
from research.models.ctc import CTC
from research.models.dit import DiT
from research.models.gpt import GPT
from research.models.llama import Llama
from research.models.mlp import MLP
from research.models.rnn import RNNLanguageModel
from research.models.simple_cnn import SimpleCNN
from research.models.transformer import Transformer
from research.models.unet import UNet
from research.models.vit import ViT
from research.models.whisper import Whisper
from research.parallel.spec import Parallel
from research.tasks.denoising import Denoising
from research.tasks.language_modeling import LanguageModeling
from research.tasks.samples import Samples
from research.tasks.transcription import CTCTranscription, Transcription
from research.tasks.translation import Translation
from research.training.checkpoints import Checkpoints


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pictures(Data):
    """Noisy pictures of classes: image uint8 [8, 8, 1], label int32."""

    def read(self) -> Splits:
        generator = np.random.default_rng(0)
        patterns = generator.integers(0, 200, (3, 8, 8, 1))

        def part(n: int) -> Columns:
            labels = np.arange(n, dtype=np.int32) % 3
            images = patterns[labels] + generator.integers(0, 50, (n, 8, 8, 1))
            return Columns({"image": images.astype(np.uint8), "label": labels})

        return Splits(train=part(160), validation=part(40), test=part(50))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Counting(Data):
    """Sequences that count from a random start: tokens and targets uint8 [12], modulo 13."""

    def read(self) -> Splits:
        generator = np.random.default_rng(0)

        def part(n: int) -> Columns:
            tokens = ((generator.integers(0, 13, (n, 1)) + np.arange(13)) % 13).astype(np.uint8)
            return Columns({"tokens": tokens[:, :-1], "targets": tokens[:, 1:]})

        return Splits(train=part(160), validation=part(40), test=part(50))


def write_files(folder: pathlib.Path) -> None:
    """Writes the files that some of the families read: sentences backwards, and low and high tones."""
    generator = np.random.default_rng(0)
    words = [["".join(generator.choice(list("abcd"), 3)) for _ in range(generator.integers(1, 5))] for _ in range(90)]
    (folder / "pairs.tsv").write_text("\n".join(f"{' '.join(w)}\t{' '.join(w[::-1])}" for w in words))
    (folder / "tones").mkdir()
    for text, hertz in (("a", 300), ("b", 1800)):
        for index in range(24):
            times = np.arange(int(8000 * generator.uniform(0.08, 0.25))) / 8000
            samples = 0.3 * np.sin(2 * np.pi * hertz * times) + 0.01 * generator.normal(size=times.shape)
            file = io.BytesIO()
            wavfile.write(file, 8000, (2**15 * samples).astype(np.int16))
            (folder / "tones" / f"{text}_{index}.wav").write_bytes(file.getvalue())


def images(model, folder, **changes):
    base = toys.experiment(
        model=model,
        data=Pictures(),
        preprocess=(Scale("image", 1 / 127.5, shift=-1.0),),
        augment=(augment.RandomCrop(1), augment.HorizontalFlip()),
    )
    return dataclasses.replace(base, **changes)


def noisy(model, folder):
    draws = Evaluation("samples", examples=10, task=Samples(sampler=DDIM(steps=3)))
    return images(model, folder, task=Denoising(classes=3, times=4), augment=(), evaluations=(draws,))


def text(model, folder):
    return toys.experiment(model=model, task=LanguageModeling(vocab_size=13), data=Counting())


def pairs(model, folder):
    tokenizer = ByteTokenizer(SPECIAL)
    data = ParallelText(
        path=(str(folder / "pairs.tsv"),), tokenizer=tokenizer, buckets=2, validation=20, test=10, decoded=5
    )
    return toys.experiment(model=model, task=Translation(tokenizer=tokenizer, max_new_tokens=4), data=data)


def speech(model, folder, task):
    data = Speech(
        path=str(folder / "tones"),
        pattern="{text}_{index}",
        validation=8,
        test=8,
        buckets=2,
        tokenizer=CharTokenizer(special_tokens=SPECIAL),
    )
    preprocess, masked = (LogMelFeatures(log_mel=LogMel(mels=20)),), SpecAugment(time_width=3, frequency_width=3)
    return toys.experiment(model=model, task=task, data=data, preprocess=preprocess, augment=(masked,))


LAYERS = {"width": 16, "depth": 1, "num_heads": 2}
WORDS = {"vocab_size": 13, "context_length": 12}
SOUND = {"mels": 20, "audio_length": 64}
THREE = {"classes": 3}
PIXELS = {"image_size": 8, "channels": 1, "classes": 3}
NOISE = augment.Noise(0.1)
WRITTEN = Transcription(max_new_tokens=4)

FAMILIES = {
    "mlp": lambda folder: toys.experiment(model=MLP(widths=(16, 8), classes=3, dropout=0.1), augment=(NOISE,)),
    "cnn": lambda folder: images(SimpleCNN(channels=(4, 8), hidden=(16,), norm="batch", dropout=0.1, **THREE), folder),
    "convnext": lambda folder: images(ConvNeXt(depths=(1, 1), widths=(8, 16), strides=(1, 2), **THREE), folder),
    "vit": lambda folder: images(ViT(image_size=8, patch_size=4, dropout=0.1, **LAYERS, **THREE), folder),
    "rnn": lambda folder: text(RNNLanguageModel(13, width=16, dropout=0.1), folder),
    "gpt": lambda folder: text(GPT(**WORDS, **LAYERS, dropout=0.1), folder),
    "llama": lambda folder: text(Llama(**WORDS, **LAYERS, mlp_width=32), folder),
    "translation": lambda folder: pairs(Transformer(260, context_length=32, **LAYERS, dropout=0.1), folder),
    "whisper": lambda folder: speech(Whisper(5, context_length=8, **SOUND, **LAYERS), folder, WRITTEN),
    "ctc": lambda folder: speech(CTC(5, **SOUND, **LAYERS), folder, CTCTranscription(beams=2)),
    "unet": lambda folder: noisy(UNet(widths=(8, 16), depth=1, attention=(False, True), groups=4, **PIXELS), folder),
    "dit": lambda folder: noisy(DiT(patch_size=4, **PIXELS, **LAYERS), folder),
}


def experiment(family: str, folder: pathlib.Path = pathlib.Path(), **changes) -> Experiment:
    """The tiny experiment of a family, over all devices, which saves by steps.

    Args:
      family: one of `FAMILIES`.
      folder: where `write_files` has written.
      changes: fields of the experiment.
    """
    base = dataclasses.replace(
        FAMILIES[family](folder),
        batch_size=16,
        eval_batch_size=16,
        steps=50,
        eval_every=25,
        ema_decay=0.9,
        parallel=Parallel(),
        checkpoints=Checkpoints(every_steps=20, every_seconds=None, best="validation/loss"),
    )
    return dataclasses.replace(base, **changes)
