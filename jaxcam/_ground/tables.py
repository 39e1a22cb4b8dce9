"""Tables that users bring: CSV files and lists of names, read right or refused by name and line."""

import collections
import csv
import io
from collections.abc import Mapping, Sequence

from jaxcam._ground.errors import ArgumentError

MAX_BYTES = 2**26  # of a table

Row = Mapping[str, str]


def text(content: bytes, table: str) -> str:
    """The text of a file in UTF-8, without the mark that some programs put before it.

    Raises:
        ArgumentError: other bytes; `table` is what the error is about.
    """
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        got = f"bytes that are no UTF-8 (at {error.start})"
        raise ArgumentError(table, got, "text in UTF-8") from error


def rows(content: bytes, table: str) -> list[Row]:
    """The rows of a CSV file by its first line's columns.

    Raises:
        ArgumentError: no UTF-8, no CSV, columns of the same name, or a row that is too short or too
            long; the line is named.
    """
    reader = csv.reader(io.StringIO(text(content, table), newline=""), strict=True)
    found: list[Row] = []
    columns: list[str] = []
    try:
        for row in reader:
            values = [value.strip() for value in row]
            if not any(values):
                continue
            if not columns:
                columns = _checked(values, table)
            elif len(values) != len(columns):
                got = f"{len(values)} fields in line {reader.line_num}"
                raise ArgumentError(table, got, f"{len(columns)}: {', '.join(columns)}")
            else:
                found.append(dict(zip(columns, values, strict=True)))
    except csv.Error as error:
        got = f"line {reader.line_num}, which is no CSV ({error})"
        raise ArgumentError(table, got, "a CSV file") from error
    return found


def _checked(columns: list[str], table: str) -> list[str]:
    if len(set(columns)) < len(columns):
        raise ArgumentError(table, f"the columns {', '.join(columns)}", "each name once")
    return columns


def need(table_rows: Sequence[Row], table: str, columns: Sequence[str], expected: str) -> None:
    """ArgumentError unless the rows, if there are any, have these columns."""
    if table_rows and not set(columns) <= set(table_rows[0]):
        raise ArgumentError(table, f"the columns {', '.join(table_rows[0])}", expected)


def in_order(table_rows: Sequence[Row], table: str) -> list[Row]:
    """The rows by their column `index`, as they stand if there is none.

    Raises:
        ArgumentError: indices that are not 0 to the number of rows, each once.
    """
    if not table_rows or "index" not in table_rows[0]:
        return list(table_rows)
    places: dict[int, Row] = {}
    for row in table_rows:
        index = row["index"]
        expected = f"0 to {len(table_rows) - 1}, each once"
        if not (index.isascii() and index.isdecimal() and int(index) < len(table_rows)):
            raise ArgumentError(table, f"the index {index[:40]!r}", expected)
        if int(index) in places:
            raise ArgumentError(table, f"the index {index} twice", expected)
        places[int(index)] = row
    return [places[index] for index in range(len(table_rows))]


def unique(names: Sequence[str], table: str, column: str) -> None:
    """ArgumentError where a name stands twice, or none stands."""
    if "" in names:
        got = f"no {column} in row {names.index('') + 1}"
        raise ArgumentError(table, got, f"a {column} in each row")
    (most,) = collections.Counter(names).most_common(1) or [("", 0)]
    if most[1] > 1:
        raise ArgumentError(table, f"{column} {most[0]!r} {most[1]} times", "each once")
