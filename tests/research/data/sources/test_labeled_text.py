"""Labelled texts: stratified by label, numbered by the training split, and classified without influence of padding."""

import gzip
import json

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa
import pyarrow.parquet
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


TEXTS = [("good, really", "yes"), ('a "bad" one', " no ")] * 4


def as_csv(path, delimiter=",", header=True):
    rows = [("text", "label")] * header + TEXTS
    quoted = [[f'"{cell.replace(chr(34), 2 * chr(34))}"' for cell in row] for row in rows]
    text = "".join(delimiter.join(row) + "\n" for row in quoted)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return str(path)


def as_parquet(path):
    texts, labels = zip(*TEXTS, strict=True)
    columns = {"text": pa.array(texts, pa.large_string()), "label": pa.array(labels).dictionary_encode()}
    pyarrow.parquet.write_table(pa.table(columns), path)
    return str(path)


@pytest.mark.parametrize(
    "write",
    [
        lambda folder: (as_csv(folder / "a.csv"), {}),
        lambda folder: (as_csv(folder / "a.csv.gz"), {}),
        lambda folder: (as_csv(folder / "a.TSV", "\t"), {}),
        lambda folder: (as_csv(folder / "a.csv", ";"), {"delimiter": ";"}),
        lambda folder: (as_csv(folder / "a.tsv", "\t", header=False), {"column_names": ("text", "label")}),
        lambda folder: (as_parquet(folder / "a.parquet"), {}),
        lambda folder: (as_parquet(folder / "a.parquet") and str(folder), {"pattern": "*.parquet"}),
    ],
    ids=["csv", "gz", "tsv", "semicolons", "no header", "parquet", "folder"],
)
def test_tables_are_read_like_json_lines(tmp_path, write):
    path, fields = write(tmp_path)
    data = LabeledText(path=path, length=12, test=2, validation=0, **fields)
    data.check()
    splits = data.load()
    fitted = data.fit(splits.train)
    assert fitted.class_names == ("no", "yes") and len(splits.test) == 2
    train = splits.train.arrays()
    read = {fitted.tokenizer.decode(t[:n]): label for t, n, label in zip(*train.values(), strict=True)}
    assert read == {"good, really": 1, 'a "bad" one': 0}
    assert ", row " in splits.test.where(0)


def test_a_file_of_its_own_for_the_test_split(tmp_path):
    lines = [{"text": "so good", "label": "yes"}] * 3
    test = written(tmp_path / "test.jsonl", lines)
    data = LabeledText(path=as_csv(tmp_path / "a.csv"), test_path=test, length=4, validation=0)
    assert [split and len(split) for split in data.load()] == [8, None, 3]
    assert data.load().test.arrays()["label"].tolist() == [1, 1, 1]


def test_numbers_are_classes_in_the_order_of_their_size(tmp_path):
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pa.table({"text": ["a"] * 24, "stars": [*range(12)] * 2}), path)
    data = LabeledText(path=str(path), label="stars", length=4, test=0, validation=0)
    assert data.fit(data.load().train).class_names == tuple(map(str, range(12)))


def test_what_is_read_of_a_table_is_shown(tmp_path):
    data = LabeledText(path=as_csv(tmp_path / "a.csv"), length=12, test=0, validation=0)
    train = data.load().train
    text, label = data.fit(train).inferred(train)
    assert (text["column"], text["read as"], text["distinct"]) == ("text", "text, up to 12 tokens", "2")
    assert (label["read as"], label["values"]) == ("label, 2 classes", "no (4), yes (4)")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("x.csv", "text,sentiment\na,b\n", "label: {path} has no column 'label'; one of: sentiment, text"),
        ("x.csv", "text;label\na;b\n", "the header is one cell, 'text;label': is it delimiter=';'?"),
        ("x.csv", "text,label\na,b\n,b\n", "{path}, row 2: 'text' is empty"),
        ("x.csv", "text,label\na,b\nc, \n", "{path}, row 2: 'label' is empty, expected a label"),
        ("x.tsv", 'text\tlabel\n"a\tb\n', '{path}, line 2: "a\tb begins with a quote that does not end'),
        ("x.txt", "text\tlabel\na\tb\n", "line 1: not JSON: Expecting value at character 0; if it is a table"),
        ("SMSSpamCollection", "ham\tGo\n", "let its name end with .csv, .tsv or .parquet"),
        ("x.jsonl", "text,label\n", "not JSON: Expecting value at character 0"),
    ],
)
def test_wrong_tables_are_named(tmp_path, name, content, said):
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(RequestError) as error:
        LabeledText(path=str(path), length=4).load()
    assert said.format(path=path) in str(error.value) and "\n" not in str(error.value)
    assert ("if it is a table" in str(error.value)) == (name in ("x.txt", "SMSSpamCollection"))


def test_columns_of_another_type_are_named(tmp_path):
    path = str(tmp_path / "x.parquet")
    pyarrow.parquet.write_table(pa.table({"text": ["a", "b"], "label": [0.5, 1.0], "number": [1, 2]}), path)
    with pytest.raises(RequestError, match="column 'label' holds double, expected text, integers or booleans"):
        LabeledText(path=path, length=4).load()
    with pytest.raises(RequestError, match="column 'number' holds int64, expected text$"):
        LabeledText(path=path, text="number", length=4).load()


def test_a_folder_of_other_files_says_what_is_there(tmp_path):
    as_csv(tmp_path / "a.csv.gz")
    (tmp_path / "README").write_text("")
    with pytest.raises(RequestError, match=r"no \*.jsonl in this .*; there are 1 README, 1 .csv: set pattern$"):
        LabeledText(path=str(tmp_path), length=4).load()


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
