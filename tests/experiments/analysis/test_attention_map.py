"""The attention map: tokens become words, and the figure is drawn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.analysis.attention_map import SENTENCE, draw, look, main, word_attention, words_of_tokens
from research.data.text.tokenizers import ByteTokenizer, CharTokenizer
from research.errors import RequestError
from research.inference import TextModel
from research.models.gpt import GPT
from research.models.rnn import RNNLanguageModel


def test_tokens_belong_to_words_and_a_blank_to_the_next():
    text = "Größe is it "
    tokenizer = CharTokenizer().fit([text])
    words = words_of_tokens(text, tokenizer.encode(text), tokenizer.spelled()[0])
    assert words.tolist() == [0] * 5 + [1] * 3 + [2] * 3 + [2]
    words = words_of_tokens(text, ByteTokenizer().encode(text), ByteTokenizer().spelled()[0])
    assert words.tolist() == [0] * 7 + [1] * 3 + [2] * 4  # ö and ß are two bytes each


def test_attention_is_summed_over_what_is_seen_and_averaged_over_who_looks():
    maps = np.array([[[[1, 0, 0, 0], [0.5, 0.5, 0, 0], [0.2, 0.3, 0.5, 0], [0.4, 0.1, 0.25, 0.25]]]])
    found = word_attention(maps, np.array([0, 0, 1, 1]), 1)
    np.testing.assert_allclose(found, [[[0.5, 0.5]]])


@pytest.fixture(scope="module")
def text():
    model = GPT(vocab_size=256, context_length=64, width=8, depth=2, num_heads=2)
    return TextModel(model, model.init(jax.random.key(0), jnp.zeros((1, 4), jnp.int32)), ByteTokenizer())


def test_a_word_sees_itself_and_those_before_it(text, tmp_path):
    words, looking, attention = look(text, SENTENCE, "it")
    assert words[looking] == "it" and attention.shape == (2, 2, 11)
    np.testing.assert_allclose(attention.sum(-1), 1, rtol=1e-5)
    assert (attention[..., looking + 1 :] == 0).all() and (attention[..., : looking + 1] > 0).all()
    draw(words, looking, attention, 1, tmp_path / "it.png")
    assert (tmp_path / "it.png").stat().st_size > 10_000


def test_wrong_requests_are_named(text, tmp_path, capsys):
    with pytest.raises(RequestError, match="word='its' is not in the sentence; did you mean 'it'?"):
        look(text, SENTENCE, "its")
    with pytest.raises(RequestError, match="sentence: empty"):
        look(text, "  ", "it")
    rnn = RNNLanguageModel(vocab_size=256, width=4)
    variables = rnn.init(jax.random.key(0), jnp.zeros((1, 4), jnp.int32))
    with pytest.raises(RequestError, match="no layer of RNNLanguageModel attends there"):
        look(TextModel(rnn, variables, ByteTokenizer()), SENTENCE, "it")
    assert main([str(tmp_path)]) == 2
    assert "no run there" in capsys.readouterr().err
