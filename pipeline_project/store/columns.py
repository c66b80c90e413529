"""Many rows in or out at once, as columns: arrays out, COPY in, never a row at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import psycopg
import pyarrow as pa
import sqlalchemy as sa
from psycopg.abc import Buffer
from psycopg.adapt import Dumper, Loader
from psycopg.pq import Format

from pipeline_project.core.packing import Int64


def read(connection: sa.Connection, statement: sa.TextClause, parameters: Mapping[str, Any], types: Mapping[str, pa.DataType]) -> pa.Table:
    """The rows of a query as an Arrow table with exactly these int64 and string columns, none of them null."""
    columns = arrays(connection, statement, parameters, types)
    return pa.table({name: pa.array(values, types[name]) for name, values in columns.items()})


def arrays(
    connection: sa.Connection, statement: sa.TextClause, parameters: Mapping[str, Any], types: Mapping[str, pa.DataType]
) -> dict[str, Any]:
    """The same as int64[n] and lists of str, for what becomes rows for people: Arrow would make and unmake each string once more.

    Each column travels as one binary array, which NumPy reads as it is: a million rows a second, a tenth of that row by row.
    """
    wanted = ", ".join(f"coalesce(array_agg({name}::{_TYPES[kind]}), '{{}}')" for name, kind in types.items())
    query = str(statement.compile(dialect=connection.dialect))
    with _driver(connection, query) as driver, driver.cursor(binary=True) as cursor:
        cursor.adapters.register_loader(_BIGINT_ARRAY, _Int64Array)
        row = cursor.execute(f"select {wanted} from ({query}) q".encode(), parameters).fetchone()  # noqa: S608  # our own .sql, our own names
    assert row is not None
    return dict(zip(types, row, strict=True))


_BIGINT_ARRAY = 1016  # pg_type.oid of bigint[], the same in every PostgreSQL
_TYPES = {pa.int64(): "bigint", pa.string(): "text"}


_BIGINT = 20  # pg_type.oid of bigint
_HEADER = np.dtype([("dimensions", ">i4"), ("nulls", ">i4"), ("of", ">i4"), ("length", ">i4"), ("first", ">i4")])
_ELEMENT = np.dtype([("length", ">i4"), ("value", ">i8")])


@dataclass(frozen=True, slots=True)
class Bigints:
    """int64[n] as a parameter of type bigint[]. As a list it would be dumped element by element, a third of a commit's time."""

    values: Int64

    @classmethod
    def of(cls, ids: Sequence[int]) -> Self:
        return cls(np.array(ids, np.int64))


class _BigintsDumper(Dumper):
    """What _Int64Array reads, written."""

    format = Format.BINARY
    oid = _BIGINT_ARRAY

    def dump(self, obj: Bigints) -> bytes:
        elements = np.empty(len(obj.values), _ELEMENT)
        elements["length"], elements["value"] = 8, obj.values
        return np.array([(1, 0, _BIGINT, len(elements), 1)], _HEADER).tobytes() + elements.tobytes()


psycopg.adapters.register_dumper(Bigints, _BigintsDumper)


class _Int64Array(Loader):
    """bigint[] as int64[n]. On the wire: 20 bytes of header (12 of an empty one), then of each element length and value, big endian."""

    format = Format.BINARY

    def load(self, data: Buffer) -> Int64:
        elements = np.frombuffer(data, _ELEMENT, offset=min(20, len(data)))
        assert (elements["length"] == 8).all(), "a null where none can be"
        return elements["value"].astype(np.int64)


def write(connection: sa.Connection, table: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Append rows to a (staging) table by COPY."""
    statement = f"copy {table} ({', '.join(columns)}) from stdin"
    with _driver(connection, statement) as driver, driver.cursor() as cursor, cursor.copy(statement.encode()) as copy:
        for row in rows:
            copy.write_row(row)


def integers(table: pa.Table, name: str) -> Int64:
    """A column without nulls as int64[n]."""
    return np.ascontiguousarray(table.column(name).combine_chunks().to_numpy(), np.int64)  # whole: chunks would import pandas


def strings(table: pa.Table, name: str) -> pa.StringArray:
    """A column as one contiguous array of strings."""
    return table.column(name).combine_chunks()


@contextmanager
def _driver(connection: sa.Connection, statement: str) -> Iterator[psycopg.Connection[Any]]:
    """The driver's own connection. Its failures come out as SQLAlchemy's, and so are repeated and explained like any other's."""
    driver = connection.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)
    try:
        yield driver
    except psycopg.Error as failure:
        if driver.closed:
            connection.invalidate(failure)
        told = sa.exc.DBAPIError.instance(
            statement, None, failure, psycopg.Error, connection_invalidated=driver.closed, dialect=connection.dialect
        )
        raise told from failure
