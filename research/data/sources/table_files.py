"""Reads CSV, TSV and Parquet files as Arrow tables under one set of rules, for `Table` and `LabeledText`.

Names of columns are unique and hold blanks instead of line breaks.  Text is `string`, whatever text type a Parquet file
has.  The row index that pandas writes beside the data is told from the data.
"""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Sequence

import pyarrow as pa
from etils import epath
from pyarrow import csv as arrow_csv
from pyarrow import parquet

from research.console import counted
from research.data.spec import check_file
from research.errors import RequestError, nearest, require

_NAMELESS = re.compile(r"(Unnamed: \d+.*)?")  # an empty cell of a header, also as pandas calls it once it has read it
_INDEX = re.compile(r"__index_level_\d+__|Unnamed: 0(\.\d+)*")
_LONGEST_ROW = 1 << 24  # bytes
_DELIMITERS = (";", "\t", "|", " ", ",")


def is_table(file: epath.Path) -> bool:
    """Returns True if the name of a file is that of a table, not of JSON lines or plain text.

    >>> [is_table(epath.Path(name)) for name in ("a.csv", "a.TSV.gz", "a.parquet", "a.jsonl")]
    [True, True, True, False]
    """
    return _suffix(file) in (".csv", ".tsv", ".parquet")


def read_table(
    path: str,
    *,
    column_names: Sequence[str] | None = None,
    delimiter: str = ",",
    comment: str | None = None,
    quoted: bool = True,
) -> pa.Table:
    """Reads a .parquet file, or any other file (also .gz) as a CSV; columns of a CSV are text.

    Args:
      column_names, comment, quoted: how a CSV is written; as in `Table`.
      delimiter: the delimiter of a CSV.  A comma stands for a tab in a .tsv file whose header has tabs.

    Raises:
      RequestError: the file cannot be read, has no rows, or has two columns of one name; names the file.
    """
    file = epath.Path(path)
    check_file(file)
    if file.suffix.lower() == ".parquet":
        table = _read_parquet(file)
    else:
        table = _read_csv(file, column_names, delimiter, comment, quoted)
    require(table.num_rows > 0, f"{path} has no rows")
    return table


def row_indices(table: pa.Table) -> set[str]:
    """Returns the columns that number or name the rows, as pandas writes them, and unnamed columns without values.

    In a CSV, these are a first column without a name and "Unnamed: 0"; in Parquet, the columns that the file's
    metadata call the index.  A CSV has an unnamed column without values if its lines end in a delimiter.
    """
    names = table.column_names
    unnamed = {name for name in names if _NAMELESS.fullmatch(name)}
    found = {name for name in names if _INDEX.fullmatch(name)} | (unnamed & set(names[:1]))
    found |= {name for name in unnamed if {*table[name].unique().to_pylist()} <= {None, ""}}
    return found | (_pandas_index(table) & set(names))


def check_delimiter(delimiter: str) -> None:
    """Raises RequestError unless the delimiter is one character."""
    require(len(delimiter) == 1, f"delimiter={delimiter!r}: expected one character")


def check_columns(table: pa.Table, path: str, field: str, names: Sequence[str]) -> None:
    """Raises RequestError unless the table has all columns that `field` names."""
    there = table.column_names
    for name in names:
        if name not in there:
            hint = f"{nearest(name, there)}{other_delimiter(there)}{headless(there)}"
            raise RequestError(f"{field}: {path} has no column {name!r}; {hint}")


def headless(names: list[str]) -> str:
    """Returns the end of an error about a header that looks like a row of data; "" for other headers."""
    return "; if the file has no header, list the names in column_names" if any(map(_is_number, names)) else ""


def other_delimiter(names: list[str]) -> str:
    """Returns the end of an error about a header of one cell that another delimiter would divide; otherwise ""."""
    found = [delimiter for delimiter in _DELIMITERS if len(names) == 1 and delimiter in names[0]]
    return f"; the header is one cell, {names[0]!r}: is it delimiter={found[0]!r}?" if found else ""


def _suffix(file: epath.Path) -> str:
    """The suffix in lower case, that before .gz if there is one."""
    return epath.Path(file.name.lower().removesuffix(".gz")).suffix


def _pandas_index(table: pa.Table) -> set[str]:
    metadata = (table.schema.metadata or {}).get(b"pandas")
    try:
        index = json.loads(metadata)["index_columns"] if metadata else []
    except (ValueError, KeyError, TypeError):  # metadata that pandas did not write
        return set()
    return {name for name in index if isinstance(name, str)}  # a dict describes an index that is not stored


def _read_parquet(file: epath.Path) -> pa.Table:
    try:
        table = parquet.read_table(pa.BufferReader(file.read_bytes()))
        table.validate(full=True)  # text in UTF-8
    except (pa.ArrowException, OSError) as error:
        raise RequestError(f"{file}: {str(error).splitlines()[0]}") from None
    columns = [_plain(column) for column in table.columns]
    return pa.table(columns, _names(file, table.column_names)).replace_schema_metadata(table.schema.metadata)


def _names(file: epath.Path, written: Sequence[str]) -> list[str]:
    """Returns names without line breaks, and refuses two of one name."""
    names = [re.sub(r"\s*[\r\n]\s*", " ", name).strip() for name in written]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise RequestError(f"{file}: two columns have the name {', '.join(map(repr, twice))}{headless(names)}")
    return names


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Converts dictionaries to their values, and every type of text to `string`; other types stay as they are."""
    if pa.types.is_dictionary(column.type):
        chunks = [_plain_array(chunk.dictionary).take(chunk.indices) for chunk in column.chunks]
        return pa.chunked_array(chunks, None if chunks else pa.string())
    return pa.chunked_array([_plain_array(chunk) for chunk in column.chunks]) if column.num_chunks else column


def _plain_array(values: pa.Array) -> pa.Array:
    if pa.types.is_large_string(values.type) or pa.types.is_string_view(values.type):
        return values.cast(pa.string())
    return values.cast(pa.binary()) if pa.types.is_binary_view(values.type) else values  # Arrow takes no rows of views


def _read_csv(
    file: epath.Path, column_names: Sequence[str] | None, delimiter: str, comment: str | None, quoted: bool
) -> pa.Table:
    """Reads every cell as text, the header like any other row."""
    text = _lines(file, comment)
    require(bool(text.strip()), f"{file} is empty; expected a header and rows")
    if (
        delimiter == ","
        and file.name.lower().removesuffix(".gz").endswith(".tsv")
        and "\t" in text.lstrip().split("\n")[0]
    ):
        delimiter = "\t"
    if quoted:
        _check_quotes(file, text, delimiter)
    if delimiter == " ":
        text = _single_blanks(text, quoted)
    table, bad = _parse(file, text, delimiter, quoted)
    first = [column[0].as_py() for column in table.columns]
    names = _names(file, column_names or first)
    for row in bad[:1]:
        raise RequestError(
            f"{file}: Expected {counted(len(first), 'column')}, as in its first row, got {row.actual_columns} in "
            f"{row.text[:60]!r}{other_delimiter(names)}"
        )
    if column_names is None:
        return table.slice(1).rename_columns(names)
    if len(names) != len(first):
        listed, there = counted(len(names), "name"), counted(len(first), "value")
        raise RequestError(f"{file}: column_names lists {listed}, but its first row has {there}")
    if [name.lower() for name in names] == [cell.strip().lower() for cell in first]:
        raise RequestError(f"{file}: its first row repeats column_names; leave column_names out, the file has a header")
    return table.rename_columns(names)


def _lines(file: epath.Path, comment: str | None) -> str:
    """Returns the text of a file whose lines all end in a line feed, with empty lines in place of comments."""
    try:
        content = file.read_bytes()
        text = (gzip.decompress(content) if file.suffix.lower() == ".gz" else content).decode("utf-8-sig")
    except (UnicodeDecodeError, OSError, EOFError, zlib.error) as error:
        raise RequestError(f"{file}: expected a CSV in UTF-8 ({error})") from None
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if comment:
        text = "\n".join("" if line.startswith(comment) else line for line in text.split("\n"))
    return text


def _check_quotes(file: epath.Path, text: str, delimiter: str) -> None:
    """Refuses a quote that opens a value and is not closed at its end: it would take in the rows that follow.

    Between tabs, a quote that another one closes some rows later is refused, too: such files are mostly written without
    quotes around values.
    """
    edge = re.escape(delimiter) + "\n"
    quoted = re.compile(rf'(?:\A|(?<=[{edge}]))"[^"]*+(?:""[^"]*+)*+("[ \t]*(?=[{edge}]|\Z))?')
    for match in quoted.finditer(text):
        over_rows = delimiter == "\t" and "\t" in match[0] and "\n" in match[0]
        if match[1] is None or over_rows:
            line, value = text.count("\n", 0, match.start()) + 1, match[0].split("\n")[0]
            found = "that ends in a later row" if match[1] else "that does not end the value"
            raise RequestError(
                f"{file}, line {line}: {value[:40]} begins with a quote {found}; close it, and write quotes inside of "
                'a quoted value twice (""); or set quoted=False if quotes are part of the values'
            )


def _single_blanks(text: str, quoted: bool) -> str:
    """Replaces runs of blanks and tabs by one blank, except in quotes, and removes them at the ends of lines."""
    text = re.sub(r'("[^"]*")|[ \t]+' if quoted else r"()[ \t]+", lambda match: match[1] or " ", text)
    return re.sub(r"^ | $", "", text, flags=re.MULTILINE)


def _parse(file: epath.Path, text: str, delimiter: str, quoted: bool) -> tuple[pa.Table, list[arrow_csv.InvalidRow]]:
    """Returns all rows as text, and the rows whose number of values is not that of the first."""
    bad: list[arrow_csv.InvalidRow] = []

    def skip(row: arrow_csv.InvalidRow) -> str:
        bad.append(row)
        return "skip"

    content = pa.py_buffer(text.encode())
    cells = arrow_csv.ReadOptions(autogenerate_column_names=True, block_size=_LONGEST_ROW)
    rows = arrow_csv.ParseOptions(
        delimiter=delimiter,
        quote_char='"' if quoted else False,
        newlines_in_values=quoted,
        invalid_row_handler=skip,
    )
    try:
        names = arrow_csv.open_csv(pa.BufferReader(content), cells, rows).schema.names
        as_text = arrow_csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()))
        return arrow_csv.read_csv(pa.BufferReader(content), cells, rows, as_text), bad
    except pa.ArrowInvalid as error:
        raise RequestError(f"{file}: {str(error).splitlines()[0]}") from None


def _is_number(cell: str) -> bool:
    try:
        return float(cell) is not None
    except ValueError:
        return False
