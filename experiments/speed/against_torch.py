"""The speed of Espalier against eager PyTorch: same model, batch, optimizer and threads, float32, on a CPU.

    python -m experiments.speed.against_torch mlp gpt lstm resnet --peer torch_speed.py --torch-python venv/bin/python
    python -m experiments.speed.against_torch vit --peer experiments/speed/torch_vit.py --torch-python venv/bin/python
    python -m experiments.speed.against_torch translation speech --peer experiments/speed/torch_sequences.py \
        --torch-python venv/bin/python
    python -m experiments.speed.against_torch unet dit draw_unet draw_dit \
        --peer experiments/speed/torch_diffusion.py --torch-python venv/bin/python
    ESPALIER_DATA=... python -m experiments.speed.against_torch gcn gin \
        --peer experiments/speed/torch_graphs.py --torch-python venv/bin/python

The peer is a script that takes `--only CASE` and prints "CASE ... N steps/s", or "N images/s" where images are drawn;
it runs unmodified, in turns with Espalier.  Espalier runs its usual compiled program on examples that live on the
device, so it also gathers each batch.
Results are in experiments/RESULTS.md.
"""

from __future__ import annotations

import argparse
import dataclasses
import re
import subprocess
import time
from collections.abc import Callable
from types import ModuleType
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from experiments import cora_gnn, esol_gnn
from experiments.speed.side_by_side import in_turns, report
from research.config.hparams import hparams
from research.data.feeds import make_feeds
from research.data.sources.arrays import InMemory
from research.data.sources.speech import LogMelFeatures
from research.diffusion.process import Diffusion
from research.experiment import Experiment
from research.inference.images import draw
from research.layers.log_mel import LogMel
from research.models.ctc import CTC
from research.models.dit import DiT
from research.models.gpt import GPT
from research.models.mlp import MLP
from research.models.resnet import resnet
from research.models.rnn import RNNLanguageModel
from research.models.transformer import Transformer
from research.models.unet import UNet
from research.models.vit import vit
from research.optimizers import SGD, Adam, AdamW, Optimizer
from research.parallel.host_memory import keep_freed_memory_on_cpu
from research.tasks.classification import Classification
from research.tasks.denoising import Denoising
from research.tasks.language_modeling import LanguageModeling
from research.tasks.transcription import CTCTranscription
from research.tasks.translation import Translation
from research.training.programs import make_programs


def mlp() -> Experiment:
    generator = np.random.default_rng(0)
    train = {
        "image": generator.normal(size=(10_000, 784)).astype(np.float32),
        "label": generator.integers(0, 10, 10_000),
    }
    return Experiment(
        model=MLP(widths=(512, 512), classes=10),
        task=Classification(classes=10),
        data=InMemory(train=train, validation=0),
        optimizer=Adam(learning_rate=1e-3),
        steps=400,
        batch_size=128,
    )


def texts(count: int, length: int, vocab_size: int) -> InMemory:
    generator = np.random.default_rng(0)
    tokens = generator.integers(0, vocab_size, (2, count, length)).astype(np.int32)
    return InMemory(train={"tokens": tokens[0], "targets": tokens[1]}, validation=0)


def lstm() -> Experiment:
    return Experiment(
        model=RNNLanguageModel(vocab_size=256, cell="lstm", width=256),
        task=LanguageModeling(vocab_size=256),
        data=texts(256, 128, 256),
        optimizer=Adam(learning_rate=1e-3),
        steps=25,
        batch_size=32,
    )


def gpt() -> Experiment:
    model = GPT(vocab_size=65, context_length=256, width=384, depth=6, num_heads=6, use_bias=False, activation="gelu")
    return Experiment(
        model=model,
        task=LanguageModeling(vocab_size=65),
        data=texts(64, 256, 65),
        optimizer=AdamW(learning_rate=1e-3, b2=0.99, weight_decay=0.1),
        clip_norm=1.0,
        steps=8,
        batch_size=8,
    )


def images(model: nn.Module, optimizer: Optimizer, steps: int, side: int = 32) -> Experiment:
    """Trains on batches of 32 images of `side` by `side` pixels."""
    generator = np.random.default_rng(0)
    train = {
        "image": generator.normal(size=(320, side, side, 3)).astype(np.float32),
        "label": generator.integers(0, 10, 320),
    }
    return Experiment(
        model=model,
        task=Classification(classes=10),
        data=InMemory(train=train, validation=0),
        optimizer=optimizer,
        steps=steps,
        batch_size=32,
    )


def resnet18(stem: str, steps: int) -> Experiment:
    optimizer = SGD(learning_rate=0.1, momentum=0.9, weight_decay=5e-4, no_decay=())
    return images(resnet(18, classes=10, stem=stem), optimizer, steps)


def vit_tiny() -> Experiment:
    model = vit("ti", patch_size=4, image_size=32, classes=10)
    return images(model, AdamW(learning_rate=1e-3, weight_decay=0.05, no_decay=()), 8)


def translation() -> Experiment:
    tokens = np.random.default_rng(0).integers(3, 8000, (2, 256, 20)).astype(np.int32)
    return Experiment(
        model=Transformer(8000, context_length=128, width=256, depth=3, num_heads=4, norm="pre", dropout=0.1),
        task=Translation(label_smoothing=0.1),
        data=InMemory(train=unpadded(source=tokens[0], target=tokens[1]), validation=0),
        optimizer=AdamW(learning_rate=1e-3),
        clip_norm=1.0,
        steps=6,
        batch_size=64,
    )


def speech() -> Experiment:
    generator = np.random.default_rng(0)
    waveforms = generator.uniform(-1, 1, (256, 8000)).astype(np.float32)
    texts = np.concatenate([generator.integers(3, 18, (256, 4)), np.full((256, 1), 2)], axis=1).astype(np.int32)
    return Experiment(
        model=CTC(18, mels=40, width=96, depth=4, num_heads=4, audio_length=256, dropout=0.1),
        task=CTCTranscription(),
        data=InMemory(train=unpadded(waveform=waveforms, target=texts), validation=0),
        preprocess=(LogMelFeatures(log_mel=LogMel(mels=40)),),
        optimizer=AdamW(learning_rate=1e-3),
        clip_norm=1.0,
        steps=12,
        batch_size=64,
    )


UNET = UNet(widths=(32, 64, 64), depth=1, attention=(False, True, False))
DIT = DiT(patch_size=4, width=128, depth=6, num_heads=4, classes=10, block_embeddings=True)


def noised(model: UNet | DiT) -> Experiment:
    generator = np.random.default_rng(0)
    train = {
        "image": generator.uniform(-1, 1, (160, 32, 32, 3)).astype(np.float32),
        "label": generator.integers(0, 10, 160),
    }
    return Experiment(
        model=model,
        task=Denoising(
            classes=model.classes, process=Diffusion(schedule="linear", prediction="noise"), shape=(32, 32, 3)
        ),
        data=InMemory(train=train, validation=0),
        optimizer=AdamW(learning_rate=1e-3),
        steps=8,
        batch_size=16,
    )


def unpadded(**sequences: np.ndarray) -> dict[str, np.ndarray]:
    """Adds masks without padding to sequences [example, length, ...]."""
    return sequences | {f"{name}_mask": np.ones(x.shape[:2], bool) for name, x in sequences.items()}


def steps(module: ModuleType, count: int) -> Experiment:
    """A number of steps of a module's experiment, as it trains."""
    own = dataclasses.replace(module.experiment(), steps=count)
    return own.fit(own.load())


def trains(own: Experiment) -> Callable[[], float]:
    """Makes a function that trains the experiment's steps again and returns the steps per second."""
    feeds = make_feeds(own.data.load(), own.data)
    programs = make_programs(own, feeds.train.resident)
    batches = feeds.train.batches(0, own.batch_size)
    state = programs.init([0], [hparams(own)], batches.sent(0))
    size = programs.steps_per_call(state, batches.sent(0))

    def run() -> float:
        nonlocal state
        started = time.perf_counter()
        for start in range(0, own.steps, size):
            sent = [batches.sent(step) for step in range(start, min(start + size, own.steps))]
            state, metrics = programs.train(state, sent)
        float(metrics["loss"][0])
        return own.steps / (time.perf_counter() - started)

    run()
    return run


def trains_graphs(own: Experiment) -> Callable[[], float]:
    """As `trains`, but in graphs per second; batches are rows, which hold several."""
    source, run = own.data.load().train, trains(own)
    each = own.batch_size * source.graphs / len(source)
    return lambda: each * run()


def draws(own: Experiment) -> Callable[[], float]:
    """Makes a function that draws 16 images by DDIM in 10 steps again and returns the images per second."""
    task, model = own.task, own.model
    classes = {} if model.classes is None else {"label": jnp.zeros(1, int)}
    variables = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 32, 32, 3)), jnp.zeros(1), **classes)

    def run() -> float:
        started = time.perf_counter()
        images = draw((model, variables), label=0 if classes else None, number=16, steps=10, task=task)
        return len(images) / (time.perf_counter() - started)

    run()
    return run


class Case(NamedTuple):
    """A setup that both sides implement."""

    peer: str  # the case's name in the peer's script
    experiment: Callable[[], Experiment]  # for Espalier; its `steps` are timed
    what: str
    start: Callable[[Experiment], Callable[[], float]] = trains  # makes a function that returns Espalier's speed
    unit: str = "steps/s"


CASES = {
    "mlp": Case("mlp_fused_adam", mlp, "MLP 784-512-512-10, batch 128; PyTorch's Adam fused"),
    "lstm": Case("lstm", lstm, "embedding 256, LSTM 256, head of 256 on every token; batch 32, 128 tokens, Adam"),
    "gpt": Case("gpt", gpt, "GPT, 6 layers, 6 heads, 384 wide; batch 8, 256 tokens, AdamW, clipped at 1"),
    "resnet": Case("resnet", lambda: resnet18("imagenet", 30), "ResNet-18, 7×7 stem, pool, batch 32 of 32×32, SGD"),
    "resnet_cifar": Case("resnet_cifar", lambda: resnet18("cifar", 6), "ResNet-18, 3×3 stem, batch 32 of 32×32, SGD"),
    "translation": Case("translation", translation, "3 + 3 layers, 256 wide; batch 64, 20 + 20 tokens, AdamW"),
    "speech": Case("speech", speech, "log-mel, CTC on 4 layers, 96 wide; batch 64 of half a second, AdamW"),
    "vit": Case("vit", vit_tiny, "ViT-Ti, patches of 4, batch 32 of 32×32, AdamW; PyTorch's fused"),
    "unet": Case("unet", lambda: noised(UNET), "DDPM's U-Net, 32, 64, 64 channels; batch 16 of 32×32, AdamW"),
    "dit": Case("dit", lambda: noised(DIT), "DiT, 6 layers, 128 wide, patches of 4; batch 16 of 32×32, AdamW"),
    "draw_unet": Case("draw_unet", lambda: noised(UNET), "the U-Net draws 16 images in 10 steps", draws, "images/s"),
    "gcn": Case("gcn", lambda: steps(cora_gnn, 200), "GCN, 16 wide, on Cora as a whole, Adam; dense words for PyTorch"),
    "gin": Case("gin", lambda: steps(esol_gnn, 100), "GIN with bonds, 4 × 64, on ESOL", trains_graphs, "molecules/s"),
    "draw_dit": Case("draw_dit", lambda: noised(DIT), "the DiT draws 16 images in 10 steps", draws, "images/s"),
}


def theirs(case: Case, peer: str, python: str, threads: str) -> Callable[[], float]:
    """Makes a function that runs the peer's script on a case and returns the speed that it prints."""
    command = [python, peer, "--threads", threads, "--only", case.peer, "--repeats", "1", "--max-tries", "1"]

    def run() -> float:
        printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        return float(re.search(rf"^{case.peer}\s+([0-9.]+) {case.unit}", printed, re.MULTILINE).group(1))

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="+", choices=list(CASES), metavar="case", help=", ".join(CASES))
    parser.add_argument("--peer", required=True)
    parser.add_argument("--torch-python", required=True)
    parser.add_argument("--threads", default="2")
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    keep_freed_memory_on_cpu()  # as the launcher does
    for name in asked.cases:
        case = CASES[name]
        print(f"{name}: {case.what}", flush=True)
        contenders = {
            "PyTorch, eager": theirs(case, asked.peer, asked.torch_python, asked.threads),
            "Espalier": case.start(case.experiment()),
        }
        report(in_turns(contenders, asked.rounds), case.unit, "PyTorch, eager")


if __name__ == "__main__":
    main()
