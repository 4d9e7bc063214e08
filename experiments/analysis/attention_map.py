"""Attention of a language model from one word of a sentence, such as "it", to the words before it.

    python -m experiments.analysis.attention_map runs/shakespeare_gpt/base --trial base-s0
    python -m experiments.analysis.attention_map gpt2/ --word it --out it.png

Takes a trained run, or a folder of published GPT-2 or Llama-style weights (config.json, model.safetensors,
tokenizer.json).  The upper part shows one layer: lines from the word to the others, as wide as their attention,
averaged over heads.  The lower part shows all layers.  Attention to the tokens of a word is summed; attention from a
word is the mean over its tokens.  Such a model reads from left to right, so a word attends only to itself and to
earlier words.
"""

from __future__ import annotations

import argparse
import pathlib
import sys
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from research.errors import RequestError, command, nearest, require
from research.evaluation.interpretability import attention_maps
from research.inference import TextModel, load_text_model
from research.report import style

SENTENCE = "The animal didn't cross the street because it was too tired."


def words_of_tokens(text: str, tokens: np.ndarray, characters: np.ndarray) -> np.ndarray:
    """Returns the index of the word of each token, int [tokens]; words are separated by spaces.

    A space belongs to the word after it, as in byte-pair vocabularies.

    Args:
      tokens: the tokens of the text.
      characters: the number of characters of each token of the vocabulary (`Tokenizer.spelled`).
    """
    begins = np.array([not c.isspace() and (i == 0 or text[i - 1].isspace()) for i, c in enumerate(text)])
    blank = np.array([c.isspace() for c in text])
    words = np.cumsum(begins) - 1
    words = np.minimum(np.where(blank, words + 1, words), words.max())
    last = np.cumsum(characters[tokens]) - 1  # the last character of each token
    return words[np.maximum(last, 0)]


def word_attention(maps: np.ndarray, words: np.ndarray, word: int) -> np.ndarray:
    """Computes the attention from one word to each word, [layer, head, words]; it sums to 1 over words.

    Args:
      maps: [layer, head, query, key].
      words: the index of each token's word, int [tokens].
      word: the index of the attending word.
    """
    queries = maps[:, :, words == word].mean(axis=2)
    return np.stack([queries[:, :, words == other].sum(-1) for other in range(words.max() + 1)], axis=-1)


def look(text: TextModel, sentence: str, word: str) -> tuple[list[str], int, np.ndarray]:
    """Returns the sentence's words, the index of the attending word, and its attention [layer, head, words].

    Raises:
      RequestError: the word is not in the sentence, a character is not in the vocabulary, or the model has no
        attention.
    """
    listed = sentence.split()
    require(bool(listed), "sentence: empty, expected some words")
    plain = [entry.strip(".,;:!?\"'()") for entry in listed]
    if word not in plain:
        raise RequestError(f"word={word!r} is not in the sentence; {nearest(word, plain)}")
    spelled = text.tokenizer.spelled()
    require(spelled is not None, "the model's vocabulary is not of bytes, so its tokens cannot be summed to words")
    tokens = text.tokenizer.encode(sentence)
    maps = attention_maps(text.model, text.variables, jnp.asarray(tokens)[None])[:, 0]
    number = plain.index(word)
    return listed, number, word_attention(np.asarray(maps), words_of_tokens(sentence, tokens, spelled[0]), number)


def draw(words: Sequence[str], looking: int, attention: np.ndarray, layer: int, out: pathlib.Path) -> None:
    """Draws the result of `look`; `layer` is the one with lines."""
    from matplotlib import pyplot as plt

    by_layer = attention.mean(axis=1)[:, : looking + 1]
    with style.paper():
        figure, (above, below) = plt.subplots(
            2, 1, figsize=(0.62 * len(words) + 1.4, 3.2 + 0.2 * len(by_layer)),
            height_ratios=(2.2, 0.6 + 0.2 * len(by_layer)), sharex=True, layout="constrained",
        )  # fmt: skip
        reach = np.linspace(0, np.pi, 60)
        for other, share in enumerate(by_layer[layer]):
            if other != looking:
                middle, half = (looking + other) / 2, (looking - other) / 2
                curve = middle + half * np.cos(reach), half * np.sin(reach) / max(1, looking)
                above.plot(*curve, color=style.PALETTE[0], linewidth=12 * share, alpha=0.75, solid_capstyle="butt")
                above.annotate(f"{share:.0%}", (other, -0.03), ha="center", va="top", fontsize=7, color=style.MUTED)
        title = f"Attention of “{words[looking]}” in layer {layer + 1} of {len(by_layer)}, mean over heads"
        above.set(ylim=(-0.1, 0.56), title=title)
        above.axis("off")
        shown = np.full((len(by_layer), len(words)), np.nan)
        shown[:, : looking + 1] = by_layer
        image = below.imshow(shown, cmap="Blues", vmin=0, aspect="auto", interpolation="nearest")
        below.set_xticks(range(len(words)), words, rotation=35, ha="right")
        below.get_xticklabels()[looking].set_fontweight("bold")
        below.set_yticks(range(len(by_layer)), range(1, len(by_layer) + 1))
        below.set_ylabel("layer")
        below.grid(False)
        figure.colorbar(image, ax=below, label="attention", pad=0.01)
        style.save(figure, out)
        plt.close(figure)


@command
def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a run's folder, or one of published weights")
    parser.add_argument("--trial", help="a trial of the run")
    parser.add_argument("--sentence", default=SENTENCE)
    parser.add_argument("--word", default="it", help="the attending word")
    parser.add_argument("--layer", type=int, help="the one drawn with lines, counted from 1; the last if not given")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("attention_map.png"))
    parser.add_argument("--trust", action="store_true", help="run the code of the files and modules that the run names")
    asked = parser.parse_args(argv)
    text = load_text_model(asked.model, trial=asked.trial, trust=asked.trust)
    words, looking, attention = look(text, asked.sentence, asked.word)
    layers = len(attention)
    layer = layers if asked.layer is None else asked.layer
    require(1 <= layer <= layers, f"--layer {layer}: expected 1 to {layers}")
    draw(words, looking, attention, layer - 1, asked.out)
    shares = attention.mean(axis=(0, 1))
    best = sorted(range(looking), key=lambda i: -shares[i])[:5]
    print(f"{words[looking]}: " + ", ".join(f"{words[i]} {shares[i]:.0%}" for i in best) + " (mean over layers)")
    print(asked.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
