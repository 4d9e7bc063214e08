"""Scores samples by a classifier of ours: Fréchet distance, precision, recall, classes, and nearest training images.

The classifier is a finished run, trained by its own command; its name, and the numbers of images, stand beside the
metrics in result.json.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from research.config.brief import brief
from research.config.checks import check_counts, check_factors
from research.data.source import Source, first_example, read
from research.errors import prefixed, require
from research.evaluation.exhibits import ImagePairs
from research.inference.features import features
from research.inference.load import load
from research.inference.predictor import Predictor
from research.metrics.generation import frechet_distance, nearest, precision_recall
from research.tasks.classification import Classification
from research.tasks.samples import Samples
from research.tasks.task import Direction


@dataclasses.dataclass(frozen=True, kw_only=True)
class SampleQuality(Samples):
    """Draws images, and compares them with the images that a classifier was trained on, in its features.

    >>> quality = SampleQuality(classifier="runs/fashion_mnist_cnn/base", guidance=2.0)
    >>> quality.check()

    Metrics: "frechet_distance", "precision" and "recall" of the samples among the training images; "class_accuracy",
    the share of samples to which the classifier gives the class that was asked for; and "copying", the mean distance
    in pixels from a sample to its nearest training image, over that of an image of the test split: far below 1,
    samples are copies.

    Attributes:
      classifier: the folder of a run or of a trial, trained by `Classification`.
      layer: the layer of the classifier whose input are the features; None means the last dense one, its head.
      references: the number of training images, at equal intervals.
      white: the value of a white pixel in the images that the classifier reads.
      sampler, guidance, denoising: as of `Samples`.
    """

    better: ClassVar[Mapping[str, Direction]] = {
        "frechet_distance": "min", "precision": "max", "recall": "max", "class_accuracy": "max", "copying": "max",
    }  # fmt: skip

    classifier: str
    layer: str | None = None
    references: int = 5000
    white: float = 255.0

    def check(self) -> None:
        super().check()
        check_counts(self, "references", least=10)
        check_factors(self, "white")

    def finalize(self, outputs: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Returns the metrics; see the class."""
        judge = self._judge()
        splits = judge.experiment.load()
        raw = self._raw(outputs["image"], judge, splits.train)
        real = self._images(judge, splits.train)
        found, logits = features(judge, raw, layer=self.layer)
        expected, _ = features(judge, real, layer=self.layer)
        precision, recall = precision_recall(expected, found)
        metrics = {"frechet_distance": frechet_distance(expected, found), "precision": precision, "recall": recall}
        if "label" in outputs:
            metrics["class_accuracy"] = float((logits.argmax(-1) == outputs["label"]).mean())
        if splits.test is not None:
            held_out = self._images(judge, splits.test)
            near, usual = (nearest(_flat(real), _flat(x))[1].mean() for x in (raw, held_out))
            metrics["copying"] = float(near / usual)
        return metrics

    def exhibits(self, outputs: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """Returns the grid of samples, and the nearest training image of some samples."""
        judge = self._judge()
        train = judge.experiment.load().train
        real = self._images(judge, train)
        raw = self._raw(outputs["image"][:20], judge, train)
        close, distances = nearest(_flat(real), _flat(raw))
        pairs = ImagePairs(
            raw / self.white,
            real[close] / self.white,
            names=("sample", "nearest training image"),
            captions=[f"distance {distance / self.white:.2f}" for distance in distances],
        )
        return {**super().exhibits(outputs), "neighbours": pairs}

    def scoring(self) -> dict[str, str]:
        judge, layer = brief(self._judge().model), "its head" if self.layer is None else repr(self.layer)
        said = f"inputs of {layer} in {judge} of {self.classifier}, {self.references} training images"
        return dict.fromkeys(("frechet_distance", "precision", "recall"), said)

    def _judge(self) -> Predictor:
        with prefixed("classifier: "):
            judge = load(self.classifier)
        kind = type(judge.experiment.task).__name__
        require(
            isinstance(judge.experiment.task, Classification),
            f"classifier={self.classifier!r}: trained by {kind}; expected a run trained by Classification",
        )
        return judge

    def _images(self, judge: Predictor, source: Source) -> np.ndarray:
        """Raw images of a split, at equal intervals."""
        rows = np.unique(np.linspace(0, len(source) - 1, min(self.references, len(source))).astype(int))
        return read(source, rows, first_example(source))[judge.experiment.task.input]

    def _raw(self, images: np.ndarray, judge: Predictor, like: Source) -> np.ndarray:
        """Samples as the images that the classifier reads, rounded where those are whole numbers."""
        dtype = first_example(like)[judge.experiment.task.input].dtype
        raw = images * self.white
        return np.round(raw).astype(dtype) if dtype.kind in "iu" else raw.astype(dtype)


def _flat(images: np.ndarray) -> np.ndarray:
    return images.reshape(len(images), -1).astype(np.float32)
