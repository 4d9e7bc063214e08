"""Text generation with trained and published models; wrong requests give one-line errors."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import parity
import pytest
import toys
from safetensors.numpy import save_file

from research.config.serialization import from_json, to_json
from research.data.sources.text import TextFiles
from research.data.text.tokenizers import ByteTokenizer, CharTokenizer
from research.decoding import Beam, Generation, Greedy, Sample
from research.errors import RequestError
from research.experiment import Experiment
from research.inference import Predictor, TextModel, from_pretrained, generate
from research.models.gpt import GPT
from research.models.llama import Llama
from research.models.rnn import RNNLanguageModel
from research.optimizers import AdamW
from research.pretrained import Decoding, export_pretrained
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
    ends = TextModel(model, zeros, tokenizer, Generation(stop_tokens=(0,)))
    assert generate(ends, "ab", max_new_tokens=4) == ""
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
    assert published.model.context_length == 16
    assert published.how.stop_tokens == (library.token_to_id("<|endoftext|>"),)
    assert isinstance(generate(published, "to be", max_new_tokens=3, strategy=Greedy()), str)
    with pytest.raises(RequestError, match="vocab.json: no such file"):
        (tmp_path / "vocab.json").unlink()
        from_pretrained(tmp_path)


TOKENIZERS = pytest.mark.parametrize("kind", ["bytes", "words with a mark"])


def folder_of(path, kind, beginning=("<s>",), **settings):
    """A folder of Llama weights whose tokenizer is GPT-2's or Llama 2's kind; returns the library's tokenizer too."""
    tokenizers = pytest.importorskip("tokenizers", reason="needs the extra [text]: pip install tokenizers")
    normalizers, decoders, pre = tokenizers.normalizers, tokenizers.decoders, tokenizers.pre_tokenizers
    library = tokenizers.Tokenizer(tokenizers.models.BPE(byte_fallback=kind != "bytes", unk_token=None))
    if kind == "bytes":
        library.pre_tokenizer, library.decoder = pre.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    else:
        library.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        library.pre_tokenizer = pre.Split("▁", "merged_with_next")
        steps = decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)
        library.decoder = decoders.Sequence(list(steps))
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<s>", "<|end|>", "<|eot|>"],
        initial_alphabet=sorted(pre.ByteLevel.alphabet()) if kind == "bytes" else [],
        show_progress=False,
    )
    library.train_from_iterator(["hello world this is a test of text"] * 20, trainer)
    library.post_processor = tokenizers.processors.TemplateProcessing(
        single=" ".join([*beginning, "$A"]), special_tokens=[("<s>", 0)]
    )
    library.enable_truncation(2)  # as some published files do; transformers ignores it
    library.enable_padding(length=20)
    library.save(str(path / "tokenizer.json"))
    library.no_truncation()
    library.no_padding()
    size = library.get_vocab_size()
    model = Llama(vocab_size=size, context_length=32, width=8, depth=1, num_heads=1, mlp_width=8)
    variables = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 4), jnp.int32))
    how = Generation(**{"stop_tokens": (1, 2), **settings})
    export_pretrained(model, variables, path / "model.safetensors", decoding=Decoding((), how))
    return from_pretrained(path), library


@TOKENIZERS
def test_a_prompt_begins_as_the_publisher_says(kind, tmp_path):
    text, library = folder_of(tmp_path, kind)
    for prompt in ("hello world", "<|eot|>hello<|end|> text", " test"):
        assert text.encode(prompt).tolist() == library.encode(prompt).ids
    assert text.encode("hello world")[0] == 0 and {1, 2} <= {*text.encode("<|eot|>hello<|end|> text").tolist()}
    assert 0 not in text.tokenizer.encode("hello world")  # in training, texts have no beginning
    without, library = folder_of(tmp_path, kind, beginning=())
    assert without.encode("hello world").tolist() == library.encode("hello world").ids != []


@TOKENIZERS
def test_what_follows_a_prompt_keeps_its_first_space(kind, tmp_path):
    text, library = folder_of(tmp_path, kind)
    whole = library.encode("hello world").ids
    assert [text.decode(whole[n:], whole[:n]) for n in (1, 2)] == ["hello world", " world"]
    assert text.decode([*whole[2:], 2, text.tokenizer.vocab_size], whole[:2]) == " world"
    sure = jax.tree.map(jnp.zeros_like, text.variables)  # every token is as likely, so the first allowed one follows
    allowed = whole[2]
    how = dataclasses.replace(text.how, suppress=tuple(range(allowed)), strategy=Greedy())
    always = dataclasses.replace(text, variables=sure, how=how)
    assert generate(always, ["hello", "hello test"], max_new_tokens=2) == [" world world"] * 2


def test_every_published_stop_token_ends_a_text(tmp_path):
    text, _ = folder_of(tmp_path, "bytes")
    zeros = dataclasses.replace(text, variables=jax.tree.map(jnp.zeros_like, text.variables))
    assert text.how.stop_tokens == (1, 2)
    for suppress in ((0,), (0, 1)):  # the first token that is not suppressed follows: 1, then 2
        how = dataclasses.replace(zeros.how, suppress=suppress)
        tokens = dataclasses.replace(zeros, how=how)
        assert generate(tokens, "hello", max_new_tokens=4) == ""
    (tmp_path / "generation_config.json").unlink()
    assert json.loads((tmp_path / "config.json").read_text())["eos_token_id"] == [1, 2]
    assert from_pretrained(tmp_path).how.stop_tokens == (1, 2)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"eos_token_id": 1}))
    assert from_pretrained(tmp_path).how.stop_tokens == (1,)
    (tmp_path / "generation_config.json").write_text("{}")  # states none: transformers goes on
    assert from_pretrained(tmp_path).how.stop_tokens == ()


def test_published_settings_choose_the_tokens_unless_told_otherwise(tmp_path):
    text, _ = folder_of(tmp_path, "bytes", suppress=(0, 5), strategy=Sample(0.5, 7, 0.9))
    assert text.how.strategy == Sample(0.5, 7, 0.9) and text.how.suppress == (0, 5)
    own = generate(text, "hello", max_new_tokens=8, seed=1)
    assert own == generate(text, "hello", max_new_tokens=8, seed=1, temperature=0.5, top_k=7, top_p=0.9)
    assert own != generate(text, "hello", max_new_tokens=8, seed=1, temperature=9.0, top_k=200, top_p=1.0)
    one = {"max_new_tokens": 8, "seed": 1, "temperature": 9.0}  # the other settings stay
    assert generate(text, "hello", **one) == generate(text, "hello", **one, top_k=7, top_p=0.9)
    assert len(generate(text, "hello", max_new_tokens=8, samples=3)) == 3
    (tmp_path / "generation_config.json").write_text(json.dumps({"repetition_penalty": 1.3}))
    with pytest.raises(RequestError, match=r"^generation_config.json: repetition_penalty=1.3 is not supported$"):
        from_pretrained(tmp_path)


@pytest.mark.parametrize("name", ["gpt2", "llama", "gpt2_untied", "llama_scaled"])
def test_published_folders_write_what_transformers_writes(name, tmp_path):
    tokenizers = pytest.importorskip("tokenizers", reason="needs the extra [text]: pip install tokenizers")
    arrays, metadata = parity.load(name)
    config = metadata["config"]
    save_file(parity.under(arrays, "param/"), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": 2, "pad_token_id": 2}))
    words = [f"t{i}" for i in range(config["vocab_size"])]
    library = tokenizers.Tokenizer(tokenizers.models.WordLevel({word: i for i, word in enumerate(words)}, "t0"))
    library.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    library.save(str(tmp_path / "tokenizer.json"))
    text = from_pretrained(tmp_path)

    padded = arrays.get("gen/input_ids", arrays["input/padded_input_ids"])
    mask = arrays["input/padded_attention_mask"] if "gen/input_ids" not in arrays else np.ones(padded.shape)
    prompts = [" ".join(words[token] for token in row[valid > 0]) for row, valid in zip(padded, mask, strict=True)]
    expected = []
    for row in arrays["gen/greedy_ids"][:, padded.shape[1] :].tolist():
        end = row.index(2) + 1 if 2 in row else len(row)
        expected.append("".join(f" {words[token]}" for token in row[:end]))
    assert generate(text, prompts, max_new_tokens=10) == expected


def test_published_weights_that_continue_no_prompt(tmp_path):
    folder_of(tmp_path, "bytes")
    arrays, metadata = parity.load("gen_marian")
    save_file(parity.under(arrays, "param/"), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(metadata["config"]))
    with pytest.raises(RequestError, match="Transformer continues no prompt; expected GPT-2 or Llama-style weights$"):
        from_pretrained(tmp_path)
