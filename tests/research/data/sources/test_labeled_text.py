"""Labelled texts: stratified by label, numbered by the training split, and classified without influence of padding."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from research.data.feeds import make_feeds
from research.data.sources.labeled_text import LabeledText
from research.data.text.tokenizers import CharTokenizer
from research.errors import RequestError
from research.experiment import Experiment
from research.models.rnn import RNNClassifier
from research.optimizers import AdamW
from research.tasks.classification import Classification
from research.training.check import check_trainable


def written(path, lines):
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
    return str(path)


@pytest.fixture
def reviews(tmp_path):
    lines = [
        {"text": f"{'good' if i % 2 else 'bad'} {'very ' * (i % 5)}", "label": ["no", "yes"][i % 2]} for i in range(40)
    ]
    return LabeledText(path=written(tmp_path / "reviews.jsonl", lines), length=20, tokenizer=CharTokenizer())


def test_lines_are_divided_by_label_and_numbered(reviews):
    splits = reviews.load()
    assert [len(split) for split in splits] == [29, 3, 8]
    fitted = reviews.fit(splits.train)
    assert fitted.class_names == ("no", "yes") and fitted.tokenizer.vocab_size == len(set("good bad very"))
    test = splits.test.arrays()
    assert test["label"].sum() == 4 and test["tokens"].shape == (8, 20)
    for i in range(8):
        text = fitted.tokenizer.decode(test["tokens"][i, : test["length"][i]])
        assert text.startswith(("bad", "good")[test["label"][i]]) and test["length"][i] <= 20
    assert "reviews.jsonl, line" in splits.test.where(0)


def test_a_padded_text_is_classified_as_it_is_alone(reviews):
    fitted = reviews.fit(reviews.load().train)
    task = Classification(classes=2, input="tokens", length="length")
    model = RNNClassifier(classes=2, vocab_size=fitted.tokenizer.vocab_size, width=6, bidirectional=True)
    columns = fitted.encode(["good", "bad very very"])
    variables = model.init(jax.random.key(0), **task.inputs(columns))

    def apply(**inputs):
        return model.apply(variables, **inputs)

    together = task.predict(apply, {name: jnp.asarray(x) for name, x in columns.items()})["probability"]
    for i, length in enumerate(columns["length"]):
        alone = apply(x=jnp.asarray(columns["tokens"][i : i + 1, :length]))
        np.testing.assert_allclose(together[i], jax.nn.softmax(alone)[0], rtol=1e-5)
    with pytest.raises(RequestError, match="task.length='lengths': the train split has no such column"):
        wrong = Classification(classes=2, input="tokens", length="lengths")
        wrong.check_examples(reviews.load().train, "train")


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([{"text": "a", "label": 0}, "nothing"], "x.jsonl, line 2: not JSON"),
        ([{"text": "a"}], "x.jsonl, line 1: no 'label'; one of: text"),
        ([{"text": "", "label": 0}], "x.jsonl, line 1: 'text' is empty"),
        ([{"text": "a", "label": 0.5}], "x.jsonl, line 1: 'label' is 0.5, expected a string or integer"),
        ([{"text": "a", "label": 0}] * 4, "the training split has fewer than two classes"),
        ([{"text": "a", "label": i} for i in (0, 1, 2)], "is not in the training split"),
    ],
)
def test_wrong_lines_are_named(tmp_path, lines, said):
    with pytest.raises(RequestError) as error:
        LabeledText(path=written(tmp_path / "x.jsonl", lines), length=4, test=1, validation=0).load()
    assert said in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(("vocab_size", "fits"), [(9, False), (10, True), (20, True)])
def test_a_model_knows_every_token_of_its_data(reviews, vocab_size, fits):
    spoken = Experiment(
        model=RNNClassifier(classes=2, vocab_size=vocab_size, width=6),
        task=Classification(classes=2, input="tokens", length="length"),
        data=reviews,
        optimizer=AdamW(),
        steps=2,
        batch_size=8,
        parallel=toys.ONE_DEVICE,
    )
    splits = reviews.load()
    assert splits.train.spec.tokenizer.vocab_size == 10
    feeds = make_feeds(splits, reviews)
    fitted = spoken.fit(splits, feeds.decoded)
    if fits:
        check_trainable(fitted, feeds)
        return
    with pytest.raises(RequestError, match="^model.vocab_size=9: expected at least the 10 tokens of the data$"):
        check_trainable(fitted, feeds)
