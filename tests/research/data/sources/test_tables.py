"""CSV and Parquet: types, categories and fill values from the training split, and errors that name the row."""

import dataclasses
import gzip
import os
import pathlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from research.data.feed import make_feed
from research.data.sources.table_columns import Boolean, Category, Number
from research.data.sources.tables import Table
from research.errors import RequestError
from research.tasks.classification import Classification
from research.tasks.regression import Regression

HEADER = "age,city,smokes,score,species\n"
ROWS = [
    "30,Bonn,yes,1.5,cat",
    "40,Köln,no,,dog",
    ",Bonn,yes,2.5,cat",
    "50,Aachen,no,3.5,dog",
    "20,,no,0.5,cat",
    "10,Bonn,yes,1.0,dog",
]
COLUMNS = (Number("age"), Category("city"), Boolean("smokes"), Number("score"))


def write(tmp_path, rows=ROWS, header=HEADER, name="data.csv"):
    path = tmp_path / name
    text = header + "\n".join(rows) + "\n"
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return str(path)


def whole(data):
    """All rows as the training split, encoded."""
    return data.load().train.arrays()


@pytest.fixture
def path(tmp_path):
    return write(tmp_path)


def test_features_and_labels(path):
    data = Table(path, "species", test=0, validation=0)
    data.check()
    columns = whole(data)
    assert columns["features"].dtype == np.float32 and columns["label"].dtype == np.int32
    expected = [  # age (mean 30), its indicator, Aachen, Bonn, Köln, smokes, score (mean 1.8), its indicator
        [30, 0, 0, 1, 0, 1, 1.5, 0],
        [40, 0, 0, 0, 1, 0, 1.8, 1],
        [30, 1, 0, 1, 0, 1, 2.5, 0],
        [50, 0, 1, 0, 0, 0, 3.5, 0],
        [20, 0, 0, 0, 0, 0, 0.5, 0],
        [10, 0, 0, 1, 0, 1, 1.0, 0],
    ]
    np.testing.assert_allclose(columns["features"], expected, rtol=1e-6)
    assert columns["label"].tolist() == [0, 1, 0, 1, 0, 1]


def test_fit_fills_in_what_training_decides(path):
    data = Table(path, "species", test=0, validation=0)
    fitted = data.fit(data.load().train)
    assert fitted.columns == (
        Number("age", mean=30.0, indicator=True),
        Category("city", values=("Aachen", "Bonn", "Köln")),
        Boolean("smokes", mean=0.5, indicator=False),
        Number("score", mean=1.8, indicator=True),
    )
    assert (fitted.target_type, fitted.class_names) == ("class", ("cat", "dog"))
    assert fitted.feature_names[:3] == ("age", "age missing", "city=Aachen")
    assert len(fitted.feature_names) == whole(data)["features"].shape[1]
    assert hash(fitted) != hash(data)


def described(data):
    train = data.load().train
    return {column.pop("column"): tuple(column.values()) for column in data.fit(train).inferred(train)}


def test_what_is_inferred_of_every_column_is_described(tmp_path, path):
    assert described(Table(path, "species", test=0, validation=0, ignore=("score",))) == {
        "age": ("number", "5", "1", "10 to 50"),
        "city": ("category, 3 features", "3", "1", "Aachen, Bonn, Köln"),
        "smokes": ("boolean", "2", "0", "no, yes"),
        "species": ("target, 2 classes", "2", "0", "cat (3), dog (3)"),
        "score": ("left out: in ignore", "", "", ""),
    }
    rows = [f"{i},c{i % 8},{i / 2}" for i in range(40)]
    indexed = write(tmp_path, rows, ",name,y\n", "indexed.csv")
    assert described(Table(indexed, "y", test=0, validation=0)) == {
        "name": ("category, 8 features", "8", "0", "c0, c1, c2, c3, and 4 more"),
        "y": ("target, a number", "40", "0", "0 to 19.5"),
        "(no name)": ("left out: the index of the rows", "", "", ""),
    }
    chosen = described(Table(path, "species", columns=(Number("age"),), test=0))
    assert chosen["city"] == ("left out: not in columns", "", "", "")


@pytest.mark.parametrize("first", [0, 1])
def test_a_column_that_numbers_the_rows_is_told(tmp_path, first):
    """Such as the index that pandas wrote under a name; it may still be a time, and so an input."""
    path = write(tmp_path, [f"{i + first},{i % 7},{'ab'[i % 2]}" for i in range(40)], "patient,x,y\n")
    reason = make_feed(Table(path, "y").load().train).reason
    assert reason.endswith("; patient numbers the rows, and is an input unless data.ignore lists it")
    for fields in ({"ignore": ("patient",)}, {"columns": (Number("patient"), Number("x"))}):
        assert "numbers" not in make_feed(Table(path, "y", **fields).load().train).reason
    other = write(tmp_path, [f"{i + 2},{'ab'[i % 2]}" for i in range(40)], "x,y\n", "other.csv")
    assert "numbers" not in make_feed(Table(other, "y").load().train).reason


def test_only_the_training_split_decides(tmp_path):
    """Values of test rows do not affect means, categories or indicators."""
    train = write(tmp_path, ["1,a,cat", "3,b,dog"], "x,c,y\n")
    test = write(tmp_path, ["100,z,cat", ",a,dog"], "x,c,y\n", "test.csv")
    splits = Table(train, "y", test_path=test, validation=0).load()
    np.testing.assert_array_equal(splits.test.arrays()["features"], [[100, 0, 0], [2, 1, 0]])


@pytest.mark.usefixtures("nothing_misspelled")
def test_fields_survive_a_split_and_a_fit_again(path):
    data = Table(path, "species", test=2, validation=0)
    splits = data.load()
    fitted = data.fit(splits.train)
    again = fitted.load()
    for ours, theirs in zip(splits, again, strict=True):
        if ours is not None:
            np.testing.assert_array_equal(ours.arrays()["features"], theirs.arrays()["features"])
    encoded = fitted.encode(splits.test.rows.table.to_pylist())
    np.testing.assert_array_equal(encoded["features"], splits.test.arrays()["features"])


def test_splits_are_stratified_by_class(tmp_path):
    path = write(tmp_path, [f"{i},{'ab'[i % 4 == 0]}" for i in range(100)], "x,y\n")
    splits = Table(path, "y", test=0.2, validation=0.25).load()
    assert [np.bincount(split.arrays()["label"]).tolist() for split in splits] == [[45, 15], [15, 5], [15, 5]]


def test_regression(tmp_path, path):
    data = Table(write(tmp_path, ["1,0.5", "2,1.5", "4,2"], "x,y\n", "r.csv"), "y", test=0, validation=0)
    columns = whole(data)
    assert columns["target"].tolist() == [0.5, 1.5, 2] and columns["target"].dtype == np.float32
    assert data.fit(data.load().train).target_type == "number"
    with pytest.raises(RequestError, match=r"data.csv, row 2: the target 'score' is missing"):
        Table(path, "score", test=0, validation=0).load()


def test_numbers_as_classes(tmp_path):
    path = write(tmp_path, [f"{i},{i % 11}" for i in range(44)], "x,y\n")
    assert whole(Table(path, "y", test=0))["target"].dtype == np.float32
    data = Table(path, "y", target_type="class", test=0)
    fitted = data.fit(data.load().train)
    assert fitted.class_names == tuple(str(i) for i in range(11))  # 10 after 9


def test_a_task_says_how_numbers_are_read_as_classes(tmp_path):
    path = write(tmp_path, [f"{i},{i % 2 + 1}" for i in range(44)], "x,y\n")
    task = Classification(classes=2, input="features")
    with pytest.raises(RequestError, match="task.label='label': .* data.target_type='class' reads its target as class"):
        task.check_examples(Table(path, "y").load().train, "train")
    labelled = Table(path, "y", target_type="class").load().train
    task.check_examples(labelled, "train")
    with pytest.raises(RequestError, match="task.target='target': .* data.target_type='number'"):
        Regression(input="features").check_examples(labelled, "train")


def test_encode_for_inference(path):
    data = Table(path, "species", columns=COLUMNS, test=0, validation=0)
    fitted = data.fit(data.load().train)
    rows = [
        {"age": 30, "city": "Bonn", "smokes": True, "score": 1.5},
        {"age": None, "city": "Paris", "smokes": "no", "score": float("nan"), "more": 1},
    ]
    with pytest.raises(RequestError, match="column 'smokes' mixes types"):
        fitted.encode(rows)
    rows[1]["smokes"] = False
    expected = [[30, 0, 0, 1, 0, 1, 1.5, 0], [30, 1, 0, 0, 0, 0, 1.8, 1]]
    np.testing.assert_allclose(fitted.encode(rows)["features"], expected, rtol=1e-6)
    by_column = {name: [row[name] for row in rows] for name in ("score", "age", "city", "smokes")}
    np.testing.assert_array_equal(fitted.encode(by_column)["features"], fitted.encode(rows)["features"])
    as_text = [{"age": " 30", "city": " Bonn ", "smokes": "YES", "score": "1.5"}]
    np.testing.assert_array_equal(fitted.encode(as_text)["features"], fitted.encode(rows)["features"][:1])


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ([], "expected a list of rows"),
        ([1], "expected a list of rows"),
        ([{"age": 1, "town": "Bonn", "smokes": True, "score": 1}], "row 0 has no 'city'"),
        ({"age": [1], "city": ["Bonn"], "smokes": [True]}, "the input has no column 'score'"),
        ({"age": [1, 2], "city": ["Bonn"], "smokes": [True], "score": [1]}, "the columns of the input differ"),
        (
            {"age": ["old"], "city": ["Bonn"], "smokes": [True], "score": [1]},
            "the input, row 1, column 'age': 'old' is",
        ),
    ],
)
def test_encode_refuses(path, raw, message):
    data = Table(path, "species", columns=COLUMNS, test=0, validation=0)
    with pytest.raises(RequestError, match=f"^{message}"):
        data.fit(data.load().train).encode(raw)


def test_encode_before_fit(path):
    for data in (Table(path, "species"), Table(path, "species", columns=COLUMNS)):
        with pytest.raises(RequestError, match="is not fitted to a training split"):
            data.encode([{"age": 1}])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"target": "specie"}, r"target: .*data.csv has no column 'specie'; did you mean 'species'"),
        ({"columns": (Number("agee"),)}, r"columns: .*has no column 'agee'; did you mean 'age'"),
        ({"ignore": ("citty",)}, r"ignore: .*has no column 'citty'; did you mean 'city'"),
        ({"columns": (Number("city"),)}, r".*data.csv, row 1, column 'city': 'Bonn' is not a number"),
        ({"columns": (Boolean("age"),)}, r".*data.csv, row 1, column 'age': '30' is neither true nor false"),
        ({"ignore": ("age", "city", "smokes", "score")}, "no column is left"),
        ({"path": "data.tsv"}, r"path='data.tsv' does not exist"),
        ({"class_names": ("cat", "bird")}, r".*row 2: species 'dog' is not a class of the training split"),
    ],
)
def test_requests_that_cannot_be(path, fields, message):
    with pytest.raises(RequestError, match=message):
        Table(**{"path": path, "target": "species", "test": 0, "validation": 0} | fields).load()


@pytest.mark.parametrize(
    ("rows", "header", "message"),
    [
        (["1,2,cat", "1,cat"], "x,z,y\n", r"data.csv: .*Expected 3 columns"),
        (["1,cat"], "x,x,y\n", "two columns have the name 'x'"),
        ([], "x,y\n", "has no rows"),
        ([], "", "is empty"),
        (["1,cat", "2,"], "x,y\n", "row 2: the target 'y' is missing"),
        (["1,cat", "2,cat"], "x,y\n", "target='y': the training split has fewer than two classes"),
        (["1,cat", "inf,dog"], "x,y\n", "row 2, column 'x': inf is not a finite float32"),
        (["1,cat", "1e300,dog"], "x,y\n", "row 2, column 'x': 1e300 is not a finite float32"),
        (
            [f"{i}a,{'ab'[i % 2]}" for i in range(30)],
            "x,y\n",
            "column 'x' is text with 30 values in 30 rows; add it to",
        ),
        ([",cat", ",dog"], "x,y\n", "column 'x' has no value in the training split"),
    ],
)
def test_files_that_make_no_data_set(tmp_path, rows, header, message):
    with pytest.raises(RequestError, match=message):
        Table(write(tmp_path, rows, header), "y", test=0, validation=0).load()


def test_text_that_is_not_utf8(tmp_path):
    path = tmp_path / "data.csv"
    path.write_bytes("x,y\n1,Köln\n".encode("latin-1"))
    with pytest.raises(RequestError, match="expected a CSV in UTF-8"):
        Table(str(path), "y").load()
    (tmp_path / "data.csv.gz").write_bytes(b"x,y\n")
    with pytest.raises(RequestError, match="expected a CSV in UTF-8"):
        Table(str(path) + ".gz", "y").load()


def test_the_row_named_is_that_of_the_file(tmp_path):
    """Splits shuffle rows, but errors count them as in the file."""
    rows = [f"{i},{'ab'[i % 2]}" for i in range(50)]
    rows[36] = "many,b"
    with pytest.raises(RequestError, match="row 37, column 'x': 'many' is not a number"):
        Table(write(tmp_path, rows, "x,y\n"), "y", columns=(Number("x"),), test=0.3).load()


@pytest.mark.parametrize("test", [-1, 1.0])
def test_check(path, test):
    with pytest.raises(RequestError, match="^test="):
        Table(path, "species", test=test).check()
    with pytest.raises(RequestError, match="target_type='classes': expected one of .*; did you mean 'class'"):
        Table(path, "species", target_type="classes").check()
    with pytest.raises(RequestError, match="columns: age is listed twice"):
        Table(path, "species", columns=(Number("age"), Category("age"))).check()
    with pytest.raises(RequestError, match="columns: 'species' is the target"):
        Table(path, "species", columns=(Category("species"),)).check()
    with pytest.raises(RequestError, match="delimiter=', '"):
        Table(path, "species", delimiter=", ").check()


def test_parquet_is_read_like_csv(tmp_path, path):
    table = pa.table(
        {
            "age": pa.array([30, 40, None, 50, 20, 10]),
            "city": pa.array(["Bonn", "Köln", "Bonn", "Aachen", None, "Bonn"]).dictionary_encode(),
            "smokes": pa.array([True, False, True, False, False, True]),
            "score": pa.array([1.5, float("nan"), 2.5, 3.5, 0.5, 1.0]),
            "species": pa.array(["cat", "dog"] * 3, pa.large_string()),
        }
    )
    other = str(tmp_path / "data.parquet")
    pyarrow.parquet.write_table(table, other)
    ours, theirs = (whole(Table(p, "species", test=0, validation=0)) for p in (other, path))
    np.testing.assert_array_equal(ours["features"], theirs["features"])
    np.testing.assert_array_equal(ours["label"], theirs["label"])
    (tmp_path / "no.parquet").write_bytes(b"no parquet")
    with pytest.raises(RequestError, match="no.parquet"):
        Table(str(tmp_path / "no.parquet"), "y").load()
    pyarrow.parquet.write_table(pa.table({"d": pa.array([0], pa.date32()), "y": ["a"]}), other)
    with pytest.raises(RequestError, match="column 'd' holds date32"):
        Table(other, "y", test=0, validation=0).load()


def test_quotes_delimiters_and_a_byte_order_mark(tmp_path):
    text = '\ufeffx;"a name";y\n1;"one; two";cat\n2;"a ""b""";dog\n'
    (tmp_path / "data.csv").write_text(text)
    data = Table(str(tmp_path / "data.csv"), "y", delimiter=";", test=0, validation=0)
    fitted = data.fit(data.load().train)
    assert fitted.columns[1] == Category("a name", values=('a "b"', "one; two"))


ADULT = "age workclass fnlwgt education education_num marital_status occupation relationship race sex "
ADULT += "capital_gain capital_loss hours_per_week native_country income"


def adult(folder):
    return Table(
        path=os.path.join(folder, "adult.data.gz"),
        test_path=os.path.join(folder, "adult.test.gz"),
        target="income",
        column_names=tuple(ADULT.split()),
        missing=("?",),
        comment="|",
        target_suffix=".",
    )


def test_a_file_in_the_style_of_uci_adult(tmp_path):
    row = "39, {work}, 77516, Bachelors, 13, Single, Clerk, Own, White, Male, 2174, 0, 40, Peru, {income}"
    train = [row.format(work=w, income=i) for w, i in (("Private", "<=50K"), ("?", ">50K"), ("State", "<=50K"))]
    test = ["|1x3 Cross validator", row.format(work="Private", income=">50K."), row.format(work="?", income="<=50K.")]
    write(tmp_path, train + [""], "", "adult.data.gz")
    write(tmp_path, test, "", "adult.test.gz")
    data = adult(str(tmp_path))
    splits = dataclasses.replace(data, validation=0).load()
    assert [split and len(split) for split in splits] == [3, None, 2]
    assert splits.test.arrays()["label"].tolist() == [1, 0]
    fitted = data.fit(splits.train)
    assert fitted.class_names == ("<=50K", ">50K")
    assert fitted.columns[1] == Category("workclass", ("Private", "State"))


def test_the_real_adult():
    root = os.environ.get("ESPALIER_DATA")
    if not root:
        pytest.skip("ESPALIER_DATA names no folder of real data")
    data = adult(str(pathlib.Path(root) / "adult"))
    splits = data.load()
    assert [len(split) for split in splits] == [29305, 3256, 16281]
    assert np.bincount(splits.test.arrays()["label"]).tolist() == [12435, 3846]
    assert len(data.fit(splits.train).feature_names) == splits.train.arrays()["features"].shape[1]
