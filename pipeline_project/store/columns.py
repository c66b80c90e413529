"""Many rows in or out at once, as columns: COPY both ways, never a row at a time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa
import sqlalchemy as sa
from pyarrow import csv

from pipeline_project.core.packing import Int64


def read(connection: sa.Connection, statement: sa.TextClause, parameters: Mapping[str, Any], types: Mapping[str, pa.DataType]) -> pa.Table:
    """The rows of a query as an Arrow table with exactly these columns, through COPY: a million rows a second instead of a tenth."""
    query = str(statement.compile(dialect=connection.dialect))
    buffer = pa.BufferOutputStream()
    with _driver(connection).cursor() as cursor, cursor.copy(f"copy ({query}) to stdout (format csv)", parameters) as rows:
        for block in rows:
            buffer.write(block)
    if not buffer.tell():
        return pa.table({name: pa.array([], kind) for name, kind in types.items()})
    return csv.read_csv(
        pa.BufferReader(buffer.getvalue()),
        read_options=csv.ReadOptions(column_names=list(types)),
        parse_options=csv.ParseOptions(newlines_in_values=True),
        convert_options=csv.ConvertOptions(
            column_types=dict(types), null_values=[""], strings_can_be_null=True, quoted_strings_can_be_null=False
        ),
    ).combine_chunks()


def write(connection: sa.Connection, table: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Append rows to a (staging) table by COPY."""
    names = ", ".join(columns)
    with _driver(connection).cursor() as cursor, cursor.copy(f"copy {table} ({names}) from stdin") as copy:
        for row in rows:
            copy.write_row(row)


def integers(table: pa.Table, name: str) -> Int64:
    """A column without nulls as int64[n]."""
    return np.ascontiguousarray(table.column(name).to_numpy(), np.int64)


def strings(table: pa.Table, name: str) -> pa.StringArray:
    """A column as one contiguous array of strings."""
    column = table.column(name)
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], pa.string())


def _driver(connection: sa.Connection) -> psycopg.Connection[Any]:
    driver = connection.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)
    return driver
