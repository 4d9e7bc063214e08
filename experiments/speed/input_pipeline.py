"""Batches per second for each way of reading data, against the training steps per second of a ResNet-18.

    python -m experiments.speed.input_pipeline

Uses batches of 32 images of two kinds: 32×32 pixels in arrays, and JPEG files of 500×375 pixels resized to 224×224.
Each way is timed on its own.  A run's report shows whether its training waits for data.  Results are in
experiments/RESULTS.md.
"""

from __future__ import annotations

import pathlib
import tempfile
import time
from collections.abc import Callable

import numpy as np

from experiments.speed.against_torch import images, ours
from experiments.speed.side_by_side import in_turns, report
from research.data.feeds import make_feeds
from research.data.sources.arrays import InMemory
from research.data.sources.folders import ImageFolder
from research.data.spec import Data, Storage
from research.models.resnet import resnet
from research.optimizers import SGD
from research.parallel.host_memory import keep_freed_memory_on_cpu

BATCH = 32
WAYS: dict[Storage, int] = {"device": 2000, "host": 1000, "workers": 40}  # batches to time


def feed(data: Data, storage: Storage) -> Callable[[], float]:
    """Makes a function that returns the batches/s of one storage; workers start before the clock."""
    feeds = make_feeds(data.load(), data)

    def run() -> float:
        with feeds.train.batches(0, BATCH) as batches:
            batches.sent(0)
            started = time.perf_counter()
            for step in range(1, 1 + WAYS[storage]):
                batches.sent(step)
            return WAYS[storage] / (time.perf_counter() - started)

    return run


def step(side: int, steps: int) -> Callable[[], float]:
    """Makes a function that returns the training steps/s of a ResNet-18 on images that are already on the device."""
    stem = "cifar" if side == 32 else "imagenet"
    return ours(images(resnet(18, classes=10, stem=stem), SGD(0.1, momentum=0.9), steps, side))


def arrays(storage: Storage) -> Data:
    pixels = np.random.default_rng(0).integers(0, 256, (50_000, 32, 32, 3), np.uint8)
    return InMemory(train={"image": pixels, "label": np.arange(len(pixels)) % 10}, validation=0, storage=storage)


def photographs(folder: pathlib.Path, count: int = 640) -> None:
    """Writes JPEG files of the size of photographs: smooth colours with noise, about 60 kB each."""
    import PIL.Image

    generator = np.random.default_rng(0)
    for i in range(count):
        coarse = PIL.Image.fromarray(generator.integers(0, 256, (24, 32, 3), np.uint8))
        pixels = np.asarray(coarse.resize((500, 375), PIL.Image.Resampling.BICUBIC)).astype(np.int16)
        pixels = np.clip(pixels + generator.normal(0, 6, pixels.shape), 0, 255).astype(np.uint8)
        path = folder / str(i % 10) / f"{i}.jpg"
        path.parent.mkdir(exist_ok=True)
        PIL.Image.fromarray(pixels).save(path, quality=90)


def main() -> None:
    keep_freed_memory_on_cpu()
    print("32×32 pixels, in arrays")
    ways = {f"batches from {way}": feed(arrays(way), way) for way in WAYS}
    report(in_turns({"ResNet-18's steps": step(32, 6)} | ways, 3), "batches/s", "ResNet-18's steps")
    with tempfile.TemporaryDirectory() as name:
        photographs(pathlib.Path(name))
        data = ImageFolder(name, size=(224, 224), validation=0, storage="workers", workers=2)
        print("JPEG files, to 224×224 pixels")
        contenders = {"ResNet-18's steps": step(224, 2), "read by 2 workers": feed(data, "workers")}
        report(in_turns(contenders, 3), "batches/s", "ResNet-18's steps")


if __name__ == "__main__":
    main()
