"""Translation: BLEU as sacrebleu states it, exact references, and requests that cannot be."""

import numpy as np
import parity
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from research.data.parallel_text import SPECIAL
from research.data.tokenizers import BPETokenizer, ByteTokenizer
from research.errors import RequestError
from research.tasks.translation import Translation, scores

TOKENIZER = BPETokenizer(300, SPECIAL).fit(["Ein Hund läuft über die Straße."] * 3)


def test_scores_are_those_of_the_fixture():
    _, metadata = parity.load("bleu")
    found, expected = scores(metadata["hyp"], metadata["ref"]), metadata["results"]
    assert found["bleu"] == pytest.approx(expected["bleu/13a/exp"]["score"], abs=1e-9)
    assert found["bleu_lowercase"] == pytest.approx(expected["bleu_lowercase"], abs=1e-9)
    assert found["chrf"] == pytest.approx(expected["chrf"], abs=1e-9)


def test_signatures_name_the_case():
    said = Translation().scoring()
    assert "case:mixed" in said["bleu"] and "case:lc" in said["bleu_lowercase"] and "nc:6" in said["chrf"]


@settings(max_examples=60, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=30))
def test_a_reference_comes_back_as_it_is_written(text):
    for tokenizer in (TOKENIZER, ByteTokenizer(SPECIAL)):
        padded = np.concatenate([tokenizer.encode(text), [tokenizer.token_id("<eos>"), 0, 0]])
        assert tokenizer.decode(padded) == text


def test_only_what_was_decoded_counts_for_bleu():
    task = Translation(tokenizer=TOKENIZER)
    right, wrong = (np.pad(TOKENIZER.encode(text), (0, 9))[:9] for text in ("Hund läuft über", "Straße Straße Straße"))
    outputs = {
        "loss": np.array([2.0, 4.0]), "correct": np.array([1, 1]), "tokens": np.array([2, 2]),
        "hypothesis": np.stack([right, wrong]), "reference": np.stack([right, right]),
        "not_decoded": np.array([False, True]),
    }  # fmt: skip
    metrics = task.finalize(outputs)
    assert metrics["loss"] == 1.5 and metrics["perplexity"] == pytest.approx(np.exp(1.5))
    assert metrics["token_accuracy"] == 0.5 and metrics["chrf"] == pytest.approx(100)
    assert task.finalize(outputs | {"not_decoded": np.array([True, True])}).keys() == {
        "loss", "perplexity", "token_accuracy",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({"label_smoothing": 1.0}, "label_smoothing=1.0: expected 0 <= label_smoothing < 1"),
        ({"beams": 0}, "beams=0: expected at least 1"),
        ({"max_new_tokens": 0}, "max_new_tokens=0: expected at least 1"),
        ({"tokenizer": ByteTokenizer()}, r"tokenizer.special_tokens=\(\): expected them to begin with"),
    ],
)
def test_what_cannot_be_is_one_line(fields, line):
    with pytest.raises(RequestError, match=line):
        Translation(**fields).check()
