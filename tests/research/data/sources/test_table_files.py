"""Table files as other programs write them: pandas's index, line ends, quotes, delimiters, headers, Arrow's types."""

import gzip
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from research.data.sources.labeled_text import LabeledText
from research.data.sources.table_columns import Number
from research.data.sources.table_files import read_table
from research.data.sources.tables import Table
from research.errors import RequestError

ROWS = range(30)


def write(tmp_path, header, row, name="data.csv", end="\n"):
    """Writes a file of 30 rows; {i} is the number of the row, {c} its class."""
    path = tmp_path / name
    lines = [header, *(row.format(i=i, c="ab"[i % 2]) for i in ROWS)]
    path.write_bytes("".join(line + end for line in lines if line is not None).encode())
    return str(path)


def features(path, **fields):
    """Returns the names of the features, and the number of rows."""
    data = Table(path, "y", test=0, validation=0, **fields)
    train = data.load().train
    return data.fit(train).feature_names, len(train)


def refused(path, **fields):
    with pytest.raises(RequestError) as error:
        features(path, **fields)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("header", "row"),
    [
        (",x,y", "{i},{i}.5,{c}"),
        ('"","x","y"', '"{i}",{i}.5,"{c}"'),
        ("Unnamed: 0,x,y", "{i},{i}.5,{c}"),
        ("x,Unnamed: 0,y", "{i}.5,{i},{c}"),
        (",Unnamed: 0,Unnamed: 0.1,x,y", "{i},{i},{i},{i}.5,{c}"),
        ("x,y,", "{i}.5,{c},"),  # lines that end in a delimiter
    ],
)
def test_the_row_index_of_a_csv_is_no_feature(tmp_path, header, row):
    assert features(write(tmp_path, header, row)) == (("x",), 30)


def test_a_column_is_an_input_if_the_user_lists_it(tmp_path):
    path = write(tmp_path, "Unnamed: 0,x,y", "{i},{i}.5,{c}")
    assert features(path, columns=(Number("Unnamed: 0"),)) == (("Unnamed: 0",), 30)


def test_a_column_of_values_without_a_name_is_refused(tmp_path):
    path = write(tmp_path, "x,,y", "{i}.5,{i},{c}")
    assert refused(path).endswith("a column has no name; name it in the header, or add '' to ignore")
    assert features(path, ignore=("",)) == (("x",), 30)


@pytest.mark.parametrize("index", ["__index_level_0__", "patient"])
def test_the_row_index_of_a_parquet_file_is_no_feature(tmp_path, index):
    columns = {"x": [i / 2 for i in ROWS], "y": ["ab"[i % 2] for i in ROWS], index: list(ROWS)}
    path = str(tmp_path / "data.parquet")
    metadata = {b"pandas": json.dumps({"index_columns": [index], "columns": []}).encode()}
    pyarrow.parquet.write_table(pa.table(columns).replace_schema_metadata(metadata), path)
    assert features(path) == (("x",), 30)
    described = {b"pandas": json.dumps({"index_columns": [{"kind": "range", "start": 0}]}).encode()}
    pyarrow.parquet.write_table(pa.table(columns).select(["x", "y"]).replace_schema_metadata(described), path)
    assert features(path) == (("x",), 30)


def test_a_quoted_header_with_a_line_break_is_one_header(tmp_path):
    path = write(tmp_path, '"odor\n (as smelt)",y', "n{c},{c}")
    assert features(path) == (("odor (as smelt)=na", "odor (as smelt)=nb"), 30)
    path = write(tmp_path, '"price\n(EUR)",y', "{i}.5,{c}")
    assert features(path) == (("price (EUR)",), 30)


@pytest.mark.parametrize("end", ["\r", "\r\n", "\n", "\n\n"])
def test_every_kind_of_line_end(tmp_path, end):
    path = write(tmp_path, "x,k,y", "{i}.5,k{c},{c}", end=end)
    assert features(path) == (("x", "k=ka", "k=kb"), 30)
    path = write(tmp_path, "# made by hand" + end + "x,y", "{i}.5,{c}", end=end)
    assert features(path, comment="#") == (("x",), 30)


@pytest.mark.parametrize("rows", [30, 20_000])
def test_a_quote_without_its_end_names_the_line(tmp_path, rows):
    path = tmp_path / "data.csv"
    path.write_text('"x,y\n' + "1,a\n2,b\n" * (rows // 2))
    assert f'{path}, line 1: "x,y begins with a quote' in refused(str(path))
    path.write_text("x,y\n" + "1,a\n2,b\n" * (rows // 2) + '3,"a\n4,b\n')
    assert f'{path}, line {rows + 2}: "a begins with a quote' in refused(str(path))
    path.write_text('x,y\n1,"a\n2,"b\n' + "1,a\n2,b\n" * (rows // 2))  # the second quote would close the first
    assert f'{path}, line 2: "a begins with a quote' in refused(str(path))


def test_quotes_that_are_right_are_read(tmp_path):
    path = tmp_path / "data.csv"
    path.write_text('x,y\n5" pipe,"a, ""b"""\n"5\npipes"  ,\'c\'\n"",d\n')
    assert read_table(str(path)).to_pydict() == {
        "x": ['5" pipe', "5\npipes  ", ""],
        "y": ['a, "b"', "'c'", "d"],
    }


def test_a_long_value_is_read(tmp_path):
    path = tmp_path / "data.csv"
    path.write_text("x,text,y\n" + f'1,"{"a" * 3_000_000}",a\n2,b,b\n')
    assert features(str(path), ignore=("text",)) == (("x",), 2)


@pytest.mark.parametrize(
    ("header", "row", "delimiter"),
    [("x y", "{i}.5 {c}", " "), ("x;y", "{i}.5;{c}", ";"), ("x\ty", "{i}.5\t{c}", "\t"), ("x|y", "{i}|{c}", "|")],
)
def test_another_delimiter_is_suggested(tmp_path, header, row, delimiter):
    path = write(tmp_path, header, row)
    header = f"x{delimiter}y"
    assert refused(path).endswith(f"the header is one cell, {header!r}: is it delimiter={delimiter!r}?")
    assert features(path, delimiter=delimiter) == (("x",), 30)


@pytest.mark.parametrize("name", ["data.tsv", "data.TSV.gz"])
def test_tabs_divide_a_file_that_is_named_after_them(tmp_path, name):
    path = write(tmp_path, "x\tname\ty", "{i}.5\tn, {c}\t{c}", name)
    if name.endswith(".gz"):
        (tmp_path / name).write_bytes(gzip.compress((tmp_path / name).read_bytes()))
    assert features(path) == (("x", "name=n, a", "name=n, b"), 30)


@pytest.mark.parametrize(("header", "row", "delimiter"), [("x,y", "{i}.5,{c}", ","), ("x;y", "{i}.5;{c}", ";")])
def test_other_delimiters_in_a_file_named_after_tabs(tmp_path, header, row, delimiter):
    assert features(write(tmp_path, header, row, "data.tsv"), delimiter=delimiter) == (("x",), 30)


def test_columns_aligned_by_blanks(tmp_path):
    path = write(tmp_path, "  x    name  y", " {i}.5 \t 'n {c}'   {c}  ".replace("'", '"'))
    assert features(path, delimiter=" ") == (("x", "name=n a", "name=n b"), 30)


def test_a_file_without_a_header_is_told(tmp_path):
    path = write(tmp_path, None, "{i}.5,{i},{c}")
    says = "if the file has no header, list the names in column_names"
    assert refused(path).endswith(says)
    assert refused(write(tmp_path, None, "5.0,5.0,{c}", "other.csv")).endswith(says)
    names = ("x", "z", "y")
    assert features(path, column_names=names) == (("x", "z"), 30)
    assert "column_names lists 2 names, but its first row has 3 values" in refused(path, column_names=("x", "y"))
    path = write(tmp_path, "X,z, y", "{i}.5,{i},{c}")
    assert "leave column_names out, the file has a header" in refused(path, column_names=names)


def test_rows_of_another_length_are_told(tmp_path):
    path = tmp_path / "data.csv"
    path.write_text("x,y\n1,a\n2\n3,b\n")
    assert refused(str(path)) == f"{path}: Expected 2 columns, as in its first row, got 1 in '2'"


@pytest.mark.parametrize(
    "as_written",
    [
        lambda k: k.cast(pa.string_view()),
        lambda k: k.cast(pa.large_string()),
        lambda k: k.dictionary_encode(),
    ],
    ids=["view", "large", "dictionary"],
)
def test_every_type_of_text_is_read_alike(tmp_path, as_written):
    text = pa.array(["ab"[i % 2] for i in ROWS])
    path = str(tmp_path / "data.parquet")
    pyarrow.parquet.write_table(pa.table({"x": [i / 2 for i in ROWS], "k": as_written(text), "y": text}), path)
    assert read_table(path).schema.field("k").type == pa.string()
    assert features(path) == (("x", "k=a", "k=b"), 30)
    splits = Table(path, "y").load()
    assert [len(split) for split in splits] == [22, 2, 6]
    pyarrow.parquet.write_table(pa.table({"x": [i / 2 for i in ROWS], "y": as_written(text)}), path)
    assert np.bincount(Table(path, "y", test=0, validation=0).load().train.arrays()["label"]).tolist() == [15, 15]


def test_a_type_that_makes_no_feature_is_refused_unless_it_is_ignored(tmp_path):
    path = str(tmp_path / "data.parquet")
    views = pa.array([b"a", b"b"] * 15).cast(pa.binary_view())
    pyarrow.parquet.write_table(pa.table({"x": list(ROWS), "b": views, "y": ["a", "b"] * 15}), path)
    assert "column 'b' holds binary, expected numbers, booleans or text; add it to ignore" in refused(path)
    assert features(path, ignore=("b",)) == (("x",), 30)


def test_a_column_that_the_test_file_lacks_is_named(tmp_path):
    train, test = write(tmp_path, "x,z,y", "{i}.5,{i},{c}"), write(tmp_path, "x,y", "{i}.5,{c}", "test.csv")
    with pytest.raises(RequestError, match=r"test.csv has no column 'z'; one of: x, y"):
        Table(train, "y", test_path=test).load()


@pytest.mark.parametrize("delimiter", ["\t", " "])
def test_quotes_may_be_part_of_the_values(tmp_path, delimiter):
    path = tmp_path / "data.tsv"
    cells = [["x", "y"], ['""', "a"], ['7"', "b"], ['"', 'b"'], ['"Oh', "a"]]
    path.write_text("\n".join(delimiter.join(row) for row in cells))
    table = read_table(str(path), delimiter=delimiter, quoted=False)
    assert [list(row.values()) for row in table.to_pylist()] == cells[1:]
    with pytest.raises(
        RequestError, match="Oh.*does not end the value.* or set quoted=False if quotes are part of the"
    ):
        read_table(str(path), delimiter=delimiter)


def test_a_quote_between_tabs_that_another_row_closes_takes_in_no_rows(tmp_path):
    path = tmp_path / "data.tsv"
    path.write_text('x\ty\n"Oh\ta\nno"\tb\n')
    with pytest.raises(
        RequestError, match='line 2: "Oh\ta begins with a quote that ends in a later row; .*quoted=False'
    ):
        read_table(str(path), delimiter="\t")
    path.write_text('x\ty\n"two\nlines"\tb\n')
    assert read_table(str(path), delimiter="\t").to_pylist() == [{"x": "two\nlines", "y": "b"}]


def test_tables_and_texts_may_hold_quotes(tmp_path):
    path = tmp_path / "data.tsv"
    path.write_text("text\tlabel\n" + "".join(f'"Oh {i}\t{"pq"[i % 2]}\n' for i in range(20)))
    read = LabeledText(path=str(path), length=3, quoted=False, test=0, validation=0).load().train
    assert read.lines[3].text == '"Oh 3' and read.arrays()["tokens"][3].tolist() == [34, 79, 104]
    table = Table(str(path), "label", quoted=False, test=0, validation=0)
    assert table.fit(table.load().train).columns[0].values[:2] == ('"Oh 0', '"Oh 1')
