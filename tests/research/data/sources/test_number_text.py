"""Numbers as text: those that a table reads by its `decimal` and `thousands`, and those that it tells."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from research.data.sources.number_text import number_advice, plain_numbers, remedy
from research.data.sources.table_columns import Category, Number
from research.data.sources.tables import Table
from research.errors import RequestError

ROWS = range(60)


def write(tmp_path, cell, target, delimiter=","):
    path = tmp_path / "data.csv"
    rows = [f'"{cell(i)}"{delimiter}"{target(i)}"\n' for i in ROWS]
    path.write_text(f"x{delimiter}y\n" + "".join(rows))
    return str(path)


@pytest.mark.parametrize(
    ("word", "advice"),
    [
        ("1.5", ""),
        ("-5e3", ""),
        ("+5", ""),
        ("0,5", "set decimal=','"),
        ("-12,34", "set decimal=','"),
        ("1,000", "set thousands=',' (or decimal=',')"),
        ("1,000,000", "set thousands=','"),
        ("1,234.5", "set thousands=','"),
        ("1.234,5", "set decimal=',' and thousands='.'"),
        ("1.000.000", "set thousands='.'"),
        ("1\u00a0000", "set thousands=' '"),
        ("1'000", 'set thousands="\'"'),
        ("5%", "write 5 instead"),
        ("$ 5", "write 5 instead"),
        ("\u22125", "write -5 instead"),
        ("a,b", None),
        ("1.2.3", None),
        ("12:30", None),
        ("3+", None),
        ("1,2,3", None),
        ("", None),
    ],
)
def test_every_notation_has_its_remedy(word, advice):
    assert remedy(word) == advice


def test_advice_is_for_columns_of_numbers():
    assert number_advice(["1", "1,5", "much"]) == "holds numbers such as '1,5': set decimal=','"
    assert number_advice([*map(str, range(10)), "unknown"]) == "holds numbers and 'unknown': add 'unknown' to missing"
    for words in (["0", "1", "2", "3+"], ["a", "b", "1,5"], ["5%", "low"], ["1", "2"], []):
        assert number_advice(words) is None


def test_numbers_are_rewritten_where_they_are_numbers():
    texts = pa.array(["1.234,5", "-1.234", "7", "a,b", "1,5e3", None, "1,2,3", ",5", "12.34"])
    assert plain_numbers(texts, ",", ".").to_pylist() == [
        *("1234.5", "-1234", "7", "a,b", "1.5e3", None, "1,2,3", ".5", "12.34")
    ]
    assert plain_numbers(pa.array(["1,234.5", "12,34"]), ".", ",").to_pylist() == ["1234.5", "12,34"]
    assert plain_numbers(pa.array(["1 234", "1\u202f234", "7 8"]), ".", " ").to_pylist() == ["1234", "1234", "7 8"]


@pytest.mark.parametrize(
    ("cell", "fields"),
    [
        ("{i},5", {"decimal": ","}),
        ("{i},000", {"thousands": ","}),
        ("1.{i:03},5", {"decimal": ",", "thousands": "."}),
        ("1 {i:03}", {"thousands": " "}),
        ("{i}%", None),
        ("€{i}", None),
    ],
)
def test_numbers_in_another_notation_are_told_or_read(tmp_path, cell, fields):
    """Few distinct values would otherwise be categories, as would a target."""
    path = write(tmp_path, lambda i: cell.format(i=i % 7), lambda i: "ab"[i % 2])
    with pytest.raises(RequestError, match=r"^column 'x' holds numbers such as .*: (set|write) .*Category\('x'\)"):
        Table(path, "y").load()
    with pytest.raises(RequestError, match=r"row \d+, column 'x': .* is not a number; (set|write) "):
        Table(path, "y", columns=(Number("x"),)).load()
    assert len(Table(path, "y", columns=(Category("x"),)).load().train.arrays()["features"][0]) == 7
    target = write(tmp_path, lambda i: i, lambda i: cell.format(i=i % 7))
    with pytest.raises(RequestError, match=r"^the target 'y' holds numbers such as .*, or set target_type='class'"):
        Table(target, "y").load()
    assert "label" in Table(target, "y", target_type="class").load().train.arrays()
    if fields:
        values = Table(target, "y", test=0, validation=0, **fields).load().train.arrays()["target"]
        assert values[1] - values[0] == (1000 if cell == "{i},000" else 1)
        path = write(tmp_path, lambda i: cell.format(i=i % 7), lambda i: "ab"[i % 2])
        data = Table(path, "y", test=0, validation=0, **fields)
        fitted = data.fit(data.load().train)
        assert fitted.feature_names == ("x",)
        np.testing.assert_array_equal(fitted.encode({"x": [cell.format(i=1)]})["features"][0, 0], values[1])


def test_a_point_in_a_file_of_decimal_commas_is_no_decimal_point(tmp_path):
    path = write(tmp_path, lambda i: "1.234" if i == 8 else f"{i},5", lambda i: "ab"[i % 2])
    with pytest.raises(RequestError, match=r"row 9, column 'x': '1.234' has a point, but decimal=','; set thousands="):
        Table(path, "y", decimal=",", test=0, validation=0).load()
    data = Table(path, "y", decimal=",", thousands=".", test=0, validation=0)
    assert data.load().train.arrays()["features"][8] == 1234
    with pytest.raises(RequestError, match="thousands=',' is the decimal point"):
        Table(path, "y", decimal=",", thousands=",").check()


def test_text_in_parquet_follows_the_same_rules(tmp_path):
    path = str(tmp_path / "data.parquet")
    pyarrow.parquet.write_table(pa.table({"x": [f"{i % 7},5" for i in ROWS], "y": ["a", "b"] * 30}), path)
    with pytest.raises(RequestError, match="column 'x' holds numbers such as '0,5'"):
        Table(path, "y").load()
    assert Table(path, "y", decimal=",", test=0, validation=0).load().train.arrays()["features"][1] == 1.5


def test_a_word_among_numbers_is_told(tmp_path):
    path = write(tmp_path, lambda i: "unknown" if i % 5 == 0 else i % 20, lambda i: "ab"[i % 2])
    with pytest.raises(RequestError, match="column 'x' holds numbers and 'unknown': add 'unknown' to missing"):
        Table(path, "y").load()
    data = Table(path, "y", missing=("", "unknown"))
    assert data.fit(data.load().train).feature_names == ("x", "x missing")
