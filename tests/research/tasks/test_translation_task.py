"""Translation: sacrebleu's BLEU, exact references, and invalid requests."""

import jax
import jax.numpy as jnp
import numpy as np
import parity
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from research.data.sources.parallel_text import SPECIAL, ParallelText
from research.data.text.tokenizers import BPETokenizer, ByteTokenizer
from research.decoding import Beam, Generated
from research.errors import RequestError
from research.experiment import Experiment
from research.inference import Predictor, translate
from research.models.seq2seq_rnn import Seq2SeqRNN
from research.models.transformer import Transformer
from research.optimizers import AdamW
from research.tasks import sequence_to_sequence
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
        "hypothesis_mask": np.ones((2, 9), bool), "reference_mask": np.ones((2, 9), bool),
        "not_decoded": np.array([False, True]),
    }  # fmt: skip
    metrics = task.finalize(outputs)
    assert metrics["loss"] == 1.5 and metrics["perplexity"] == pytest.approx(np.exp(1.5))
    assert metrics["token_accuracy"] == 0.5 and metrics["chrf"] == pytest.approx(100)
    assert task.finalize(outputs | {"not_decoded": np.array([True, True])}).keys() == {
        "loss", "perplexity", "token_accuracy",
    }  # fmt: skip


MODEL = Transformer(TOKENIZER.vocab_size, context_length=16, width=8, depth=1, num_heads=2)


def predictor(model=MODEL, pad_to: int = 0, **fields) -> Predictor:
    source = jnp.zeros((1, 4), jnp.int32)
    variables = jax.jit(model.init)(jax.random.key(0), source, jnp.ones((1, 4), bool), source)
    experiment = Experiment(
        model=model,
        task=Translation(tokenizer=TOKENIZER, **{"max_new_tokens": 5} | fields),
        data=ParallelText(path=("a", "b"), tokenizer=TOKENIZER, pad_to=pad_to),
        optimizer=AdamW(),
        steps=1,
        batch_size=1,
    )
    return Predictor(experiment, jax.tree.map(lambda x: 4 * x, variables))  # confident, so that rounding has no effect


@pytest.mark.parametrize("model", [MODEL, Seq2SeqRNN(TOKENIZER.vocab_size, width=8)])
def test_two_near_lengths_are_one_program_and_padding_changes_no_translation(model):
    sentences = ["q" * 8, "q" * 10]
    exact, padded = (predictor(model, pad_to) for pad_to in (0, 12))
    assert [translate(padded, text) for text in sentences] == [translate(exact, text) for text in sentences]
    assert exact._predict._cache_size() == 2 and padded._predict._cache_size() == 1


def test_a_sentence_as_long_as_the_context_is_not_padded_over_it():
    text = "q" * 14
    assert len(TOKENIZER.encode(text)) + 1 == 15
    short = MODEL.clone(context_length=15)
    assert translate(predictor(short, pad_to=15), text) == translate(predictor(short), text)


def test_texts_that_may_be_longer_than_the_context_are_refused():
    asked = predictor(max_new_tokens=16)
    line = "^task.max_new_tokens=16: expected below model.context_length=16, which also holds the start token"
    with pytest.raises(RequestError, match=line):
        translate(asked, "Hund")
    assert translate(predictor(max_new_tokens=15), "Hund")


def test_the_search_is_the_one_that_the_fields_say(monkeypatch):
    asked = []
    generated = Generated(jnp.zeros((1, 1, 5), jnp.int32), None, None)
    monkeypatch.setattr(sequence_to_sequence, "generate", lambda m, v, p, how, memory: asked.append(how) or generated)
    translate(predictor(beams=3, length_penalty=0.6, early_stopping="never"), "Hund")
    assert asked[0].strategy == Beam(3, 0.6, "never")


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({"label_smoothing": 1.0}, "label_smoothing=1.0: expected 0 <= label_smoothing < 1"),
        ({"beams": 0}, "beams=0: expected at least 1"),
        ({"max_new_tokens": 0}, "max_new_tokens=0: expected at least 1"),
        ({"early_stopping": "soon"}, r"early_stopping='soon': expected one of \('full', 'likely', 'never'\)"),
        ({"tokenizer": ByteTokenizer()}, r"tokenizer.special_tokens=\(\): expected them to begin with"),
    ],
)
def test_what_cannot_be_is_one_line(fields, line):
    with pytest.raises(RequestError, match=line):
        Translation(**fields).check()
