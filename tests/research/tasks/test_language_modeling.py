"""Language modeling: every token counts once for any rows; bits per character and byte; packed documents are
independent; recurrent networks and Transformers agree.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import ONE_DEVICE

from research.data.source import Columns
from research.data.sources.text import Corpus, Document
from research.data.text.tokenizers import BPETokenizer, ByteTokenizer, CharTokenizer
from research.errors import RequestError
from research.experiment import Experiment
from research.models.gpt import GPT
from research.models.llama import Llama
from research.models.rnn import RNNLanguageModel
from research.optimizers import AdamW
from research.tasks.language_modeling import LanguageModeling
from research.training.step import make_init, make_train_step

TEXT = "the größte of all texts, 東京, is this one; " * 8


@dataclasses.dataclass(frozen=True, kw_only=True)
class Texts(Corpus):
    texts: tuple[str, ...] = (TEXT,)

    def documents(self):
        return [Document(text, f"text {i}") for i, text in enumerate(self.texts)]


def metrics(task, apply, source):
    columns = {name: jnp.asarray(x[:]) for name, x in source.arrays().items()}
    return task.finalize(jax.tree.map(np.asarray, task.eval_outputs(apply, columns)))


@pytest.mark.parametrize(
    "tokenizer", [CharTokenizer(), ByteTokenizer(), BPETokenizer(270)], ids=["char", "byte", "bpe"]
)
def test_metrics_are_sums_over_the_text_whatever_the_rows(tokenizer):
    if isinstance(tokenizer, BPETokenizer):
        pytest.importorskip("tokenizers", reason="needs the extra [text]: pip install tokenizers")
    sources = {n: Texts(length=n, tokenizer=tokenizer, validation=0.5).load().validation for n in (4, 7, 50)}
    fitted = sources[4].tokenizer
    size = fitted.vocab_size
    table = jax.nn.log_softmax(jnp.asarray(np.random.default_rng(0).normal(size=(size, size)), jnp.float32))

    def bigrams(tokens, *, train):  # a model that depends only on the last token
        return table[tokens]

    text = TEXT[len(TEXT) // 2 :]
    tokens = fitted.encode(text)
    nats = -np.asarray(table)[tokens[:-1], tokens[1:]].sum(dtype=np.float64)
    spelled = fitted.decode(tokens[1:])
    for source in sources.values():
        found = metrics(LanguageModeling(vocab_size=size), bigrams, source)
        assert found["loss"] == pytest.approx(nats / (len(tokens) - 1), rel=1e-5)
        assert found["perplexity"] == pytest.approx(math.exp(found["loss"]))
        assert found["bits_per_byte"] == pytest.approx(nats / math.log(2) / len(spelled.encode()), rel=1e-5)
        assert found["bits_per_character"] == pytest.approx(nats / math.log(2) / len(spelled), rel=1e-5)
        correct = np.asarray(table).argmax(-1)[tokens[:-1]] == tokens[1:]
        assert found["accuracy"] == pytest.approx(correct.mean())


MODELS = {
    "gpt": GPT(vocab_size=256, context_length=24, width=16, depth=1, num_heads=2),
    "llama": Llama(vocab_size=256, context_length=24, width=16, depth=1, num_heads=2, num_kv_heads=1, mlp_width=32),
    "lstm": RNNLanguageModel(vocab_size=256, width=16),
}


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_packed_documents_are_scored_as_each_by_itself(model):
    texts = ("a short one", "another", "and a longer document", "four")
    data = Texts(length=24, texts=texts, tokenizer=ByteTokenizer(), layout="packed", validation=0)
    packed = data.load().train
    assert len(packed) < len(texts)
    task = LanguageModeling(vocab_size=256)
    variables = model.init(jax.random.key(0), jnp.zeros((1, 24), jnp.int32))
    variables = jax.tree.map(lambda x: x + 0.1 * jax.random.normal(jax.random.key(1), x.shape), variables)
    apply = jax.jit(lambda *tokens, **fields: model.apply(variables, *tokens, **fields), static_argnames="train")
    rows = np.zeros((4, 24), np.int32)
    length = np.array([len(text) - 1 for text in texts], np.int32)
    alone = {"tokens": rows.copy(), "targets": rows.copy(), "length": length}
    for i, text in enumerate(texts):
        alone["tokens"][i, : length[i]], alone["targets"][i, : length[i]] = (
            list(text[:-1].encode()),
            list(text[1:].encode()),
        )
    together, apart = metrics(task, apply, packed), metrics(task, apply, Columns(alone))
    assert together["loss"] == pytest.approx(apart["loss"], rel=1e-5)
    assert together["accuracy"] == pytest.approx(apart["accuracy"])


@pytest.mark.parametrize("model", [MODELS["gpt"], MODELS["lstm"]], ids=["gpt", "lstm"])
def test_a_model_learns_a_text(model):
    experiment = Experiment(
        model=model,
        task=LanguageModeling(vocab_size=256),
        data=Texts(length=16, tokenizer=ByteTokenizer()),
        optimizer=AdamW(learning_rate=3e-2),
        steps=30,
        batch_size=8,
        parallel=ONE_DEVICE,
    )
    splits = experiment.data.load()
    experiment = experiment.fit(splits)
    index = np.random.default_rng(0).integers(0, len(splits.train), (30, 8))
    step = jax.jit(make_train_step(experiment))
    losses = []
    for rows in index:
        batch = {name: x[rows] for name, x in splits.train.arrays().items()} | {"weight": np.ones(8, np.float32)}
        if not losses:
            state = make_init(experiment)(jax.random.key(0), batch, {})
        state, found = step(state, batch)
        losses.append(float(found["loss"]))
    assert losses[0] == pytest.approx(math.log(256), rel=0.1) and losses[-1] < 0.6 * losses[0]


def test_predictions_of_texts_of_different_lengths():
    data = Texts(length=8, tokenizer=ByteTokenizer())
    table = jax.nn.log_softmax(jnp.asarray(np.random.default_rng(0).normal(size=(256, 256)), jnp.float32))
    task = LanguageModeling(vocab_size=256)
    found = task.predict(lambda tokens, train: table[tokens], data.encode(["abc", "z"]))
    np.testing.assert_allclose(found["log_probability"], table[np.array([ord("c"), ord("z")])], rtol=1e-5)
    assert found["token"].tolist() == [int(table[ord("c")].argmax()), int(table[ord("z")].argmax())]
    np.testing.assert_allclose(found["log_likelihood"], [table[97, 98] + table[98, 99], 0], rtol=1e-5)


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        (
            {"tokens": [[0, 9]], "targets": [[9, 10]]},
            "train split: token 10 is outside the vocabulary, expected 0 to 9",
        ),
        ({"tokens": [[-1, 9]], "targets": [[9, 9]]}, "train split: token -1 is outside"),
        ({"token": [[0]], "targets": [[0]]}, "task.input='tokens': the train split has no such column"),
        ({"tokens": [[0]]}, "task.target='targets': the train split has no such column"),
    ],
)
def test_wrong_tokens_are_named(columns, said):
    with pytest.raises(RequestError, match=said.replace("[", "\\[")):
        LanguageModeling(vocab_size=10).check_examples(Columns(columns), "train")


def test_a_model_of_another_vocabulary_is_refused():
    batch = {"tokens": np.zeros((1, 4), np.int32), "targets": np.zeros((1, 4), np.int32), "weight": np.ones(1)}
    with pytest.raises(RequestError, match="task.vocab_size=10: the model gives 12 logits"):
        LanguageModeling(vocab_size=10).loss(lambda tokens, **_: jnp.zeros((1, 4, 12)), batch)
    with pytest.raises(RequestError, match="vocab_size=0: expected at least 1"):
        LanguageModeling(vocab_size=0).check()


def test_logits_of_low_precision_are_scored_in_float32():
    """Counts 299 targets, which bfloat16 would round to 300."""
    shape = (1, 299)
    batch = {"tokens": np.zeros(shape, np.int32), "targets": np.zeros(shape, np.int32), "weight": np.ones(1)}
    outputs = LanguageModeling(vocab_size=4).eval_outputs(lambda **_: jnp.zeros((*shape, 4), jnp.bfloat16), batch)
    assert float(outputs["predicted"][0]) == 299
    np.testing.assert_allclose(outputs["nats"], 299 * np.log(4), rtol=1e-5)
