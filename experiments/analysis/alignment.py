"""Attention of a translation model: for every word that it writes, the attention to the words of the source.

    python -m experiments.analysis.alignment runs/multi30k_translation/base --sentence "Ein Hund läuft über die Straße."

Rows are tokens of the translation, columns tokens of the source.  A Transformer has such a map for every layer and
head. The figure shows the mean over the heads of one layer (by default the last but one, which is often the clearest),
or one `--head`.
"""

from __future__ import annotations

import argparse
import pathlib
import sys
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from research.data.sources.parallel_text import ended
from research.data.text.tokenizers import Tokenizer
from research.errors import command, require
from research.evaluation.interpretability import attention_maps
from research.inference import Predictor, load, translate
from research.report import style

SENTENCE = "Ein kleines Mädchen klettert in ein Spielhaus aus Holz."


class Alignment(NamedTuple):
    """Spelled tokens, and attention [layer, head, target, source] when each target token (including the end) was
    chosen.

    Attention sums to 1 over the source.
    """

    source: list[str]
    target: list[str]
    attention: np.ndarray


def align(predictor: Predictor, sentence: str, translation: str | None = None) -> Alignment:
    """Computes the attention for a sentence and its translation; None means the model's own translation.

    Raises:
      RequestError: the run's task is not translation, or its model has no attention.
    """
    translation = translate(predictor, sentence) if translation is None else translation
    task, columns = predictor.experiment.task, predictor.experiment.data.encode(sentence)
    columns = {name: x[:, : columns["source_mask"].sum()] for name, x in columns.items()}  # without padding
    target = ended(task.tokenizer, translation, "translation")
    inputs = task.inputs(columns | {task.target: target[None]})
    pattern = "*cross_attention*" if hasattr(predictor.model, "num_heads") else "*"
    maps = attention_maps(predictor.model, predictor.variables, inputs, pattern=pattern)
    source_tokenizer = predictor.experiment.data.tokenizer
    return Alignment(
        _spelled(source_tokenizer, columns["source"][0]), _spelled(task.tokenizer, target), np.asarray(maps[:, 0])
    )


def _spelled(tokenizer: Tokenizer, tokens: np.ndarray) -> list[str]:
    return [tokenizer.decode([token]) or "⏎" for token in tokens]


def draw(alignment: Alignment, weights: np.ndarray, title: str, out: pathlib.Path) -> None:
    """Draws weights [target, source]."""
    from matplotlib import pyplot as plt

    with style.paper():
        size = (0.32 * len(alignment.source) + 1.6, 0.28 * len(alignment.target) + 1.4)
        figure, axes = plt.subplots(figsize=size, layout="constrained")
        image = axes.imshow(weights, cmap="Blues", vmin=0, vmax=1, aspect="auto", interpolation="nearest")
        axes.set_xticks(range(len(alignment.source)), alignment.source, rotation=60, ha="right")
        axes.set_yticks(range(len(alignment.target)), alignment.target)
        axes.grid(False)
        axes.set_title(title)
        figure.colorbar(image, ax=axes, label="attention", pad=0.02)
        style.save(figure, out)
        plt.close(figure)


@command
def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="the folder of a run or a trial")
    parser.add_argument("--trial", help="a trial of the run")
    parser.add_argument("--sentence", default=SENTENCE)
    parser.add_argument("--translation", help="a translation to use instead of the model's own")
    parser.add_argument("--layer", type=int, help="counted from 1; the last but one if not given")
    parser.add_argument("--head", type=int, help="counted from 1; the mean of all if not given")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("alignment.png"))
    parser.add_argument("--trust", action="store_true", help="run the code of the files and modules that the run names")
    asked = parser.parse_args(argv)
    found = align(load(asked.run, trial=asked.trial, trust=asked.trust), asked.sentence, asked.translation)
    layers, heads = found.attention.shape[:2]
    layer = max(1, layers - 1) if asked.layer is None else asked.layer
    require(1 <= layer <= layers, f"--layer {layer}: expected 1 to {layers}")
    require(asked.head is None or 1 <= asked.head <= heads, f"--head {asked.head}: expected 1 to {heads}")
    chosen = found.attention[layer - 1]
    weights = chosen.mean(0) if asked.head is None else chosen[asked.head - 1]
    which = "mean of its heads" if asked.head is None else f"head {asked.head}"
    draw(found, weights, f"Layer {layer} of {layers}, {which}", asked.out)
    print("".join(found.target).removesuffix("⏎"))
    print(asked.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
