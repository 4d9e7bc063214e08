"""Text generation with trained and published models; wrong requests give one-line errors."""

import json

import jax
import jax.numpy as jnp
import pytest
import toys

from research.config.serialization import from_json, to_json
from research.data.sources.text import TextFiles
from research.data.text.tokenizers import ByteTokenizer, CharTokenizer
from research.decoding import Beam, Greedy, Sample
from research.errors import RequestError
from research.experiment import Experiment
from research.inference import Predictor, TextModel, from_pretrained, generate
from research.models.gpt import GPT
from research.models.rnn import RNNLanguageModel
from research.optimizers import AdamW
from research.pretrained import export_pretrained
from research.tasks.language_modeling import LanguageModeling


def language(model, tokenizer=CharTokenizer("abcdef")) -> Predictor:  # noqa: B008  (frozen)
    experiment = Experiment(
        model=model,
        task=LanguageModeling(vocab_size=model.vocab_size),
        data=TextFiles(path="unread.txt", length=8, tokenizer=tokenizer),
        optimizer=AdamW(),
        steps=1,
        batch_size=1,
    )
    variables = model.init(jax.random.key(0), jnp.zeros((1, 4), jnp.int32))
    variables = jax.tree.map(lambda x: x + jax.random.normal(jax.random.key(1), x.shape), variables)
    return Predictor(from_json(json.loads(json.dumps(to_json(experiment)))), variables)


@pytest.fixture(scope="module")
def gpt():
    return language(GPT(vocab_size=6, context_length=8, width=8, depth=1, num_heads=1))


def test_one_text_or_several_past_the_context(gpt):
    one = generate(gpt, "abc", max_new_tokens=12, seed=3)  # longer than the context of 8
    assert len(one) == 12 and set(one) <= set("abcdef")
    assert one == generate(gpt, "abc", max_new_tokens=12, seed=3) != generate(gpt, "abc", max_new_tokens=12, seed=4)
    some = generate(gpt, ["abc", "d"], max_new_tokens=4, samples=3, temperature=0.8, top_k=3)
    assert [[len(text) for text in own] for own in some] == [[4] * 3] * 2
    assert [len(text) for text in generate(gpt, ["abc", "d"], max_new_tokens=4)] == [4, 4]


def test_strategies(gpt):
    greedy = generate(gpt, "abc", max_new_tokens=4, strategy=Greedy())
    assert greedy == generate(gpt, "abc", max_new_tokens=4, top_k=1)
    beams = generate(gpt, "abc", max_new_tokens=4, strategy=Beam(3, returned=2))
    assert len(beams) == 2 and {len(text) for text in beams} == {4}


def test_a_recurrent_network_has_no_context_to_leave():
    text = generate(language(RNNLanguageModel(vocab_size=6, width=8)), "abc", max_new_tokens=12)
    assert len(text) == 12


def test_a_text_ends_where_the_model_ends_it(gpt):
    tokenizer = ByteTokenizer(("<eos>",))
    model = GPT(vocab_size=260, context_length=8, width=8, depth=1, num_heads=1)  # 3 more tokens than the tokenizer
    variables = model.init(jax.random.key(0), jnp.zeros((1, 4), jnp.int32))
    zeros = jax.tree.map(jnp.zeros_like, variables)  # all tokens are equally likely, so argmax gives 0
    assert generate(TextModel(model, zeros, tokenizer, "<eos>"), "ab", max_new_tokens=4, strategy=Greedy()) == ""
    assert generate(TextModel(model, zeros, tokenizer), "ab", max_new_tokens=4, strategy=Greedy()) == ""
    assert len(generate(TextModel(model, variables, tokenizer), "ab", max_new_tokens=6).encode()) >= 3


@pytest.mark.parametrize(
    ("prompt", "options", "said"),
    [
        ("", {}, "prompt: empty, expected at least one character"),
        (["a", ""], {}, "prompt 1: empty"),
        ([], {}, "prompt: none, expected at least one"),
        (3, {}, "prompt: expected a text or several, got int"),
        (["a", 3], {}, "prompt 1: expected a text, got int"),
        ("abz", {}, "prompt: text: character 'z' (U+007A, latin small letter z) at 2 is not among the 6"),
        ("a" * 9, {}, "prompt: 9 tokens, expected at most context_length=8"),
        ("a", {"max_new_tokens": 0}, "max_new_tokens=0: expected at least 1"),
        ("a", {"temperature": 0.0}, "temperature=0.0: expected a number above 0"),
        ("a", {"top_k": 0}, "top_k=0: expected at least 1"),
        ("a", {"top_p": 1.5}, "top_p=1.5: expected 0 < top_p <= 1"),
        ("a", {"samples": 0}, "samples=0: expected at least 1"),
        ("a", {"seed": -1}, "seed=-1: expected 0 to 4294967295"),
        ("a", {"strategy": Beam(0)}, "beams=0: expected at least 1"),
        ("a", {"strategy": Beam(2), "max_new_tokens": 8}, "max_new_tokens=8: expected at most 7 after a prompt of 1"),
        ("a", {"strategy": Sample(0.5), "top_k": 3}, "top_k=3: expected in strategy=Sample(…), as given"),
    ],
)
def test_wrong_requests_are_named(gpt, prompt, options, said):
    with pytest.raises(RequestError) as error:
        generate(gpt, prompt, **options)
    assert str(error.value).startswith(said) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (Predictor(toys.experiment(), {}), "generate: this run trained MLP on Blobs; expected a language model"),
        ("runs/gpt", "generate: str given; expected a language model"),
    ],
    ids=["a classifier", "a path"],
)
def test_what_is_no_language_model_writes_nothing(given, says):
    with pytest.raises(RequestError, match=f"^{says}[^\n]+$"):
        generate(given, "a")


def test_published_weights_with_their_tokenizer(tmp_path):
    tokenizers = pytest.importorskip("tokenizers", reason="needs the extra [text]: pip install tokenizers")
    library = tokenizers.ByteLevelBPETokenizer()
    library.train_from_iterator(["to be or not to be"] * 4, vocab_size=270, special_tokens=["<|endoftext|>"])
    library.save_model(str(tmp_path))
    size = library.get_vocab_size()
    model = GPT(vocab_size=size, context_length=16, width=8, depth=1, num_heads=2)
    variables = model.init(jax.random.key(0), jnp.zeros((1, 4), jnp.int32))
    export_pretrained(model, variables, tmp_path / "model.safetensors")
    fields = {"vocab_size": size, "n_positions": 16, "n_embd": 8, "n_layer": 1, "n_head": 2}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gpt2", **fields}))
    published = from_pretrained(tmp_path)
    assert published.model.context_length == 16 and published.end_of_text == "<|endoftext|>"
    assert isinstance(generate(published, "to be", max_new_tokens=3, strategy=Greedy()), str)
    with pytest.raises(RequestError, match="vocab.json: no such file"):
        (tmp_path / "vocab.json").unlink()
        from_pretrained(tmp_path)
